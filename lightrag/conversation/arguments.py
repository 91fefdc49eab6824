"""Checks of what callers hand over; each names the argument and what would do.

Every function raises ``UsageError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrag.errors import UsageError


def conversation_name(name: str) -> str:
    """A conversation's name, if it is one."""
    if not name.strip() or len(name) > 256:
        raise UsageError(f"conversation {name[:40]!r} must have 1 to 256 characters", subject="conversation")
    return name


def tag_names(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags as they are stored: distinct, without case."""
    listed = (tags,) if isinstance(tags, str) else tuple(tags)
    if not all(isinstance(tag, str) and tag.strip() for tag in listed):
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
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}", subject=name)


def share(value: float) -> None:
    """Refuse similarities outside 0 to 1."""
    if not 0 <= value <= 1:
        raise UsageError(f"score_threshold must lie between 0 and 1, not {value}", subject="score_threshold")


__all__ = ["conversation_name", "instructions_of", "positive", "share", "tag_names"]
