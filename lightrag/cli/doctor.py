"""What is installed, what works, what to do: each check looks at the real thing and says what it found."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from lightrag.config import Settings
from lightrag.errors import LightRAGError


class Finding(NamedTuple):
    """Result of one check."""

    what: str
    state: Literal["ok", "absent", "broken"]
    """``absent`` things are optional and not there."""
    found: str
    cure: str = ""


_REQUIRED = ("ray", "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s", "pyarrow", "obstore")
_OPTIONAL = {
    "vllm": ("vllm", "fast generation and recall: pip install 'lightrag-ray[vllm]'"),
    "openai": ("openai", "remote models: pip install openai"),
    "psycopg": ("psycopg", "records in PostgreSQL: pip install 'lightrag-ray[postgres]'"),
    "fastmcp": ("fastmcp", "MCP server: pip install 'lightrag-ray[mcp]'"),
    "streamlit": ("streamlit", "web console: pip install 'lightrag-ray[console]'"),
}


def examine(settings: Settings) -> list[Finding]:
    """Run every check; a check that fails unexpectedly is a finding, too."""
    findings = [*_python(), *_packages()]
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        ("storage", _storage),
        ("embedder", _embedder),
        ("generator", _generator),
        ("KV memories", _memories),
        ("GPU", _gpu),
        ("service", _service),
    )
    for what, check in checks:
        try:
            findings.append(check(settings))
        except LightRAGError as error:
            findings.append(Finding(what, "broken", str(error), "see the message"))
        except ImportError as error:
            findings.append(Finding(what, "broken", str(error), "install the named package"))
    return findings


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("Python", "ok" if sys.version_info >= (3, 11) else "broken", version, "")
    try:
        other = importlib.metadata.version("lightrag-hku")
    except importlib.metadata.PackageNotFoundError:
        return
    yield Finding(
        "import name",
        "broken",
        f"lightrag-hku {other} is installed and also calls itself 'lightrag'",
        "pip uninstall lightrag-hku, then reinstall lightrag-ray; or use separate environments",
    )


def _packages() -> Iterator[Finding]:
    for name in _REQUIRED:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", f"pip install {name}")
    for name, (module, cure) in _OPTIONAL.items():
        present = importlib.util.find_spec(module) is not None
        yield Finding(
            name, "ok" if present else "absent", "installed" if present else "not installed", "" if present else cure
        )


def _storage(settings: Settings) -> Finding:
    from lightrag.storage.objects import open_object_store

    store = open_object_store(settings.storage_url, settings.storage.options)
    path = "doctor/probe"
    store.put(path, b"probe")
    try:
        works = store.get(path) == b"probe"
    finally:
        store.delete([path])
    state: Literal["ok", "broken"] = "ok" if works else "broken"
    return Finding("storage", state, f"{store.url}: written, read and deleted an object")


def _embedder(settings: Settings) -> Finding:
    import asyncio

    from lightrag.models import open_embedder

    embedder = open_embedder(settings.embedder)
    vectors = asyncio.run(embedder.embed(["a sentence"]))
    return Finding("embedder", "ok", f"{embedder.name}: {vectors.shape[1]} dimensions, {embedder.max_tokens} tokens")


def _generator(settings: Settings) -> Finding:
    generator = settings.generator
    if generator.backend == "extractive":
        return Finding(
            "generator", "ok", "extractive: answers are quotes", "set generator.backend to have answers written"
        )
    known = generator.model or "no model named"
    state: Literal["ok", "broken"] = "ok" if generator.model else "broken"
    return Finding(
        "generator", state, f"{generator.backend}: {known}", "" if generator.model else "set generator.model"
    )


def _memories(settings: Settings) -> Finding:
    from lightrag.memory.beacon.config import is_beacon_checkpoint
    from lightrag.memory.beacon.serving import serving_path
    from lightrag.memory.engine_model import served_cache, shares_engine
    from lightrag.models.files import resolve_model

    memory = settings.memory
    if not memory.model:
        return Finding("KV memories", "absent", "none: clues come from gists and links", "set memory.model")
    folder = resolve_model(memory.model)
    beacon = is_beacon_checkpoint(folder)
    found = f"{memory.kind} memories of {memory.model}, read by {memory.engine}"
    if shares_engine(settings):
        found += " on the generator's engine"
    if beacon and memory.engine == "vllm":
        path = serving_path(folder, served_cache(settings))
        found += f"; the engine loads {path}, " + ("which is there" if path.is_dir() else "written at its first start")
    if memory.kind == "beacon" and not beacon:
        cure = "name a beacon checkpoint, or set memory.kind to full"
        return Finding("KV memories", "broken", f"{memory.model} is no beacon checkpoint", cure)
    return Finding("KV memories", "ok", found)


def _gpu(settings: Settings) -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", "ok", torch.cuda.get_device_name(0))
    return Finding("GPU", "absent", "none; everything runs on the CPU")


def _service(settings: Settings) -> Finding:
    from lightrag.cli import process

    running = process.find(settings)
    if running:
        return Finding("service", "ok", f"running at {running.url}")
    return Finding("service", "absent", "not running", "lightrag up")


__all__ = ["Finding", "examine"]
