"""Rows of training data from JSON lines, or from a JSON file that holds a list.

Knows nothing of what the fields mean. ``corpus.jsonl[1000]`` names a sample of 1,000 rows, always the same ones.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lightrag.errors import DataError, UsageError

_SAMPLED = re.compile(r"(?P<file>.+)\[(?P<count>\d+)\]")


class Row(NamedTuple):
    """One object of a file."""

    file: Path
    number: int
    """Of the line, or of the object in its list; counted from 1."""
    values: dict[str, Any]

    def field(self, name: str, kind: type) -> Any:
        """A value that must be there.

        Raises:
            DataError: it is missing or of another type.
        """
        value = self.values.get(name)
        if not isinstance(value, kind):
            raise self.fault(f"needs a field {name!r} of type {kind.__name__}")
        return value

    def fault(self, what: str) -> DataError:
        """An error that names this row."""
        return DataError(f"line {self.number} of {str(self.file)!r} {what}", subject=str(self.file))


def read_rows(source: str | Path) -> Iterator[Row]:
    """Read the rows of a source one after the other.

    Args:
        source: a file, or ``file[N]`` for N of its rows, drawn with a fixed seed and kept in order.

    Raises:
        UsageError: there is no such file, or it has fewer than N rows.
        DataError: a row is not an object.
    """
    sampled = _SAMPLED.fullmatch(str(source))
    file = Path(source)
    if sampled is None or file.exists():
        yield from _rows(file)
        return
    file, count = Path(sampled["file"]), int(sampled["count"])
    total = sum(1 for _ in _numbered(file))
    if not 0 < count <= total:
        raise UsageError(f"{str(source)!r} asks for {count} rows, {str(file)!r} has {total}", subject=str(file))
    drawn = set(random.Random(0).sample(range(total), count))  # noqa: S311  # no secret depends on it
    yield from (row for place, row in enumerate(_rows(file)) if place in drawn)


def _rows(file: Path) -> Iterator[Row]:
    for number, content in _numbered(file):
        values = _parse(file, number, content) if isinstance(content, str) else content
        row = Row(file, number, values)
        if not isinstance(values, dict):
            raise row.fault("is not an object")
        yield row


def _numbered(file: Path) -> Iterator[tuple[int, Any]]:
    """Lines that are not blank, or what a JSON list holds."""
    try:
        # Only "\n" ends a line: JSON strings may hold other separators.
        with file.open(encoding="utf-8", newline="\n") as lines:
            if file.suffix == ".json" and _first_letter(lines) == "[":
                yield from enumerate(_parse(file, 1, lines.read()), 1)
            else:
                yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise UsageError(f"training data {str(file)!r} cannot be read: {error.strerror}", subject=str(file)) from error


def _first_letter(lines: TextIO) -> str:
    letter = lines.read(1)
    while letter.isspace():
        letter = lines.read(1)
    lines.seek(0)
    return letter


def _parse(file: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"line {number} of {str(file)!r} is not JSON: {error}", subject=str(file)) from error


__all__ = ["Row", "read_rows"]
