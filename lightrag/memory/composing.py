"""Several documents' memories as one: put together, replaced, removed, taken out again.

Knows nothing of models. Cells are exact within a document and do not know of the other documents, as if each had been
read alone; only their positions change, by one rotation of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightrag.errors import NotFoundError, UsageError
from lightrag.memory.kv_memory import BeaconState, KVMemory, MemoryPart
from lightrag.memory.rope import move_keys


class DocumentMemory(NamedTuple):
    """A memory and the document it is of."""

    document_id: str
    memory: KVMemory


def compose(documents: Sequence[DocumentMemory]) -> KVMemory:
    """Put the memories of several documents one after the other.

    Open windows are closed as they are, so text appended later starts a new window.

    Args:
        documents: each with an id of its own; memories may be composed ones, whose parts then keep their ids.

    Raises:
        UsageError: there are none, two have one id, a model's keys cannot be moved, or scalings differ because one
            sequence outgrew the trained window.
        ArtifactError: the memories were made by different models.
    """
    if not documents:
        raise UsageError("there is no memory to compose")
    first = documents[0].memory
    pieces = [piece for document in documents for piece in _pieces(document)]
    ids = [piece.document_id for piece in pieces]
    if len(set(ids)) != len(ids):
        raise UsageError(f"document ids must differ, got {sorted(name for name in set(ids) if ids.count(name) > 1)!r}")
    for piece in pieces:
        first.model.check(piece.memory.model)
        if replace(piece.memory.rope, length=0) != replace(first.rope, length=0):
            raise UsageError(
                f"the memory of {piece.document_id!r} is rotated differently, because its text was longer than the "
                "model's trained window: it cannot be composed with others"
            )
    return _join(pieces)


def extract(memory: KVMemory, document_id: str) -> KVMemory:
    """Take one document's memory out of a composed one, at positions from 0 again.

    Raises:
        NotFoundError: there is no such document in it.
    """
    part = _find(memory, document_id)
    keys = tuple(_moved(layer, part.start, part.cells, 0, memory) for layer in memory.keys)
    values = tuple(layer[:, part.start : part.start + part.cells] for layer in memory.values)
    return KVMemory(
        kind=memory.kind,
        model=memory.model,
        keys=keys,
        values=values,
        rope=replace(memory.rope, length=part.cells),
        source_tokens=part.source_tokens,
        beacon=BeaconState() if memory.beacon is not None else None,
    )


def replace_documents(memory: KVMemory, changed: Mapping[str, KVMemory | None]) -> KVMemory:
    """Replace the memories of some documents in place; ``None`` removes one.

    Raises:
        NotFoundError: a document is not part of the memory.
        UsageError: nothing would be left, or a new memory does not fit; see :func:`compose`.
        ArtifactError: another model made one of the new memories.
    """
    for document_id in changed:
        _find(memory, document_id)
    documents = []
    for part in memory.parts:
        successor = changed[part.document_id] if part.document_id in changed else extract(memory, part.document_id)
        if successor is not None:
            documents.append(DocumentMemory(part.document_id, successor))
    return compose(documents)


def _pieces(document: DocumentMemory) -> list[DocumentMemory]:
    memory = document.memory
    if not memory.parts:
        return [document]
    return [DocumentMemory(part.document_id, extract(memory, part.document_id)) for part in memory.parts]


def _join(pieces: Sequence[DocumentMemory]) -> KVMemory:
    first = pieces[0].memory
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += piece.memory.cells
    layers = range(len(first.keys))
    keys = tuple(
        torch.cat(
            [
                _moved(piece.memory.keys[layer], 0, piece.memory.cells, start, piece.memory)
                for piece, start in zip(pieces, starts, strict=True)
            ],
            1,
        )
        for layer in layers
    )
    return KVMemory(
        kind=first.kind,
        model=first.model,
        keys=keys,
        values=tuple(torch.cat([piece.memory.values[layer] for piece in pieces], 1) for layer in layers),
        rope=replace(first.rope, length=at),
        source_tokens=sum(piece.memory.source_tokens for piece in pieces),
        beacon=BeaconState() if first.beacon is not None else None,
        parts=tuple(
            MemoryPart(piece.document_id, start, piece.memory.cells, piece.memory.source_tokens)
            for piece, start in zip(pieces, starts, strict=True)
        ),
    )


def _moved(keys: Tensor, start: int, cells: int, target: int, memory: KVMemory) -> Tensor:
    """Take a range of keys, rotated for where it lies, and rotate it for ``target`` on."""
    piece = keys[:, start : start + cells]
    if start == target:
        return piece
    table = memory.rope.table(keys.device)
    places = torch.arange(cells, device=keys.device)
    return move_keys(piece, places + start, places + target, table)


def _find(memory: KVMemory, document_id: str) -> MemoryPart:
    for part in memory.parts:
        if part.document_id == document_id:
            return part
    held = [part.document_id for part in memory.parts]
    raise NotFoundError(f"document {document_id!r} is not part of this memory; it holds {held!r}", subject=document_id)


__all__ = ["DocumentMemory", "compose", "extract", "replace_documents"]
