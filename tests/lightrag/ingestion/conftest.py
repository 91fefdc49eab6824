"""A place to ingest in: a folder of documents, a store, and an embedder without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.corpora import LoadedCorpus, load_corpus
from lightrag.ingestion.items import Source
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.ingestion.summary import IngestSummary
from lightrag.models import HashingEmbedder
from lightrag.models.base import Embedder
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit
from lightrag.storage.liveness import live_chunks, live_documents
from lightrag.storage.objects import open_object_store
from lightrag.storage.tables import DocumentRow, chunks_from_table, documents_from_table
from lightrag.types import Chunk, CorpusId


class Bench:
    """Everything a test needs to ingest and to look at what came of it."""

    corpus = "tales"

    def __init__(self, root: Path) -> None:
        self.docs = root / "docs"
        self.docs.mkdir()
        self.home = root / "home"

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def write_many(self, count: int) -> None:
        for number in range(count):
            self.write(f"{number:03d}.txt", story(number))

    def line(
        self,
        location: str | Path = "",
        *,
        source: Source | None = None,
        embedder: Embedder | None = None,
        settings: dict[str, Any] | None = None,
        spec: dict[str, Any] | None = None,
        **source_spec: Any,
    ) -> Line:
        made = IngestSpec(
            corpus=self.corpus, source=SourceSpec(location=str(location or self.docs), **source_spec), **(spec or {})
        )
        chosen = load_settings(None, home=self.home, **(settings or {}))
        return Line(chosen, made, source=source, embedder=embedder or HashingEmbedder())

    def ingest(self, *arguments: Any, **options: Any) -> IngestSummary:
        with self.line(*arguments, **options) as line:
            return ingest(line)

    @property
    def log(self) -> CorpusLog:
        store = open_object_store(load_settings(None, home=self.home).storage_url)
        return CorpusLog(store, CorpusId("default", self.corpus))

    def newest(self) -> Commit:
        commit = self.log.latest()
        assert commit is not None
        return commit

    def loaded(self) -> LoadedCorpus:
        return load_corpus(self.log.store, self.newest().id)

    def documents(self) -> dict[str, DocumentRow]:
        commit = self.newest()
        return {row.source: row for row in documents_from_table(live_documents(self.log, commit))}

    def chunks(self, source: str = "") -> list[Chunk]:
        commit = self.newest()
        found = [chunk for piece in live_chunks(self.log, commit) for chunk in chunks_from_table(piece)]
        found.sort(key=lambda chunk: (chunk.source, chunk.ordinal))
        return [chunk for chunk in found if not source or chunk.source == source]


def story(number: int) -> str:
    """A page of text that no other number has."""
    people = ["Ada Brandt", "Jonas Weir", "Mira Okafor", "Tomas Lind", "Ines Duarte"]
    paragraphs = [
        f"In the year {1800 + number + year} {people[(number + year) % 5]} crossed the bay with {year + 3} ships. "
        f"The harbour master wrote that the wind of day {number * 7 + year} was the worst he had seen. "
        f"Nobody in town {number} forgot the bell that rang {year + 1} times that night."
        for year in range(12)
    ]
    return "\n\n".join(paragraphs)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
