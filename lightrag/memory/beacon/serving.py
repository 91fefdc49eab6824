"""Makes a checkpoint that engines can serve from a beacon checkpoint.

For real tokens a beacon model is an ordinary Qwen2 or Mistral; engines know those, but refuse tensors they do not know.
The derived checkpoint holds everything else and the identity of its origin, so it reads that model's memories. It is
made once, takes as much room as the origin's files that hold beacon tensors, and may be deleted: it is made again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lightrag.errors import BackendError, UsageError
from lightrag.memory.beacon.checkpoint import tensor_names, weight_files
from lightrag.memory.beacon.config import is_beacon_checkpoint, read_config
from lightrag.memory.identity import IDENTITY_NAME, identify_model
from lightrag.models.files import sampled_fingerprint

_LOG = logging.getLogger(__name__)
_FORMAT: Final = "serving-1"
"""Changes when what is written changes."""


def serving_checkpoint(folder: Path, cache: Path) -> Path:
    """Return a folder that engines can serve: ``folder`` itself, or the ordinary part of a beacon checkpoint.

    The latter is written below ``cache`` when it is first needed and found there afterwards. Processes that need it at
    the same time wait for the one that writes; one that is killed leaves nothing that is taken for a checkpoint.

    Raises:
        ConfigurationError: ``folder`` holds no model.
        UsageError: its weights are not safetensors.
        ArtifactError: a weight file is damaged.
        BackendError: ``cache`` cannot be written.
    """
    if not is_beacon_checkpoint(folder):
        return folder
    target = serving_path(folder, cache)
    if target.is_dir():
        return target
    try:
        with _only_one(cache):
            if not target.is_dir():
                _LOG.warning("engines read the ordinary part of %s: writing it to %s, once", folder, target)
                _write(folder, target)
    except OSError as error:
        raise BackendError(
            f"the part of {str(folder)!r} that engines read cannot be written to {str(target)!r}: {error}",
            subject=str(target),
        ) from error
    return target


def serving_path(folder: Path, cache: Path) -> Path:
    """Where the ordinary part of a beacon checkpoint is, or will be, named by everything that is in the checkpoint."""
    return cache / sampled_fingerprint(folder, salt=_FORMAT)


def _write(folder: Path, target: Path) -> None:
    """Write beside the target, and give it its name when it is whole. Needs the lock."""
    for abandoned in target.parent.glob(".partial-*"):
        shutil.rmtree(abandoned)
    partial = target.with_name(f".partial-{target.name}")
    try:
        export_serving_checkpoint(folder, partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def export_serving_checkpoint(folder: str | Path, target: str | Path) -> Path:
    """Write the ordinary part of a beacon checkpoint to another folder; returns that folder.

    Args:
        folder: the beacon checkpoint, in safetensors.
        target: must not exist yet, or be empty.

    Raises:
        UsageError: ``folder`` is not a beacon checkpoint in safetensors, or ``target`` is in use.
        ArtifactError: a weight file is damaged.
    """
    source, place = Path(folder), Path(target)
    if not is_beacon_checkpoint(source):
        raise UsageError(
            f"{str(source)!r} is not a beacon checkpoint; engines can serve it as it is", subject=str(source)
        )
    if place.exists() and any(place.iterdir()):
        raise UsageError(f"{str(place)!r} is not empty", subject=str(place))
    files = weight_files(source)
    if any(path.suffix != ".safetensors" for path in files):
        raise UsageError(f"{str(source)!r} must be converted to safetensors first", subject=str(source))
    place.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path not in files and path.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy2(path, place / path.name)
    weight_map: dict[str, str] = {}
    for path in files:
        weight_map |= dict.fromkeys(copy_without_beacons(path, place / path.name), path.name)
    if len(files) > 1:
        _write_json(place / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    config = {name: value for name, value in read_config(source).items() if not name.startswith("beacon_")}
    _write_json(place / "config.json", config)
    _write_json(place / IDENTITY_NAME, asdict(identify_model(source)))
    return place


def copy_without_beacons(source: Path, target: Path) -> list[str]:
    """Write a weight file without its beacon tensors, or link it where it has none; returns the names of the others."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    names = tensor_names(source)
    kept = [name for name in names if "beacon_" not in name]
    if len(kept) == len(names):
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)
        return kept
    with safe_open(source, framework="pt") as file:
        save_file({name: file.get_tensor(name) for name in kept}, target, metadata={"format": "pt"})
    return kept


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


__all__ = ["copy_without_beacons", "export_serving_checkpoint", "serving_checkpoint", "serving_path"]
