"""Reading the JSON that a language model answered: fences off, small damage repaired, every item checked."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_FENCE = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")


class Answer(NamedTuple):
    """A parsed answer."""

    value: Any
    whole: bool
    """False where the text broke off inside an item; the items before it are in ``value``."""


def read_json(text: str) -> Answer | None:
    """Parse an answer; ``None`` where nothing in it is JSON.

    Lossless repairs: code fences, text around the JSON, trailing commas, missing closing brackets after a whole item.
    """
    body = text.strip()
    fenced = _FENCE.search(body)
    if fenced:
        body = fenced[1].strip()
    starts = [place for place in (body.find("{"), body.find("[")) if place >= 0]
    if not starts:
        return None
    body = body[min(starts) :]
    for candidate in (body, _TRAILING_COMMA.sub(r"\1", body)):
        try:
            return Answer(json.JSONDecoder().raw_decode(candidate)[0], True)
        except json.JSONDecodeError:
            continue
    return _closed(body)


def _closed(body: str) -> Answer | None:
    """Close a text that broke off, at its end or after its last whole item."""
    ends, stack = _item_ends(body)
    if stack and ends and body[ends[-1][0] :].strip(" \n\t,") == "":
        closed = _parse(body[: ends[-1][0]] + ends[-1][1])
        if closed is not None:
            return Answer(closed, True)
    for end, closing in reversed(ends):
        value = _parse(body[:end] + closing)
        if value is not None:
            return Answer(value, False)
    return None


def _item_ends(body: str) -> tuple[list[tuple[int, str]], list[str]]:
    """Where each bracketed item ends, with what would close everything around it; and what is open at the end."""
    stack: list[str] = []
    ends: list[tuple[int, str]] = []
    quoted = escaped = False
    for place, char in enumerate(body):
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "{[":
            stack.append("}" if char == "{" else "]")
        elif char in "}]" and stack:
            stack.pop()
            ends.append((place + 1, "".join(reversed(stack))))
    return ends, stack


def _parse(text: str) -> Any:
    try:
        return json.loads(_TRAILING_COMMA.sub(r"\1", text))
    except json.JSONDecodeError:
        return None


def items_of(value: Any) -> list[Any] | None:
    """The list in an answer: the answer itself, its ``data``, or its only list; ``None`` where there is none."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("data"), list):
            return list(value["data"])
        lists = [member for member in value.values() if isinstance(member, list)]
        if len(lists) == 1:
            return list(lists[0])
    return None


__all__ = ["Answer", "items_of", "read_json"]
