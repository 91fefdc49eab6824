"""Arrays as safetensors buffers, with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode named arrays."""
    from safetensors.numpy import save

    return save(dict(arrays))


_NAMES: Final = {"f8": "F64", "f4": "F32", "i8": "I64", "i4": "I32", "u1": "U8"}
"""What the format calls the types that an index has."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Encode named arrays into a file, as :func:`pack_arrays` does, without holding a copy of them."""
    head: dict[str, object] = {}
    at = 0
    # Wide numbers first, so that every array lies at a multiple of the size of its numbers.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    for name, values in ordered:
        kind = _NAMES[values.dtype.newbyteorder("<").str[1:]]
        head[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, values in ordered:
            np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tofile(file)


def unpack_arrays(files: Mapping[str, bytes], name: str) -> dict[str, NDArray[Any]]:
    """Decode the arrays of one named buffer; a missing one raises ``KeyError`` with its name.

    Raises:
        ArtifactError: the buffer is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(files[name])
    except SafetensorError as error:
        raise ArtifactError(f"{name} of the index is damaged: {error}", subject=name) from error


__all__ = ["pack_arrays", "unpack_arrays", "write_arrays"]
