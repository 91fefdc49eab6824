"""What jobs may read and change that strangers ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import unquote

from lightrag.errors import UsageError
from lightrag.ingestion.globs import has_wildcard, split_pattern


def require_allowed(location: str, sources: Sequence[str]) -> None:
    """Refuse a location that is not below one of the allowed folders and URLs.

    Links are followed first, and ``..`` is resolved or refused, so that nothing leads out.

    Raises:
        UsageError: it is not.
    """
    wanted = _place(location)
    for source in sources:
        root = _place(source).rstrip("/")
        if wanted == root or wanted.startswith(root + "/"):
            return
    raise UsageError(
        f"jobs that are submitted over HTTP may not read {location!r}: upload the documents, or let the operator add "
        "the place to jobs.sources",
        subject=location,
    )


def _place(location: str) -> str:
    """A path without links, or a URL as it is."""
    scheme, mark, rest = location.partition("://")
    if mark and scheme != "file":
        if ".." in unquote(rest).split("/"):
            raise UsageError(f"{location!r} has a segment '..'", subject=location)
        return location
    path = os.path.abspath(os.path.expanduser(rest if mark else location))
    if has_wildcard(path) and not os.path.lexists(path):
        path = split_pattern(path).base
    return os.path.realpath(path)


__all__ = ["require_allowed"]
