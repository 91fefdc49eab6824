"""The YAML block at the top of many Markdown files, as title, language and metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lightrag.types import MetadataValue

_BLOCK = re.compile(r"\A---[ \t]*\n(?P<yaml>.{0,65536}?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


class FrontMatter(NamedTuple):
    """What a file says about itself."""

    title: str = ""
    language: str = ""
    metadata: Mapping[str, MetadataValue] = MappingProxyType({})


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    """Return the front matter and the text behind it; a block that is not a YAML mapping stays in the text."""
    block = _BLOCK.match(text)
    if block is None:
        return FrontMatter(), text
    import yaml

    try:
        values = yaml.safe_load(block["yaml"])
    except (yaml.YAMLError, ValueError, RecursionError):  # two rules with prose between them, for example
        return FrontMatter(), text
    if not isinstance(values, dict):
        return FrontMatter(), text
    metadata = {str(name): clean for name, value in values.items() if (clean := _clean(value)) is not None}
    title, language = str(metadata.pop("title", "")), str(metadata.pop("lang", ""))
    return FrontMatter(title, language, metadata), text[block.end() :]


def _clean(value: Any) -> MetadataValue | None:
    """Return ``value`` as a filterable one: dates as ISO text, lists as tuples of text, nested mappings not at all."""
    if isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, list) and all(isinstance(item, str | int | float | bool) for item in value):
        return tuple(str(item) for item in value)
    return None


__all__ = ["FrontMatter", "split_front_matter"]
