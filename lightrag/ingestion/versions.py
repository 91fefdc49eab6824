"""Documents of a corpus that exists already, at one version: to cut, embed or condense them anew under another name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError, DocumentError, NotFoundError, UsageError
from lightrag.ingestion.items import Ignored, SourceItem
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit
from lightrag.storage.liveness import live_chunks, live_documents
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId, check_name

SCHEME: Final = "corpus://"
"""How a location begins that names a corpus: ``corpus://reports``, or a version of it: ``corpus://reports@3``."""

_COLUMNS: Final = ("document_id", "source", "title", "content_hash", "chars", "metadata", "chunks", "content_key")


class CorpusSource:
    """Documents of another corpus of the same tenant, without their original files.

    Text comes from the chunks that the corpus stores, with names, titles and metadata. What the corpus does not store
    is not there: formatting, page numbers, and which lines were headings.
    """

    complete = True

    def __init__(self, store: ObjectStore, target: CorpusId, location: str, *, name: str = "") -> None:
        """Describe the source; nothing is read yet.

        Args:
            store: where corpora are.
            target: the corpus that is written; the source is another one of its tenant.
            location: ``corpus://NAME`` for the newest version, ``corpus://NAME@VERSION`` for another one.
            name: identity of the source; empty: its corpus, whatever the version.

        Raises:
            UsageError: the location does not name another corpus.
        """
        corpus, mark, version = location.removeprefix(SCHEME).partition("@")
        if mark and not version.isdigit():
            raise UsageError(f"{location!r} has no version after '@': write {SCHEME}{corpus}@3", subject=location)
        if corpus == target.corpus:
            raise UsageError(f"{location!r} is the corpus that is written: every document would be in it twice")
        self._log = CorpusLog(store, CorpusId(target.tenant, check_name(corpus, "corpus")))
        self._version = int(version) if mark else None
        self._rows: tuple[int, str, pa.Table] | None = None
        self.name = name or f"{SCHEME}{corpus}"

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List documents by their names; see :class:`~lightrag.ingestion.items.Source`."""
        commit = self._commit()
        documents = live_documents(self._log, commit, _COLUMNS)
        files: dict[str, list[str]] = {}
        for entry in self._log.files(commit, "chunks"):
            for rows in live_chunks(self._log, commit, ["document_id"], documents=documents, files=[entry]):
                for identity in pc.unique(rows["document_id"]).to_pylist():
                    files.setdefault(identity, []).append(entry.path)
        for row in documents.sort_by([("source", "ascending"), ("document_id", "ascending")]).to_pylist():
            identity = row["document_id"]
            yield SourceItem(
                row["source"],
                "\n".join([identity, *files.get(identity, ())]),
                row["chars"],
                f"document:{row['content_hash']}",
                title=row["title"],
                place=(commit.version, row["chunks"]),
                metadata=tables.metadata_from_json(row["metadata"]),
                media_type="text/plain",
            )

    def read(self, item: SourceItem) -> bytes:
        """Put a document's text together; see :class:`~lightrag.ingestion.items.Source`."""
        identity, *paths = item.location.split("\n")
        version, count = item.place
        try:
            found = [self._document(version, path, identity) for path in paths]
        except NotFoundError as error:
            # Versions beyond storage.retain_versions go while a job runs.
            raise DocumentError(
                f"version {version} of {self._log.corpus} is not there any more: run the job again, or pin the version",
                subject=item.source,
                reason="unreadable",
            ) from error
        chunks = sorted((chunk for rows in found for chunk in tables.chunks_from_table(rows)), key=lambda c: c.ordinal)
        if len(chunks) != count:
            raise ArtifactError(
                f"version {version} of {self._log.corpus} lacks chunks of {item.source!r}", subject=item.source
            )
        text = ""
        for chunk in chunks:
            # Chunks leave out nothing but white space; a line that ended a paragraph ends one again.
            gap = chunk.start - len(text)
            text = text[: chunk.start] + ("\n" * gap if gap > 1 else " " * gap) + chunk.text
        return text.encode()

    def _commit(self) -> Commit:
        commit = self._log.latest() if self._version is None else self._log.read(self._version)
        if commit is None:
            raise NotFoundError(f"there is no corpus {self._log.corpus}", subject=str(self._log.corpus))
        return commit

    def _document(self, version: int, path: str, identity: str) -> pa.Table:
        if self._rows is None or self._rows[:2] != (version, path):
            commit = self._log.read(version)
            entries = [entry for entry in self._log.files(commit, "chunks") if entry.path == path]
            # One file is kept: documents of a file are read one after the other.
            self._rows = (version, path, pa.concat_tables(live_chunks(self._log, commit, files=entries)))
        rows = self._rows[2]
        return rows.filter(pc.equal(rows["document_id"], identity)).combine_chunks()


__all__ = ["SCHEME", "CorpusSource"]
