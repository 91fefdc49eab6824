"""Which bytes of a file are which tensor: the safetensors header, written and read. Knows nothing of memories."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lightrag.errors import ArtifactError

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_ALIGNMENT = 64
"""Tensors begin at multiples of this, so that vector loads never straddle."""
LARGEST_HEADER = 16 * 1024 * 1024


class Place(NamedTuple):
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def header_for(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the header of a safetensors file that holds ``tensors`` in order, padding them to the alignment."""
    entries: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def parse_header(data: memoryview, file_size: int, subject: str) -> dict[str, Place]:
    """Read a header; offsets come back counted from the start of the file.

    Raises:
        ArtifactError: it is not one, or its tensors do not fit into the file.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        if length > min(LARGEST_HEADER, file_size):
            raise ValueError(f"header of {length} bytes")
        entries = json.loads(bytes(data[8 : 8 + length]))
        return {name: _place(entry, 8 + length, file_size) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{subject} is not a safetensors file: {error}", subject=subject) from error


def _place(entry: Mapping[str, object], base: int, file_size: int) -> Place:
    dtype = _DTYPES[str(entry["dtype"])]
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise TypeError("shape and data_offsets must be lists")
    begin, end = base + int(offsets[0]), base + int(offsets[1])
    if not base <= begin <= end <= file_size or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor of shape {shape} at bytes {begin} to {end} of {file_size}")
    return Place(dtype, tuple(int(size) for size in shape), begin, end)


def view(buffer: Tensor, place: Place) -> Tensor:
    """Return a tensor inside a byte buffer that holds the whole file, without copying."""
    return buffer[place.begin : place.end].view(place.dtype).view(place.shape)


__all__ = ["LARGEST_HEADER", "Place", "header_for", "parse_header", "view"]
