from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.recipe import Recipe, StageKeys
from lightrag.models import HashingEmbedder, ScriptedLanguageModel

ITEM = SourceItem("a.txt", "/x/a.txt", 5, "blake3:00", metadata={"year": 1})


def keys(item: SourceItem = ITEM, *, dimension: int = 64, model: bool = False, **settings: Any) -> StageKeys:
    recipe = Recipe(
        load_settings(None, **settings),
        embedder=HashingEmbedder(dimension),
        language_model=ScriptedLanguageModel([]) if model else None,
    )
    return recipe.keys("id", item)


def changed(other: StageKeys) -> list[str]:
    return [name for name in StageKeys._fields if getattr(other, name) != getattr(keys(), name)]


@pytest.mark.parametrize(
    "settings",
    [
        {"ingest": {"parse_workers": 4, "batch_bytes": 9}},
        {"embedder": {"batch_tokens": 1}},
        {"gists": {"budget_tokens": 999}},
        {"retrieval": {"top_k": 3}},
        {"home": "/elsewhere"},
    ],
)
def test_what_does_not_matter_changes_no_key(settings: dict[str, Any]) -> None:
    assert changed(keys(**settings)) == []


def test_each_setting_changes_its_stage_and_those_behind() -> None:
    assert changed(keys(chunking={"max_tokens": 50})) == ["read", "embed", "gist"]
    assert changed(keys(dimension=32)) == ["embed", "gist"]
    assert changed(keys(gists={"tokens_per_gist": 50})) == ["gist"]
    assert changed(keys(gists={"chunks_per_gist": 3})) == ["gist"]
    assert changed(keys(model=True)) == ["gist"]


@pytest.mark.parametrize("name", ["source", "fingerprint", "title", "metadata"])
def test_everything_that_a_document_says_changes_all_keys(name: str) -> None:
    value: Any = {"year": 2} if name == "metadata" else "other"
    assert changed(keys(replace(ITEM, **{name: value}))) == ["read", "embed", "gist"]


def test_place_and_size_change_nothing() -> None:
    assert changed(keys(replace(ITEM, location="/moved/a.txt", size=9, place=(1, 2)))) == []


def test_metadata_order_changes_nothing() -> None:
    one, two = replace(ITEM, metadata={"a": 1, "b": 2}), replace(ITEM, metadata={"b": 2, "a": 1})
    assert keys(one) == keys(two)


def test_keys_have_a_text_form() -> None:
    assert StageKeys.parse(str(keys())) == keys()
    assert StageKeys.parse("something else") == StageKeys("", "", "")
