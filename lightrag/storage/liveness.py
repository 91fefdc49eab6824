"""Which rows of a version are valid, so that a change of one document costs one document.

Files are immutable and a change only adds to them, as in a log-structured merge tree:

- A *documents* row speaks for its document as of a version: the one that added its file, unless the row names another.
  Of several rows for one document, the one of the latest version counts; a row with ``deleted`` says that it is gone.
- A *chunks* row is valid, if its ``content_key`` is that of the documents row that counts. So chunks of a changed or
  deleted document stop being valid without being touched, and of two jobs that processed the same document at the same
  time, the chunks of exactly one are.
- :mod:`lightrag.storage.compaction` rewrites files when the share of rows that are not valid grows too large.

Gists, indexes, memories and latents describe a version as a whole, and are replaced with their files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError
from lightrag.storage import tables
from lightrag.storage.artifacts import Commit, CorpusLog, FileEntry
from lightrag.storage.transfer import parallel_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDER = ("document_id", "version")


class DeadRows(NamedTuple):
    """How many chunk rows a version stores, and how many of them are not valid."""

    rows: int
    dead: int

    @property
    def share(self) -> float:
        """Of the rows that are stored."""
        return self.dead / self.rows if self.rows else 0.0


def live_documents(log: CorpusLog, commit: Commit, columns: Sequence[str] | None = None) -> pa.Table:
    """The documents of a version: one row each, sorted by ``document_id``, deleted ones left out.

    ``version`` holds the version that each row speaks for. All of them are in memory at once: with the columns that
    decide what has changed (``document_id content_hash settings_hash content_key``) that is about 200 bytes each.

    Raises:
        ArtifactError: a documents file is damaged.
    """
    names = None if columns is None else sorted({*columns, *_ORDER, "deleted"})
    entries = log.files(commit, "documents")
    pieces = list(parallel_files(lambda entry: _documents(log, entry, names), entries))
    if not pieces:
        empty = tables.schema("documents").empty_table()
        return empty if columns is None else empty.select(list(columns))
    found = _last_of_each(pa.concat_tables(pieces))
    found = found.filter(pc.invert(found["deleted"]))
    return found if columns is None else found.select(list(columns))


def _documents(log: CorpusLog, entry: FileEntry, columns: Sequence[str] | None) -> pa.Table:
    found = tables.read_table(log, entry, columns)
    version = pc.if_else(pc.equal(found["version"], 0), pa.scalar(entry.version, pa.int64()), found["version"])
    place = found.column_names.index("version")
    return found.set_column(place, found.schema.field("version"), version)


def _last_of_each(found: pa.Table) -> pa.Table:
    order = pc.sort_indices(found, sort_keys=[("document_id", "ascending"), ("version", "descending")])
    ids = found["document_id"].take(order).combine_chunks()
    versions = found["version"].take(order).combine_chunks()
    if not len(ids):
        return found
    first = _starts(pc.not_equal(ids[1:], ids[:-1]))
    twice = np.logical_not(first) & np.logical_not(_starts(pc.not_equal(versions[1:], versions[:-1])))
    if twice.any():
        name = ids[int(np.argmax(twice))].as_py()
        raise ArtifactError(f"document {name!r} has two rows for one version", subject=name)
    return found.take(order.filter(pa.array(first)))


def _starts(differs: pa.Array) -> NDArray[np.bool_]:
    return np.concatenate([[True], differs.to_numpy(zero_copy_only=False).astype(bool)])


def live_chunks(
    log: CorpusLog,
    commit: Commit,
    columns: Sequence[str] | None = None,
    *,
    documents: pa.Table | None = None,
    files: Sequence[FileEntry] | None = None,
) -> Iterator[pa.Table]:
    """The valid chunk rows of a version, file by file in the order of file names; order within a file is kept.

    Only files in flight are in memory, besides the documents' keys.

    Args:
        log: the corpus.
        commit: the version.
        columns: which; all by default.
        documents: what :func:`live_documents` gave, with ``content_key``, to save reading them again.
        files: only these chunk files of the version.

    Raises:
        ArtifactError: a file is damaged.
    """
    if documents is None:
        documents = live_documents(log, commit, ["content_key"])
    keys = documents["content_key"].combine_chunks()

    def read(entry: FileEntry) -> pa.Table:
        wanted = None if columns is None else list(dict.fromkeys([*columns, "content_key"]))
        found = tables.read_table(log, entry, wanted)
        found = found.filter(pc.is_in(found["content_key"], value_set=keys))
        return found if columns is None else found.select(list(columns))

    yield from parallel_files(read, log.files(commit, "chunks") if files is None else files, window=2)


def live_rows(log: CorpusLog, entry: FileEntry, documents: pa.Table) -> int:
    """Valid rows of one chunk file, from its keys alone; ``documents`` as for :func:`live_chunks`."""
    keys = tables.read_table(log, entry, ["content_key"])["content_key"]
    return pc.sum(pc.is_in(keys, value_set=documents["content_key"].combine_chunks())).as_py() or 0


def dead_rows(log: CorpusLog, commit: Commit) -> DeadRows:
    """How many chunk rows are not valid, from the documents alone: each says how many chunks it has."""
    stored = commit.file_set("chunks").rows
    live = pc.sum(live_documents(log, commit, ["chunks"])["chunks"]).as_py() or 0
    return DeadRows(stored, stored - live)


__all__ = ["DeadRows", "dead_rows", "live_chunks", "live_documents", "live_rows"]
