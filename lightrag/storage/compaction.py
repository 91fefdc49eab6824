"""Rewriting chunk and document files, so that neither dead rows nor small files pile up.

Valid rows stay the same rows, in other files, so indexes that name chunks by id stay right. Jobs may commit meanwhile:
a rewritten documents row keeps the version that it speaks for, and so never hides a newer one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

import pyarrow as pa

from lightrag.errors import ConflictError
from lightrag.storage import tables
from lightrag.storage.artifacts import Change, Commit, CorpusLog, FileEntry
from lightrag.storage.liveness import dead_rows, live_chunks, live_documents, live_rows
from lightrag.storage.objects import MIB
from lightrag.storage.table_files import TableFiles
from lightrag.storage.transfer import parallel_files

TARGET_BYTES = 128 * MIB
"""Size of a rewritten file in memory; on disk it is somewhat smaller."""
_SMALL = 8
"""A file below this fraction of the target counts as small."""


def compact(
    log: CorpusLog, *, max_dead_share: float = 0.3, max_small_files: int = 64, job_id: str = ""
) -> Commit | None:
    """Make a version with the same valid rows in fewer bytes or files, where that is worth while.

    Args:
        log: the corpus.
        max_dead_share: chunk files with a larger share of rows that are not valid are rewritten, once the share over
            all files is larger than this too; so are all documents files together.
        max_small_files: beyond so many small chunk files, or documents files, they are merged.
        job_id: recorded in the commit.

    Returns:
        The new version, or ``None`` where there was nothing to do.

    Raises:
        ConflictError: somebody else rewrote or removed the same files first.
    """
    job_id = job_id or f"compact-{secrets.token_hex(4)}"
    with log.hold(job_id):
        base = log.latest()
        if base is None:
            return None
        keys = live_documents(log, base, ["content_key"])
        chunks = _chunk_files(log, base, keys, max_dead_share, max_small_files)
        documents = _document_files(log, base, keys.num_rows, max_dead_share, max_small_files)
        if not chunks and not documents:
            return None
        added = _rewrite(log, live_chunks(log, base, documents=keys, files=chunks), "chunks")
        if documents:
            added += _rewrite(log, [live_documents(log, base)], "documents")
        removed = [*chunks, *documents]

        def change(newest: Commit | None) -> Change:
            present = {entry.path for role in ("chunks", "documents") for entry in _files(log, newest, role)}
            if not present.issuperset(entry.path for entry in removed):
                raise ConflictError(f"files of {log.corpus} were rewritten by somebody else", winner=newest)
            return Change(added, [entry.path for entry in removed], job_id=job_id, message="compaction")

        return log.commit_rebasing(change)


def _files(log: CorpusLog, commit: Commit | None, role: tables.TableName) -> Sequence[FileEntry]:
    return log.files(commit, role) if commit else ()


def _document_files(
    log: CorpusLog, base: Commit, live: int, max_dead_share: float, max_small_files: int
) -> list[FileEntry]:
    stored = base.file_set("documents")
    worth_while = live < stored.rows * (1 - max_dead_share) or stored.files > max_small_files
    # All or none: a row that says that a document is gone may only go together with every row that it hides.
    return log.files(base, "documents") if worth_while else []


def _chunk_files(
    log: CorpusLog, base: Commit, documents: pa.Table, max_dead_share: float, max_small_files: int
) -> list[FileEntry]:
    entries = log.files(base, "chunks")
    small = [entry for entry in entries if entry.size < TARGET_BYTES // _SMALL]
    chosen = {entry.path for entry in small} if len(small) > max_small_files else set()
    if dead_rows(log, base).share > max_dead_share:
        valid = parallel_files(lambda entry: live_rows(log, entry, documents), entries)
        for entry, rows in zip(entries, valid, strict=True):
            if rows < (entry.rows or 0) * (1 - max_dead_share):
                chosen.add(entry.path)
    return [entry for entry in entries if entry.path in chosen]


def _rewrite(log: CorpusLog, pieces: Iterable[pa.Table], role: tables.TableName) -> list[FileEntry]:
    with TableFiles(log, role, lambda _: "compacted.parquet", TARGET_BYTES) as files:
        for piece in pieces:
            files.add(piece)
        return files.done()


__all__ = ["TARGET_BYTES", "compact"]
