"""How a state is written as bytes: one row per state, so that any number of rows is one range of an object.

``int8`` rows are a little-endian float32 scale and one signed byte per value (value = byte * scale). ``sign`` rows,
for vectors that are only compared, are a scale and one bit per value (plus or minus scale), most significant bit first.
Other rows are the values themselves, little-endian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lightrag.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Encoding = Literal["sign", "int8", "bfloat16", "float16", "float32"]
_VALUE_BITS: dict[str, int] = {"sign": 1, "int8": 8, "bfloat16": 16, "float16": 16, "float32": 32}
_SCALED = frozenset({"sign", "int8"})


def row_bytes(hidden: int, encoding: Encoding) -> int:
    """Length of one row."""
    if encoding not in _VALUE_BITS:
        raise UsageError(f"encoding must be one of {', '.join(_VALUE_BITS)}, not {encoding!r}")
    return -(-hidden * _VALUE_BITS[encoding] // 8) + (4 if encoding in _SCALED else 0)


def pack_rows(states: Tensor, encoding: Encoding) -> bytes:
    """Write states of shape (rows, hidden).

    The largest error of an ``int8`` value is half its row's scale, 1/254 of the row's largest magnitude.
    """
    import torch

    if encoding not in _SCALED:
        return states.to(getattr(torch, encoding)).contiguous().cpu().view(torch.uint8).numpy().tobytes()
    values = states.float().cpu().numpy()
    if encoding == "sign":
        table = np.empty(len(values), dtype=_sign_row(states.shape[1]))
        table["scale"] = np.abs(values).mean(axis=1)
        table["bits"] = np.packbits(values >= 0, axis=1)
        return table.tobytes()
    scales = np.abs(values).max(axis=1) / 127 if len(values) else np.empty(0, np.float32)
    safe = np.where(scales > 0, scales, 1)[:, None]
    table = np.empty(len(values), dtype=_int8_row(states.shape[1]))
    table["scale"] = scales
    table["values"] = np.rint(values / safe).astype(np.int8)
    return table.tobytes()


def unpack_rows(data: bytes | bytearray | memoryview, hidden: int, encoding: Encoding) -> Tensor:
    """Read rows back: float32 from ``int8`` and ``sign``, the stored precision otherwise; shape (rows, hidden)."""
    import torch

    if encoding == "sign":
        table = np.frombuffer(data, dtype=_sign_row(hidden))
        signs = np.unpackbits(table["bits"], axis=1, count=hidden).astype(np.float32) * 2 - 1
        return torch.from_numpy(signs * table["scale"][:, None])
    if encoding == "int8":
        table = np.frombuffer(data, dtype=_int8_row(hidden))
        return torch.from_numpy(table["values"].astype(np.float32) * table["scale"][:, None])
    # A copy, because the buffer belongs to the caller and may be read-only.
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    return flat.view(getattr(torch, encoding)).view(-1, hidden)


def _int8_row(hidden: int) -> np.dtype[np.void]:
    return np.dtype([("scale", "<f4"), ("values", "i1", (hidden,))])


def _sign_row(hidden: int) -> np.dtype[np.void]:
    return np.dtype([("scale", "<f4"), ("bits", "u1", (-(-hidden // 8),))])


__all__ = ["Encoding", "pack_rows", "row_bytes", "unpack_rows"]
