"""Which documents are encoded together: groups of the version before that can stay, and new ones for the rest.

Pure arithmetic over document keys and token counts; nothing here reads, encodes or stores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from blake3 import blake3

from lightrag.errors import LimitError
from lightrag.storage.groups import DocumentGroup, StoredGroup

MOST_SMALL: Final = 16
"""Beyond so many groups that fill less than half of the budget, as many small changes leave them, all small ones are
grouped anew, if that makes at most half as many of them."""


class Keyed(NamedTuple):
    """A document of the new version, as far as groups are concerned."""

    document_id: str
    key: str
    """Of everything that is encoded of it."""
    chunks: int


class Piece(NamedTuple):
    """Consecutive chunks of one document; of most documents, all of them."""

    document_id: str
    key: str
    """See :class:`Keyed`."""
    start: int
    """Ordinal of the first chunk."""
    end: int
    """Ordinal after the last one."""


class Weighed(NamedTuple):
    """A piece, and what it takes of a group's budget."""

    piece: Piece
    head: int
    """Tokens that the document takes in every group it is in, whatever chunks of it: its title."""
    tokens: Sequence[int]
    """Of every chunk of the piece."""


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Pieces to be encoded together, in corpus order."""

    key: str
    pieces: tuple[Piece, ...]
    partly: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """See :attr:`~lightrag.storage.groups.DocumentGroup.chunks`."""


class Grouping(NamedTuple):
    """What becomes of the groups of the version before, and what else there will be."""

    kept: list[StoredGroup]
    gone: list[StoredGroup]
    planned: list[PlannedGroup]
    """Of everything that the kept groups do not hold, in corpus order."""


def group_key(recipe_key: str, pieces: Iterable[Piece]) -> str:
    """Name a group by everything that decides its content.

    Args:
        recipe_key: of the model and the settings.
        pieces: what is encoded, in order.
    """
    return blake3(json.dumps([recipe_key, *pieces], ensure_ascii=True).encode()).hexdigest(16)


def plan_groups(
    groups: Sequence[StoredGroup],
    documents: Sequence[Keyed],
    recipe_key: str,
    budget: int,
    weigh: Callable[[Iterable[Piece]], Iterable[Weighed]],
) -> Grouping:
    """Keep the groups that would be in the new version what they were in the version before, and group the rest.

    Args:
        groups: of the version before.
        documents: of the new version, in corpus order.
        recipe_key: of the model and settings of now; groups made by others are gone.
        budget: most tokens of a group.
        weigh: counts tokens; called only with what is to be grouped.

    Raises:
        LimitError: one chunk does not fit into a group.
    """
    known = {document.document_id: document for document in documents}
    kept = [stored for stored in groups if _is_as_before(stored.group, known, recipe_key)]
    planned = list(_make_groups(weigh(_rest(kept, known, documents)), known, recipe_key, budget))
    large = [stored for stored in kept if stored.group.tokens * 2 >= budget]
    small = len(kept) - len(large)
    if small > MOST_SMALL:
        anew = list(_make_groups(weigh(_rest(large, known, documents)), known, recipe_key, budget))
        # Some are small for good: their documents just do not fit together.
        if len(anew) <= len(planned) + small // 2:
            kept, planned = large, anew
    staying = {stored.group.key for stored in kept}
    return Grouping(kept, [stored for stored in groups if stored.group.key not in staying], planned)


def _is_as_before(group: DocumentGroup, known: Mapping[str, Keyed], recipe_key: str) -> bool:
    pieces = pieces_of(group, known)
    return bool(pieces) and group_key(recipe_key, pieces) == group.key


def pieces_of(group: DocumentGroup, known: Mapping[str, Keyed]) -> list[Piece]:
    """What a group holds, among the documents of now; nothing, if one of its own is not what it was."""
    pieces = []
    for identity, key in group.documents.items():
        document = known.get(identity)
        if document is None or document.key != key:
            return []
        pieces.append(Piece(identity, key, *group.chunks.get(identity, (0, document.chunks))))
    return pieces


def _rest(kept: Sequence[StoredGroup], known: Mapping[str, Keyed], documents: Sequence[Keyed]) -> Iterator[Piece]:
    held: dict[str, list[Piece]] = {}
    for stored in kept:
        for piece in pieces_of(stored.group, known):
            held.setdefault(piece.document_id, []).append(piece)
    for identity, key, chunks in documents:
        at = 0
        for piece in sorted(held.get(identity, ()), key=lambda piece: piece.start):
            if piece.start > at:
                yield Piece(identity, key, at, piece.start)
            at = piece.end
        if at < chunks:
            yield Piece(identity, key, at, chunks)


def _make_groups(
    pieces: Iterable[Weighed], known: Mapping[str, Keyed], recipe_key: str, budget: int
) -> Iterator[PlannedGroup]:
    """Put pieces into groups, in their order. A document is cut only where it does not fit into a group of its own."""
    waiting: list[Piece] = []
    used = 0
    for piece, head, tokens in pieces:
        whole = head + sum(tokens)
        # A group names a document once, so the two ends of one whose middle was kept do not meet in a group.
        again = bool(waiting) and waiting[-1].document_id == piece.document_id
        if waiting and (again or used + whole > budget):
            yield _planned(waiting, known, recipe_key)
            waiting, used = [], 0
        for part, size in _cut(piece, head, tokens, budget) if whole > budget else [(piece, whole)]:
            if waiting and used + size > budget:
                yield _planned(waiting, known, recipe_key)
                waiting, used = [], 0
            waiting.append(part)
            used += size
    if waiting:
        yield _planned(waiting, known, recipe_key)


def _cut(piece: Piece, head: int, tokens: Sequence[int], budget: int) -> Iterator[tuple[Piece, int]]:
    start, size = piece.start, head
    for ordinal, count in enumerate(tokens, piece.start):
        if head + count > budget:
            raise LimitError(
                f"chunk {ordinal} of document {piece.document_id!r} takes {head + count} tokens, more than the "
                f"{budget} that are encoded together: lower chunking.max_tokens, or raise memory.window_tokens",
                subject=piece.document_id,
            )
        if size + count > budget:
            yield piece._replace(start=start, end=ordinal), size
            start, size = ordinal, head
        size += count
    yield piece._replace(start=start), size


def _planned(pieces: Sequence[Piece], known: Mapping[str, Keyed], recipe_key: str) -> PlannedGroup:
    partly = {
        piece.document_id: (piece.start, piece.end)
        for piece in pieces
        if (piece.start, piece.end) != (0, known[piece.document_id].chunks)
    }
    return PlannedGroup(group_key(recipe_key, pieces), tuple(pieces), partly)


__all__ = [
    "MOST_SMALL",
    "Grouping",
    "Keyed",
    "Piece",
    "PlannedGroup",
    "Weighed",
    "group_key",
    "pieces_of",
    "plan_groups",
]
