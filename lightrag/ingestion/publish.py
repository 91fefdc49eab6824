"""From staged documents to one commit: tables, errors, and what other stages make of them.

Documents stream through, one staged object at a time; gists and index are made by :mod:`lightrag.ingestion.indexing`,
here or elsewhere. So what this process holds grows with the number of documents, not with what they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from lightrag.errors import ArtifactError
from lightrag.ingestion.committed import KnownDocument, read_errors
from lightrag.ingestion.contents import Contents, documents_after
from lightrag.ingestion.encode import COUNTS, Encoded
from lightrag.ingestion.indexing import IndexScheduler, IndexUnit
from lightrag.ingestion.line import Line
from lightrag.ingestion.plan import Listing, Plan
from lightrag.ingestion.recipe import StageKeys
from lightrag.ingestion.staged_rows import chunk_table
from lightrag.ingestion.states import Failure, read_head
from lightrag.storage import tables
from lightrag.storage.commits import Commit, FileEntry, Role
from lightrag.storage.objects import MIB
from lightrag.storage.table_files import TableFiles

FILE_BYTES = 64 * MIB
"""Rows in one file, as they are in memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a job has set itself to do, given the newest version."""

    base: Commit | None
    listing: Listing
    known: Mapping[str, KnownDocument]
    plan: Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of it."""

    places: Mapping[str, str]
    """Place in staging of every document that passed all stages."""
    failed: Mapping[str, Failure]


