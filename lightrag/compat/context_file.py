"""``context.json``: what is known of a memorised text, beside the cells of a memory or in the place of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from lightrag.compat.readers import Remembered
from lightrag.errors import ArtifactError

CONTEXT_NAME: Final = "context.json"
_FORMAT: Final = 1


def write_context(held: Remembered, folder: Path) -> None:
    """Write everything but the cells."""
    content = {
        "format": _FORMAT,
        "language": held.language,
        "source_tokens": held.source_tokens,
        "identity": held.identity,
        "text": held.text,
    }
    (folder / CONTEXT_NAME).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_context(folder: Path) -> Remembered:
    """Read what :func:`write_context` wrote; memories from elsewhere in this library have no such file.

    Raises:
        ArtifactError: it is damaged.
    """
    path = folder / CONTEXT_NAME
    if not path.is_file():
        return Remembered("und", 0)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"format {stored['format']!r} is not {_FORMAT}")
        return Remembered(
            str(stored["language"]),
            int(stored["source_tokens"]),
            text=str(stored["text"]),
            identity=str(stored["identity"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read: {error}", subject=str(path)) from error


__all__ = ["CONTEXT_NAME", "read_context", "write_context"]
