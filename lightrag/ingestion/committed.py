"""What a version of a corpus says of its documents, and their stored results as a place to start from.

Chunk rows hold text and vector, so a changed embedder needs no parsing, and changed gist settings need no embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import NotFoundError
from lightrag.ingestion.items import SourceItem, document_id
from lightrag.ingestion.recipe import StageKeys
from lightrag.ingestion.states import DocumentState, Failure, StageName
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit
from lightrag.storage.liveness import live_chunks, live_documents

_KNOWN_COLUMNS = ("document_id", "source", "settings_hash", "bytes")


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What a version says of a document."""

    document_id: str
    source: str
    _: KW_ONLY
    keys: StageKeys | None = None
    """Of what the corpus holds of it; ``None`` where it holds nothing."""
    bytes: int = 0
    failure: Failure | None = None
    """Why it could not be read since."""
    failed_key: str = ""
    """Key of the result that could not be made."""

    def is_from(self, source_name: str) -> bool:
        """Whether the source of this name delivered it."""
        return self.document_id == document_id(source_name, self.source)


class Stored(NamedTuple):
    """Where a version holds a document, and how far its results can still be used."""

    stage: StageName
    path: str
    """Of the chunk file."""


def known_documents(log: CorpusLog, commit: Commit | None) -> dict[str, KnownDocument]:
    """Everything that a version knows of documents, those that failed included."""
    if commit is None:
        return {}
    known = {}
    for row in live_documents(log, commit, _KNOWN_COLUMNS).to_pylist():
        identity = row["document_id"]
        keys = StageKeys.parse(row["settings_hash"])
        known[identity] = KnownDocument(identity, row["source"], keys=keys, bytes=row["bytes"])
    for error in read_errors(log, commit):
        before = known.get(error.document_id)
        known[error.document_id] = KnownDocument(
            error.document_id,
            error.source,
            keys=before.keys if before else None,
            bytes=before.bytes if before else 0,
            failure=Failure(error.stage, error.reason, error.message, permanent=not error.retryable),
            failed_key=error.content_hash,
        )
    return known


def read_errors(log: CorpusLog, commit: Commit) -> list[tables.ErrorRow]:
    """Documents that a version could not hold, with the reasons."""
    entries = log.files(commit, "errors")
    return [row for entry in entries for row in tables.errors_from_table(tables.read_table(log, entry))]


def find_stored(
    log: CorpusLog, commit: Commit | None, wanted: Mapping[str, StageKeys], known: Mapping[str, KnownDocument]
) -> dict[str, Stored]:
    """Documents whose stored results can be used in part, under the keys they have to have now."""
    stages: dict[str, StageName] = {}
    for identity, keys in wanted.items():
        before = known[identity].keys if identity in known else None
        if before and before.read == keys.read:
            stages[identity] = "embed" if before.embed == keys.embed else "read"
    if commit is None or not stages:
        return {}
    places: dict[str, set[str]] = defaultdict(set)
    documents = live_documents(log, commit, ["document_id", "content_key"])
    for entry in log.files(commit, "chunks"):
        for rows in live_chunks(log, commit, ["document_id"], documents=documents, files=[entry]):
            for identity in pc.unique(rows["document_id"]).to_pylist():
                places[identity].add(entry.path)
    # A document whose rows lie in several files starts from its source: rare, and not worth a second kind of unit.
    return {
        identity: Stored(stage, next(iter(places[identity])))
        for identity, stage in stages.items()
        if len(places[identity]) == 1
    }


class StoredResults:
    """Reads results of documents from a version's chunk files. The last file is kept, since units come by files."""

    def __init__(self, log: CorpusLog) -> None:
        self._log = log
        self._last: tuple[int, str, dict[str, tables.DocumentRow], pa.Table] | None = None

    def load(self, version: int, path: str, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Fill in what one chunk file holds of some documents, as far as their keys allow.

        Raises:
            NotFoundError: the version has no such file, or does not exist any more.
        """
        if self._last is None or self._last[:2] != (version, path):
            self._last = (version, path, *self._read(version, path))
        _, _, rows, found = self._last
        return [_filled(state, rows[state.document_id], found) for state in states if state.document_id in rows]

    def _read(self, version: int, path: str) -> tuple[dict[str, tables.DocumentRow], pa.Table]:
        log = self._log
        commit = log.read(version)
        entry = next((entry for entry in log.files(commit, "chunks") if entry.path == path), None)
        if entry is None:
            raise NotFoundError(f"version {commit.id} has no chunk file {path!r}", subject=path)
        documents = live_documents(log, commit)
        found = pa.concat_tables(live_chunks(log, commit, documents=documents, files=[entry]))
        here = pc.is_in(documents["document_id"], value_set=found["document_id"].combine_chunks())
        return {row.document_id: row for row in tables.documents_from_table(documents.filter(here))}, found


def _filled(state: DocumentState, row: tables.DocumentRow, found: pa.Table) -> DocumentState:
    own = found.filter(pc.equal(found["document_id"], state.document_id)).sort_by("ordinal").combine_chunks()
    before = StageKeys.parse(row.settings_hash)
    return DocumentState(
        state.item,
        state.document_id,
        state.keys,
        row=row,
        chunks=tuple(tables.chunks_from_table(own)),
        vectors=tables.vectors_of(own) if before.embed == state.keys.embed else None,
    )


def foreign_states(
    known: Mapping[str, KnownDocument], source_name: str, later_keys: Mapping[str, StageKeys]
) -> Iterator[DocumentState]:
    """Documents of other sources under the keys that they would have by the settings of now."""
    for identity, document in known.items():
        if document.keys and not document.is_from(source_name):
            item = SourceItem(document.source, "", document.bytes, "")
            yield DocumentState(item, identity, later_keys[identity])


__all__ = [
    "KnownDocument",
    "Stored",
    "StoredResults",
    "find_stored",
    "foreign_states",
    "known_documents",
    "read_errors",
]
