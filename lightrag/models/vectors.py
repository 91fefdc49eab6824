"""Arithmetic that embedders share."""

from __future__ import annotations

import numpy as np

from lightrag.models.base import FloatMatrix


def unit_rows(rows: FloatMatrix) -> FloatMatrix:
    """Scale every row to length 1; rows of zeros stay as they are."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


__all__ = ["unit_rows"]
