from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lightrag.config import load_settings
from lightrag.errors import BackendError
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.recipe import Recipe
from lightrag.ingestion.stages import EmbedStage, GistStage, ReadStage, embedded_text
from lightrag.ingestion.states import DocumentState
from lightrag.ingestion.uploads import Upload, UploadSource
from lightrag.models import HashingEmbedder, ScriptedLanguageModel
from lightrag.types import Chunk
from tests.lightrag.ingestion.conftest import story


def recipe(**options: object) -> Recipe:
    return Recipe(load_settings(None), embedder=HashingEmbedder(64), **options)  # type: ignore[arg-type]  # of the tests


def listed(source: UploadSource, made: Recipe) -> list[DocumentState]:
    items = [entry for entry in source.items() if isinstance(entry, SourceItem)]
    return [DocumentState(item, f"id-{item.source}", made.keys(f"id-{item.source}", item)) for item in items]


def read(names: Sequence[str], made: Recipe) -> list[DocumentState]:
    source = UploadSource([Upload(name, story(number).encode()) for number, name in enumerate(names)])
    return ReadStage(made, source).run(listed(source, made))


def test_stages_pass_over_what_failed_and_what_is_done() -> None:
    made = recipe()
    first, second = read(["a.txt", "b.txt"], made)
    failed = first.failed("read", "damaged", "broken", permanent=True)
    done = EmbedStage(made).run([failed, second])
    assert done[0] is failed
    assert EmbedStage(made).run(done) == done
    assert GistStage(made).run([failed])[0] is failed


def test_a_parser_that_crashes_costs_its_document_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrag.ingestion import stages

    parse = stages.parse_document

    def crash(data: bytes, **options: object) -> object:
        if options["source"] == "a.txt":
            raise RecursionError("too deep")
        return parse(data, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(stages, "parse_document", crash)
    bad, good = read(["a.txt", "b.txt"], recipe())
    assert bad.failure is not None
    assert bad.failure.reason == "damaged"
    assert "RecursionError: too deep" in bad.failure.message
    assert good.chunks


def test_a_chunk_that_cannot_be_embedded_costs_its_document_only() -> None:
    made = recipe()
    first, second = read(["a.txt", "b.txt"], made)
    endless = replace(first, chunks=(replace(first.chunks[0], text="word " * 5000, title="", tokens=5000),))
    bad, good = EmbedStage(made).run([endless, second])
    assert bad.failure is not None
    assert bad.failure.stage == "embed"
    assert good.vectors is not None
    assert good.vectors.shape == (len(second.chunks), 64)


def test_a_failing_model_fails_the_batch_and_marks_nothing() -> None:
    made = recipe(language_model=ScriptedLanguageModel([BackendError("quota exceeded")]))
    states = EmbedStage(made).run(read(["a.txt"], made))
    with pytest.raises(BackendError, match="quota"):
        GistStage(made).run(states)


def test_a_document_written_to_after_its_listing_is_known_by_what_was_read() -> None:
    made = recipe()
    source = UploadSource([Upload("a.txt", b"The bell rang.")])
    (state,) = listed(source, made)
    changed = UploadSource([Upload("a.txt", b"The bell broke.")])
    (read_state,) = ReadStage(made, changed).run([state])
    (expected,) = listed(changed, made)
    assert read_state.keys == expected.keys != state.keys
    assert read_state.chunks[0].text == "The bell broke."


def test_headings_give_way_where_a_chunk_fills_the_embedder() -> None:
    words = "one two three four five six"
    counter = HashingEmbedder().tokenizer
    embedder = HashingEmbedder(max_tokens=counter.count(f"Title › Near\n{words}"))
    chunk = Chunk("c", "d", 0, words, 0, len(words), tokens=counter.count(words), title="Title", heading="Near")
    assert embedded_text(chunk, embedder) == f"Title › Near\n{words}"
    assert embedded_text(replace(chunk, heading="Far › Near " * 9), embedder) == f"Title\n{words}"
    assert embedded_text(replace(chunk, title="A very long title " * 5), embedder) == words
