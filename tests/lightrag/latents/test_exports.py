from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["lightrag.latents", "lightrag.lexical"])
def test_public_names_exist_and_are_complete(name: str) -> None:
    package = import_module(name)
    assert set(package.__all__) == set(package._HOMES)
    assert all(getattr(package, item) is not None for item in package.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_importing_loads_no_model_library() -> None:
    code = (
        "import sys, lightrag.latents, lightrag.lexical, lightrag.latents.choice, lightrag.lexical.llmlingua2;"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
