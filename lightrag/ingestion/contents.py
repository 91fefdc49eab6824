"""The version to be, before it is committed: its documents in order, and where their chunk rows lie.

Rows of documents are held, those of chunks are read when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError
from lightrag.ingestion.grouping import Piece
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit, FileEntry
from lightrag.storage.liveness import live_documents
from lightrag.storage.transfer import parallel_files

COLUMNS: Final = ("document_id", "source", "content_key", "settings_hash", "language", "chunks", "tokens")
"""What is known of documents here: about 250 bytes each."""

_KEPT_FILES: Final = 2
"""Chunk files that are kept: pieces come in corpus order, and neighbours lie in one file."""


def documents_after(log: CorpusLog, base: Commit | None, changed: Sequence[FileEntry]) -> pa.Table:
    """Documents of the version that these documents files make of another one, in corpus order, with ``COLUMNS``.

    Raises:
        ArtifactError: a documents file is damaged.
    """
    read = [tables.read_table(log, entry, [*COLUMNS, "deleted"]) for entry in changed]
    new = pa.concat_tables(read) if read else tables.schema("documents").empty_table().select([*COLUMNS, "deleted"])
    found = new.filter(pc.invert(new["deleted"])).select(list(COLUMNS))
    if base:
        before = live_documents(log, base, COLUMNS)
        known = pc.is_in(before["document_id"], value_set=new["document_id"].combine_chunks())
        found = pa.concat_tables([before.filter(pc.invert(known)), found])
    return found.sort_by([("source", "ascending"), ("document_id", "ascending")])


class Passages(NamedTuple):
    """Consecutive chunks of one document."""

    title: str
    texts: Sequence[str]
    tokens: Sequence[int]


class Contents:
    """The documents of the version to be, and where they lie. Belongs to one thread.

    Args:
        log: the corpus.
        documents: as :func:`documents_after` gives them.
        chunk_files: all of the version.
        gists: gist files of the version.
    """

    def __init__(
        self, log: CorpusLog, documents: pa.Table, chunk_files: Sequence[FileEntry], gists: tuple[FileEntry, ...]
    ) -> None:
        self._log = log
        self._documents = documents
        self._chunk_files = chunk_files
        self._opened: OrderedDict[str, tuple[pa.Table, dict[str, tuple[int, int]]]] = OrderedDict()
        self.gists: Final = gists

    @cached_property
    def documents(self) -> Sequence[tables.DocumentRow]:
        """In corpus order, with ids, keys and counts only."""
        names = ["document_id", "content_key", "settings_hash", "chunks"]
        return [tables.DocumentRow(**row) for row in self._documents.select(names).to_pylist()]

    @cached_property
    def files(self) -> Mapping[str, Sequence[FileEntry]]:
        """Chunk files by document."""
        found: dict[str, list[FileEntry]] = {}
        names = parallel_files(self._names_in, self._chunk_files, window=2)
        for entry, identities in zip(self._chunk_files, names, strict=True):
            for identity in identities:
                found.setdefault(identity, []).append(entry)
        return found

    def read(self, piece: Piece) -> Passages:
        """What a piece of a document says.

        Raises:
            ArtifactError: chunks are missing.
        """
        parts = []
        for entry in self.files.get(piece.document_id, ()):
            table, spans = self._open(entry)
            parts.append(table.slice(*spans[piece.document_id]))
        rows = pa.concat_tables(parts).sort_by("ordinal") if parts else None
        if rows is None or rows["ordinal"].to_pylist()[piece.start : piece.end] != list(range(piece.start, piece.end)):
            raise ArtifactError(
                f"chunks {piece.start} to {piece.end} of document {piece.document_id!r} are not in the files of "
                f"{self._log.corpus}",
                subject=piece.document_id,
            )
        own = rows.slice(piece.start, piece.end - piece.start)
        return Passages(own["title"][0].as_py(), own["text"].to_pylist(), own["tokens"].to_pylist())

    def _names_in(self, entry: FileEntry) -> list[str]:
        identities: list[str] = pc.unique(self._valid(entry, ["document_id"])["document_id"]).to_pylist()
        return identities

    def _open(self, entry: FileEntry) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
        """Valid rows of a chunk file by document, and where each document's begin and how many there are."""
        found = self._opened.pop(entry.path, None)
        if found is None:
            rows = self._valid(entry, ["document_id", "ordinal", "title", "text", "tokens"])
            rows = rows.sort_by([("document_id", "ascending"), ("ordinal", "ascending")]).combine_chunks()
            counted = pc.value_counts(rows["document_id"].combine_chunks()).to_pylist()
            spans, at = {}, 0
            for each in counted:
                spans[each["values"]] = (at, each["counts"])
                at += each["counts"]
            found = (rows, spans)
        self._opened[entry.path] = found
        if len(self._opened) > _KEPT_FILES:
            self._opened.popitem(last=False)
        return found

    def _valid(self, entry: FileEntry, columns: Sequence[str]) -> pa.Table:
        found = tables.read_table(self._log, entry, [*columns, "content_key"])
        keys = self._documents["content_key"].combine_chunks()
        return found.filter(pc.is_in(found["content_key"], value_set=keys))


__all__ = ["COLUMNS", "Contents", "Passages", "documents_after"]
