"""The examples in the documentation of storage run as they stand."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["artifacts", "objects", "records", "residency"])
def test_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"lightrag.storage.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
