"""Reads what a group is made of from the files of its corpus: chunks and gists, document by document."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError
from lightrag.ingestion.group_units import GroupUnit
from lightrag.ingestion.grouping import Piece
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.schemas import FIELDS
from lightrag.types import Chunk, Gist

_KEPT_FILES: Final = 2
"""Tables that are kept: units come in corpus order, and neighbours lie in one file."""
_COLUMNS: Final = tuple(field.name for field in FIELDS["chunks"])
"""Without vectors."""


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """What a group holds of one document."""

    document_id: str
    title: str
    chunks: tuple[Chunk, ...]
    gists: tuple[Gist, ...] = ()
    """Of level 0, over any of the chunks."""

    @property
    def text(self) -> str:
        """Title and passages; what was white space between two passages becomes a blank or an empty line."""
        pieces = [] if self.chunks[0].text.startswith(self.title) else [self.title, "\n\n"]
        end = self.chunks[0].start
        for chunk in self.chunks:
            pieces += ["\n\n" if chunk.start - end > 1 else " " * (chunk.start - end), chunk.text]
            end = chunk.end
        return "".join(pieces)


def usual_language(parts: Sequence[DocumentPart]) -> str:
    """Language of most of the text."""
    tokens: Counter[str] = Counter()
    for part in parts:
        for chunk in part.chunks:
            tokens[chunk.language] += chunk.tokens
    return tokens.most_common(1)[0][0]


class GroupReader:
    """Reads the parts of groups; keeps the last tables in memory. Belongs to one thread."""

    def __init__(self, log: CorpusLog) -> None:
        self._log = log
        self._tables: OrderedDict[str, pa.Table] = OrderedDict()
        self._gists: tuple[tuple[str, ...], pa.Table] | None = None

    def read(self, unit: GroupUnit) -> list[DocumentPart]:
        """Read a unit's documents, in its order.

        Raises:
            ArtifactError: chunks are missing, or a file is damaged.
        """
        keys = pa.array(unit.content_keys.values(), pa.string())
        chunks: dict[str, list[Chunk]] = {}
        for entry in unit.chunk_files:
            table = self._table(entry)
            for chunk in tables.chunks_from_table(table.filter(pc.is_in(table["content_key"], value_set=keys))):
                chunks.setdefault(chunk.document_id, []).append(chunk)
        gists = self._gists_of(unit)
        return [self._part(piece, chunks.get(piece.document_id, []), gists) for piece in unit.group.pieces]

    def _part(self, piece: Piece, chunks: Sequence[Chunk], gists: dict[str, list[Gist]]) -> DocumentPart:
        own = sorted(
            (each for each in chunks if piece.start <= each.ordinal < piece.end), key=lambda each: each.ordinal
        )
        if [chunk.ordinal for chunk in own] != list(range(piece.start, piece.end)):
            raise ArtifactError(
                f"chunks {piece.start} to {piece.end} of document {piece.document_id!r} are not in the files of "
                f"{self._log.corpus}",
                subject=piece.document_id,
            )
        ids = {chunk.chunk_id for chunk in own}
        about = tuple(gist for gist in gists.get(piece.document_id, ()) if not ids.isdisjoint(gist.chunk_ids))
        return DocumentPart(piece.document_id, own[0].title, tuple(own), about)

    def _table(self, entry: FileEntry) -> pa.Table:
        found = self._tables.pop(entry.path, None)
        self._tables[entry.path] = found if found is not None else tables.read_table(self._log, entry, _COLUMNS)
        if len(self._tables) > _KEPT_FILES:
            self._tables.popitem(last=False)
        return self._tables[entry.path]

    def _gists_of(self, unit: GroupUnit) -> dict[str, list[Gist]]:
        if not unit.gist_files:
            return {}
        paths = tuple(entry.path for entry in unit.gist_files)
        if self._gists is None or self._gists[0] != paths:
            pieces = [tables.read_table(self._log, entry) for entry in unit.gist_files]
            self._gists = (paths, pa.concat_tables(pieces))
        table = self._gists[1]
        wanted = pa.array([piece.document_id for piece in unit.group.pieces], pa.string())
        own = pc.and_(pc.is_in(table["document_id"], value_set=wanted), pc.equal(table["level"], 0))
        found: dict[str, list[Gist]] = {}
        for gist in tables.gists_from_table(table.filter(own)):
            found.setdefault(gist.document_id, []).append(gist)
        return found


__all__ = ["DocumentPart", "GroupReader", "usual_language"]