class Publisher:
    """Makes one version. Files that a failed attempt leaves behind go with the next vacuum."""

    def __init__(self, line: Line, task: Task, outcome: Outcome, job_id: str) -> None:
        self._line = line
        self._log = line.log
        self._base = task.base
        self._listing = task.listing
        self._known = task.known
        self._plan = task.plan
        self._outcome = outcome
        self._job_id = job_id
        self.used: set[str] = set()
        """Objects in staging that a version has taken over."""
        self._added: list[FileEntry] = []
        self._removed: list[FileEntry] = []
        self._staged: dict[str, tuple[str, ...]] = {}
        """Objects in staging that hold added documents, and which of each; none named: all."""
        self._counts: dict[str, int] = {}

    def write(self, index: IndexScheduler) -> Contents:
        """Write everything that is not encoded, and return what is to be encoded from.

        Args:
            index: has gists and index made of what was written.

        Raises:
            NotFoundError: a staged object is gone: another job has committed it.
            BackendError: the store or a model failed; nothing is visible.
        """
        self._write_tables()
        changed = [entry for entry in self._added if entry.role == "documents"]
        documents = documents_after(self._log, self._base, changed)
        chunk_files = self._chunk_files()
        passages, tokens = (int(pc.sum(documents[name]).as_py() or 0) for name in ("chunks", "tokens"))
        unit = IndexUnit(
            self._base.version if self._base else 0,
            tuple(changed),
            tuple(chunk_files),
            staged=self._staged,
            passages=passages,
            rebuild=not self._index_stays(),
        )
        made = index(unit, self._line)
        self._replace("gists", (made.gists,))
        self._replace("index", made.index)
        self._counts = {
            "documents": documents.num_rows,
            "chunks": passages,
            "tokens": tokens,
            "gists": made.gists.rows or 0,
            "errors": self._write_errors(),
        }
        return Contents(self._log, documents, chunk_files, (made.gists,))

    def commit(self, encoded: Encoded) -> Commit:
        """Make the version of what was written and encoded.

        Raises:
            ConflictError: another job committed first; nothing of this one is visible.
            BackendError: the store failed.
        """
        line = self._line
        recipes = line.group_recipes
        settings: dict[str, JsonValue] = {"version_key": line.recipe.version_key}
        if recipes:
            settings["groups"] = dict(line.group_keys)
        return self._log.commit(
            self._base,
            add=[*self._added, *encoded.added],
            remove=[entry.path for entry in (*self._removed, *encoded.removed)],
            fingerprints=line.recipe.fingerprints | {role: each.fingerprint for role, each in recipes.items()},
            counts={**self._counts, **{name: encoded.counts.get(name, 0) for name in COUNTS.values()}},
            settings=settings,
            job_id=self._job_id,
            message=f"ingest {self._listing.name}",
        )

    # --- Documents and chunks -----------------------------------------------------------------------------------------

    def _write_tables(self) -> None:
        """Write chunk files, and documents files that say what changes."""
        with (
            TableFiles(self._log, "chunks", self._chunk_name, FILE_BYTES) as chunks,
            TableFiles(self._log, "documents", _documents_name, FILE_BYTES) as documents,
        ):
            for staged, rows in self._passed():
                documents.add(tables.documents_to_table(rows))
                if any(row.chunks for row in rows):
                    chunks.add(chunk_table(staged, rows))
            gone = [document for document in self._gone() if document.keys]
            documents.add(
                tables.documents_to_table(
                    [tables.DocumentRow(each.document_id, "", source=each.source, deleted=True) for each in gone]
                )
            )
            self._added += [*chunks.done(), *documents.done()]

    def _chunk_name(self, number: int) -> str:
        # File order is reading order, so names count up through versions and within them.
        return f"{(self._base.version if self._base else 0) + 1:010d}-{number:05d}.parquet"

    def _passed(self) -> Iterator[tuple[pa.Table, list[tables.DocumentRow]]]:
        """Documents to add, one staged object at a time, in the order in which the source lists them."""
        by_path: dict[str, list[str]] = {}
        for state in self._listing.everything:
            if path := self._outcome.places.get(state.document_id):
                by_path.setdefault(path, []).append(state.document_id)
        for path, identities in by_path.items():
            whole = self._line.staging.rows(path)
            places = pc.index_in(pa.array(identities, pa.string()), value_set=whole["document_id"].combine_chunks())
            found = places.to_pylist()
            # Mostly all of them in order, and then there is no need for a second copy.
            staged = whole if found == [*range(whole.num_rows)] else whole.take(pc.fill_null(places, 0))
            heads = [read_head(text) for text in staged["head"].to_pylist()]
            for identity, place, head in zip(identities, found, heads, strict=True):
                if place is None or head.row is None:
                    raise ArtifactError(f"staged object {path!r} lacks document {identity!r}", subject=path)
            self.used.update(name for head in heads for name in head.staged)
            self._staged[path] = () if len(identities) == whole.num_rows else tuple(identities)
            keys = zip(*(staged[f"{stage}_key"].to_pylist() for stage in StageKeys._fields), strict=True)
            rows = [
                self._row(head.row, str(StageKeys(*own))) for head, own in zip(heads, keys, strict=True) if head.row
            ]
            yield staged, rows

    def _row(self, row: tables.DocumentRow, settings: str) -> tables.DocumentRow:
        key = tables.content_key(row.document_id, row.content_hash, settings, self._job_id)
        return replace(row, content_key=key, settings_hash=settings, version=0)

    def _gone(self) -> Iterator[KnownDocument]:
        """Documents that leave the corpus: no longer listed, or failed and useless as they were."""
        for identity in self._plan.removed:
            yield self._known[identity]
        for identity in self._outcome.failed:
            document = self._known.get(identity)
            if document and document.keys and not self._still_fits(document):
                yield document

    def _still_fits(self, document: KnownDocument) -> bool:
        """Whether what the corpus holds of a document can stay: only vectors of one model can be compared."""
        keys = document.keys
        return keys is not None and self._line.recipe.keys_after(keys.read).embed == keys.embed

    def _chunk_files(self) -> list[FileEntry]:
        """All chunk files of the new version."""
        before = self._log.files(self._base, "chunks") if self._base else []
        if self._base and self._base.fingerprints.get("embedder") != self._line.recipe.embedder.fingerprint:
            # Every document has been embedded anew, and vectors of two models do not even have one length.
            self._removed += before
            before = []
        return [*before, *(entry for entry in self._added if entry.role == "chunks")]

    # --- What describes the version as a whole ------------------------------------------------------------------------

    def _replace(self, role: Role, entries: Sequence[FileEntry]) -> None:
        """Let new files of a role take the place of all that the version before has; no new ones: keep those."""
        if entries and self._base:
            self._removed += self._log.files(self._base, role)
        self._added += entries

    def _index_stays(self) -> bool:
        """Whether no document has changed, nor what the index is made by: only errors, gists or encoded groups have."""
        base = self._base
        if base is None or any(entry.role in ("documents", "chunks") for entry in (*self._added, *self._removed)):
            return False
        same = base.settings.get("version_key") == self._line.recipe.version_key
        return same and bool(self._log.files(base, "index"))

    def _write_errors(self) -> int:
        """Write every failure that stands; those of other sources as they were."""
        states = {state.document_id: state for state in self._listing.everything}
        rows = [
            tables.ErrorRow(
                identity,
                states[identity].item.source,
                failure.stage,
                failure.reason,
                failure.message,
                content_hash=states[identity].keys.gist,
                retryable=not failure.permanent,
            )
            for identity, failure in self._outcome.failed.items()
        ]
        if self._base:
            own = {state.document_id for state in self._listing.states}
            settled = {*own, *self._plan.removed, *self._outcome.failed}
            rows += [row for row in read_errors(self._log, self._base) if row.document_id not in settled]
            self._removed += self._log.files(self._base, "errors")
        if rows:
            table = tables.errors_to_table(rows)
            self._added.append(tables.write_table(self._log, "errors", "errors.parquet", table))
        return len(rows)


def _documents_name(number: int) -> str:
    return f"documents-{number:05d}.parquet"


__all__ = ["FILE_BYTES", "Outcome", "Publisher"]
