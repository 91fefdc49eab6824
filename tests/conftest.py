"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import tiny_cross_encoder, tiny_llama, tiny_qwen2

# Ray gives its workers what others leave of the processor; here the others are tests that run beside.
os.environ.setdefault("RAY_worker_niceness", "0")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

__all__ = ["shared", "tiny_cross_encoder", "tiny_llama", "tiny_qwen2"]


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Path inside the folder of reference data beside the project; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"reference data {relative!r} is not beside the project")
        return path

    return find
