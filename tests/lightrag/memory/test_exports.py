"""The package's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lightrag.memory


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    assert lightrag.memory.__all__ == sorted(lightrag.memory.__all__) == dir(lightrag.memory)
    for name in lightrag.memory.__all__:
        assert getattr(lightrag.memory, name).__module__.startswith("lightrag.memory.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lightrag.memory.nothing  # noqa: B018  # the access is the test


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, lightrag.memory; print([n for n in ('torch', 'transformers', 'vllm') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
