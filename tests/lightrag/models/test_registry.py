"""Opening models by settings, and what the package loads by itself."""

from __future__ import annotations

import subprocess
import sys

import lightrag.models as models
from lightrag.config import GeneratorSettings
from lightrag.models.base import LanguageModel
from lightrag.models.registry import _EMBEDDERS, _LANGUAGE_MODELS


def test_every_public_name_exists() -> None:
    assert sorted(models.__all__) == models.__all__ == dir(models)
    for name in models.__all__:
        assert getattr(models, name).__name__ == name


def test_every_backend_of_the_settings_is_served() -> None:
    for section, served in ((models.registry.EmbedderSettings, _EMBEDDERS), (GeneratorSettings, _LANGUAGE_MODELS)):
        backends = section.model_fields["backend"].annotation.__args__  # type: ignore[union-attr]  # a Literal
        assert set(backends) == set(served)


def test_opening_loads_nothing_heavy() -> None:
    code = (
        "import sys, lightrag.models as m; from lightrag.config import *;"
        "m.open_embedder(EmbedderSettings());"
        "m.open_language_model(GeneratorSettings(backend='transformers', model='x'));"
        "m.open_language_model(GeneratorSettings(backend='vllm', model='x'));"
        "m.open_language_model(GeneratorSettings(backend='openai', model='x', base_url='http://127.0.0.1:9'));"
        "m.open_reranker('x');"
        "print([n for n in ('torch', 'transformers', 'vllm', 'openai', 'sentence_transformers') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_local_backends_are_language_models() -> None:
    for backend in ("transformers", "vllm"):
        model = models.open_language_model(GeneratorSettings(backend=backend, model="x", context_tokens=512))
        assert model is not None
        assert model.name == "x"
        assert all(hasattr(type(model), name) for name in ("complete", "stream", "close", "tokenizer"))
    assert isinstance(models.ScriptedLanguageModel([]), LanguageModel)
