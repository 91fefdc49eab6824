"""Checks of what callers hand over; each names the argument and what would do.

Every function raises ``UsageError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrag.conversation.history.entries import number
from lightrag.errors import NotFoundError, UsageError


def conversation_name(name: str) -> str:
    """A conversation's name, if it is one."""
    return _name(name, "conversation")


def request_name(request_id: str | None) -> str | None:
    """What makes a call repeatable, if it is a name."""
    return None if request_id is None else _name(request_id, "request_id")


def _name(name: str, what: str) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 256:
        raise UsageError(f"{what} {str(name)[:40]!r} must have 1 to 256 characters", subject=what)
    if not _storable(name):
        raise UsageError(f"{what} {name[:40]!r} holds characters that no database takes: leave them out", subject=what)
    return name


def _storable(text: str) -> bool:
    # Stores refuse NUL bytes, and lone surrogates cannot be encoded.
    return "\0" not in text and text.encode("utf-8", "replace").decode("utf-8") == text


def entry_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """Ids of entries and messages, if they can be any."""
    listed = (ids,) if isinstance(ids, str) else tuple(ids)
    for item_id in listed:
        try:
            number(item_id, "message" if str(item_id).startswith("m") else "entry")
        except NotFoundError as error:
            raise UsageError(f"exclude_ids: {error}", subject="exclude_ids") from error
    return listed


def tag_names(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags as they are stored: distinct, without case."""
    listed = (tags,) if isinstance(tags, str) else tuple(tags)
    if not all(isinstance(tag, str) and tag.strip() and _storable(tag) for tag in listed):
        raise UsageError(f"tags are non-empty texts, got {tags!r}", subject="boundmem_tags")
    return tuple(dict.fromkeys(tag.strip().casefold() for tag in listed))


def instructions_of(prompt: str | Mapping[str, str] | None) -> tuple[str, str]:
    """Own instructions for facts and for relations; empty where there are none."""
    if prompt is None:
        return "", ""
    if isinstance(prompt, str):
        return prompt, ""
    unknown = set(prompt) - {"factual", "relational"}
    if unknown:
        raise UsageError(f"METADATA_GENERATE_PROMPT has keys 'factual' and 'relational', not {sorted(unknown)}")
    return prompt.get("factual", ""), prompt.get("relational", "")


def positive(**values: int | None) -> None:
    """Refuse numbers below 1; ``None`` stands for a default."""
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}", subject=name)


def share(value: float) -> None:
    """Refuse similarities outside 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"score_threshold must lie between 0 and 1, not {value!r}", subject="score_threshold")


__all__ = [
    "conversation_name",
    "entry_ids",
    "instructions_of",
    "positive",
    "request_name",
    "share",
    "tag_names",
]
