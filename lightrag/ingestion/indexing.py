"""The last stage before the commit: gists of the corpus as a whole, and its index, from files to files.

It runs wherever there is room for the index, in the job's process or on a worker of a cluster: what it is told and what
it answers stays small whatever the corpus's size. Rows pass through, a file at a time; what it holds is what
:func:`~lightrag.retrieval.index_files.write_index` does, and the gists.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError, BackendError
from lightrag.ingestion.contents import documents_after
from lightrag.ingestion.group_units import plain_entries, read_entries
from lightrag.ingestion.line import Line
from lightrag.ingestion.staged_rows import gist_table
from lightrag.memory.gists import corpus_gists
from lightrag.retrieval.index_files import write_index
from lightrag.retrieval.passage_spool import PassageSpool
from lightrag.storage import tables
from lightrag.storage.commits import Commit, FileEntry
from lightrag.storage.transfer import parallel_files
from lightrag.types import Gist


@dataclass(frozen=True, slots=True)
class IndexUnit:
    """What the next version is to be made of."""

    version: int
    """Of the version before; 0 where there is none."""
    documents: tuple[FileEntry, ...]
    """Documents files that the next one adds."""
    chunks: tuple[FileEntry, ...]
    """All chunk files of the next one."""
    _: KW_ONLY
    staged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Objects in staging that hold gists of added documents, and which documents of each; none named: all."""
    passages: int = 0
    """Chunks of the next version, to choose where it is indexed."""
    rebuild: bool = True
    """Whether its index differs from the one of the version before."""

    def to_json(self) -> str:
        """For carriage between processes."""
        return json.dumps(
            {
                "version": self.version,
                "documents": plain_entries(self.documents),
                "chunks": plain_entries(self.chunks),
                "staged": {path: list(identities) for path, identities in self.staged.items()},
                "passages": self.passages,
                "rebuild": self.rebuild,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        return cls(
            plain["version"],
            read_entries(plain["documents"]),
            read_entries(plain["chunks"]),
            staged={path: tuple(identities) for path, identities in plain["staged"].items()},
            passages=plain["passages"],
            rebuild=plain["rebuild"],
        )


@dataclass(frozen=True, slots=True)
class IndexReceipt:
    """What was made: its files are in storage, and no version refers to them yet."""

    gists: FileEntry
    index: tuple[FileEntry, ...]
    """Empty where it was not to be built."""

    def to_json(self) -> str:
        """For carriage between processes."""
        return json.dumps({"gists": plain_entries((self.gists,)), "index": plain_entries(self.index)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        return cls(read_entries(plain["gists"])[0], read_entries(plain["index"]))


IndexScheduler = Callable[[IndexUnit, Line], IndexReceipt]
"""Has the gists and the index of a version made, somewhere."""


def index_locally(unit: IndexUnit, line: Line) -> IndexReceipt:
    """Make the gists and the index of a version in this process: the simplest scheduler."""
    return IndexStation(line).run(unit)


class IndexStation:
    """Makes what describes a version as a whole. Safe to repeat: files of an earlier attempt go with a vacuum."""

    def __init__(self, line: Line) -> None:
        self._line: Final = line
        self._log: Final = line.log

    def run(self, unit: IndexUnit) -> IndexReceipt:
        """Make gists and index.

        Raises:
            NotFoundError: the version before, or what was staged, is gone: another job came first.
            ArtifactError: chunks are missing, or a file is damaged.
            BackendError: the store, a model or this machine's disk failed.
        """
        base = self._log.read(unit.version) if unit.version else None
        documents = documents_after(self._log, base, unit.documents)
        gists = self._write_gists(unit, base, documents)
        return IndexReceipt(gists, self._write_index(unit, documents) if unit.rebuild else ())

    # --- Gists --------------------------------------------------------------------------------------------------------

    def _write_gists(self, unit: IndexUnit, base: Commit | None, documents: pa.Table) -> FileEntry:
        level0 = self._level0(unit, base, documents)
        settings = self._line.settings.gists
        tokens = pc.sum(level0["tokens"]).as_py() or 0
        # One that fits the budget as it is needs no levels above, and so no value per gist.
        given = tables.gists_from_table(level0) if tokens > settings.budget_tokens else []
        known = self._known_above(base) if given else {}
        language = _usual_language(documents)
        work = corpus_gists(given, self._line.recipe.gister, settings, language, known=known)
        above = tables.gists_to_table(self._line.recipe.run(work))
        return tables.write_table(self._log, "gists", "gists.parquet", pa.concat_tables([level0, above]))

    def _known_above(self, base: Commit | None) -> dict[str, Gist]:
        """Gists of the version before that cover other gists, by their ids."""
        found = {}
        for entry in self._log.files(base, "gists") if base else ():
            table = tables.read_table(self._log, entry)
            for gist in tables.gists_from_table(table.filter(pc.greater(table["level"], 0))):
                found[gist.gist_id] = gist
        return found

    def _level0(self, unit: IndexUnit, base: Commit | None, documents: pa.Table) -> pa.Table:
        """Gists of all documents of the new version, in corpus order."""
        changed = [tables.read_table(self._log, entry, ["document_id"])["document_id"] for entry in unit.documents]
        parts = [self._staged_gists(path, identities) for path, identities in unit.staged.items()]
        for entry in self._log.files(base, "gists") if base else ():
            found = tables.read_table(self._log, entry)
            found = found.select(tables.schema("gists").names).filter(pc.equal(found["level"], 0))
            for identities in changed:
                old = pc.is_in(found["document_id"], value_set=identities.combine_chunks())
                found = found.filter(pc.invert(old))
            parts.append(found)
        gists = pa.concat_tables([tables.schema("gists").empty_table(), *parts])
        places = pc.index_in(gists["document_id"], value_set=documents["document_id"].combine_chunks())
        order = np.argsort(pc.fill_null(places, -1).to_numpy(), kind="stable")
        return gists.take(order[places.null_count :])

    def _staged_gists(self, path: str, identities: Sequence[str]) -> pa.Table:
        wanted = frozenset(identities) or None
        return gist_table(self._line.staging.rows(path, wanted, columns=["document_id", "gists"]))

    # --- Index --------------------------------------------------------------------------------------------------------

    def _write_index(self, unit: IndexUnit, documents: pa.Table) -> tuple[FileEntry, ...]:
        embedder = self._line.recipe.embedder
        identity = secrets.token_hex(4)
        try:
            with TemporaryDirectory(prefix="lightrag-index-") as spool, TemporaryDirectory(dir=spool) as folder:
                passages = self._spooled(Path(spool), unit, documents)
                paths = write_index(passages, Path(folder), embedder=embedder.fingerprint, languages=embedder.languages)
                return tuple(self._log.write_file("index", f"{identity}/{path.name}", path) for path in paths)
        except OSError as error:
            raise BackendError(
                f"this machine's folder for temporary files failed while {self._log.corpus} was indexed: {error}. It "
                "needs room for the text and the vectors of the corpus; set TMPDIR to a folder that has it"
            ) from error

    def _spooled(self, folder: Path, unit: IndexUnit, documents: pa.Table) -> PassageSpool:
        """All chunks of the new version with their vectors, each at its place in corpus order."""
        counts = documents["chunks"].to_numpy()
        starts = np.cumsum(counts) - counts
        identities = documents["document_id"].combine_chunks()
        keys = documents["content_key"].combine_chunks()

        def read(entry: FileEntry) -> pa.Table:
            found = tables.read_table(self._log, entry)
            return found.filter(pc.is_in(found["content_key"], value_set=keys)).combine_chunks()

        spool: PassageSpool | None = None
        for piece in parallel_files(read, unit.chunks, window=2):
            vectors = tables.vectors_of(piece)
            spool = spool or PassageSpool(folder, int(counts.sum()), vectors.shape[1])
            document = pc.index_in(piece["document_id"], value_set=identities).to_numpy()
            spool.add(starts[document] + piece["ordinal"].to_numpy(), piece, vectors)
        # Only now: asking the embedder loads its weights.
        spool = spool or PassageSpool(folder, int(counts.sum()), self._line.recipe.embedder.dimension)
        if spool.missing:
            message = f"{spool.missing} chunks of {self._log.corpus} are missing from its files"
            raise ArtifactError(f"{message}: ingest it anew under another name", subject=str(self._log.corpus))
        return spool


def _usual_language(documents: pa.Table) -> str:
    """Language of most chunks."""
    counted: Counter[str] = Counter()
    for language, chunks in zip(documents["language"].to_pylist(), documents["chunks"].to_pylist(), strict=True):
        if chunks:
            counted[language] += chunks
    return counted.most_common(1)[0][0] if counted else "und"


__all__ = ["IndexReceipt", "IndexScheduler", "IndexStation", "IndexUnit", "index_locally"]
