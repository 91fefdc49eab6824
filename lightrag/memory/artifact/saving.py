"""Writes a memory to a place: large safetensors files, each part hashed as it leaves, then ``memory.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.memory.artifact.layout import header_for
from lightrag.memory.artifact.manifest import (
    MANIFEST_NAME,
    Manifest,
    Quantisation,
    StoredFile,
    describe_memory,
    fingerprint_of,
)
from lightrag.memory.artifact.places import FolderPlace, MemoryPlace
from lightrag.memory.artifact.quantise import quantise_keys, quantise_values
from lightrag.memory.kv_memory import KVMemory
from lightrag.storage.objects import PART_BYTES, Buffer

_FILE_BYTES: Final = 1024 * 1024 * 1024
"""Files are closed once they are about so large; a layer is never divided."""


def save_memory(memory: KVMemory, place: MemoryPlace | str | Path, *, quantisation: Quantisation = "none") -> Manifest:
    """Write a memory; it is there once its ``memory.json`` is, which is written last.

    Args:
        memory: on any device; it is moved to the CPU layer by layer.
        place: a folder, or an object store's place.
        quantisation: ``int8`` halves bfloat16 (keys per channel, values per cell).

    Raises:
        UsageError: the memory has no cells.
        BackendError: the place cannot be written.
    """
    if memory.cells == 0:
        raise UsageError("a memory without cells cannot be stored")
    target = FolderPlace(place) if isinstance(place, str | Path) else place
    files = []
    for number, (first, end) in enumerate(_layer_ranges(memory)):
        stream = _FileStream(_tensors(memory, first, end, quantisation))
        name = f"cells-{number:05d}.safetensors"
        target.write(name, stream)
        files.append(StoredFile(name=name, size=stream.size, layers=(first, end), digests=stream.digests))
    manifest = describe_memory(
        memory,
        files,
        quantisation=quantisation,
        part_bytes=PART_BYTES,
        fingerprint=fingerprint_of(memory.model, files),
    )
    target.write(MANIFEST_NAME, [json.dumps(manifest.model_dump(), separators=(",", ":")).encode()])
    return manifest


class _FileStream:
    """Yields a file's bytes in parts of equal length and remembers their digests."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self.digests: list[str] = []
        self.size = 0

    def __iter__(self) -> Iterator[Buffer]:
        from blake3 import blake3

        for part in _in_parts(self._pieces()):
            self.digests.append(blake3(part, max_threads=blake3.AUTO).hexdigest())
            self.size += len(part)
            yield part

    def _pieces(self) -> Iterator[memoryview]:
        yield memoryview(header_for(self._tensors))
        for name in list(self._tensors):
            flat = self._tensors.pop(name).contiguous().view(-1).view(torch.uint8)
            yield flat.numpy().data


def _in_parts(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """Cut into parts of ``PART_BYTES``; only parts that span two pieces are copied."""
    waiting = bytearray()
    for piece in pieces:
        at = 0
        if waiting:
            at = min(PART_BYTES - len(waiting), len(piece))
            waiting += piece[:at]
            if len(waiting) == PART_BYTES:
                yield memoryview(bytes(waiting))
                waiting = bytearray()
        while len(piece) - at >= PART_BYTES:
            yield piece[at : at + PART_BYTES]
            at += PART_BYTES
        waiting += piece[at:]
    if waiting:
        yield memoryview(bytes(waiting))


def _layer_ranges(memory: KVMemory) -> list[tuple[int, int]]:
    layer_bytes = memory.byte_count // len(memory.keys)
    step = max(1, _FILE_BYTES // max(layer_bytes, 1))
    return [(first, min(first + step, len(memory.keys))) for first in range(0, len(memory.keys), step)]


def _tensors(memory: KVMemory, first: int, end: int, quantisation: Quantisation) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer in range(first, end):
        keys, values = (side[layer].detach().cpu() for side in (memory.keys, memory.values))
        if quantisation == "int8":
            small_keys, small_values = quantise_keys(keys), quantise_values(values)
            tensors[f"layers.{layer}.k"], tensors[f"layers.{layer}.k_scale"] = small_keys
            tensors[f"layers.{layer}.v"], tensors[f"layers.{layer}.v_scale"] = small_values
        else:
            tensors[f"layers.{layer}.k"], tensors[f"layers.{layer}.v"] = keys, values
    # Wider numbers first: every tensor then begins at a multiple of its element size.
    return (
        dict(sorted(tensors.items(), key=lambda item: -item[1].element_size())) if quantisation == "int8" else tensors
    )


__all__ = ["save_memory"]
