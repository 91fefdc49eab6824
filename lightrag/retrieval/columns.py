"""A columnar view of what passages can be filtered by, and the evaluation of filters over it.

Each column holds every distinct value once and a code per passage, so a condition is decided once per distinct value
and spread over the passages by one array lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.retrieval.filters import (
    CHUNK_FIELDS,
    And,
    Between,
    Contains,
    Equal,
    Exists,
    FilterNode,
    Not,
    Or,
)
from lightrag.types import Chunk

Mask = NDArray[np.bool_]
"""Shape (passages,)."""

_ABSENT = (None, "", ())


@dataclass(frozen=True, slots=True)
class Column:
    """One field of all passages, dictionary-encoded."""

    values: tuple[Any, ...]
    """Distinct values; the first stands for an absent field."""
    codes: NDArray[np.int32]
    """Index into ``values`` per passage."""

    @classmethod
    def of(cls, cells: Sequence[Any]) -> Column:
        """Encode one value per passage; ``None``, empty strings and empty tuples count as absent."""
        seen: dict[tuple[type, Any], int] = {}
        values: list[Any] = [None]
        codes = np.zeros(len(cells), dtype=np.int32)
        for row, cell in enumerate(cells):
            if cell in _ABSENT:
                continue
            # The type is part of the key because True == 1 == 1.0 in Python.
            code = seen.setdefault((type(cell), cell), len(values))
            if code == len(values):
                values.append(cell)
            codes[row] = code
        return cls(tuple(values), codes)

    def where(self, holds: Callable[[Any], bool]) -> Mask:
        """Passages whose value is present and passes the test."""
        verdict = np.fromiter((False, *(holds(value) for value in self.values[1:])), dtype=bool, count=len(self.values))
        return verdict[self.codes]


class MetadataColumns:
    """Evaluates filters over a sequence of chunks; columns are encoded when a filter first names them.

    Safe to share between threads: encoding a column twice gives the same column.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._columns: dict[str, Column] = {}

    def evaluate(self, node: FilterNode) -> Mask:
        """Return which passages pass the filter, shape (passages,).

        Raises:
            UsageError: a field occurs in no passage, which is nearly always a slip in its name.
        """
        match node:
            case And(parts=parts):
                return self._all(parts)
            case Or(parts=parts):
                return ~self._all([Not(part=part) for part in parts])
            case Not(part=part):
                return ~self.evaluate(part)
            case Exists(field=field):
                return self.column(field).where(lambda _: True)
            case Equal(field=field):
                return self.column(field).where(_equality(node))
            case Contains(field=field, value=value):
                return self.column(field).where(lambda cell: isinstance(cell, str | tuple) and value in cell)
            case Between(field=field):
                return self.column(field).where(_in_range(node))

    def column(self, field: str) -> Column:
        """The encoded column of a chunk field or a metadata field.

        Raises:
            UsageError: no passage has such a field.
        """
        found = self._columns.get(field)
        if found is None:
            found = self._columns[field] = self._encode(field)
        return found

    def fields(self) -> tuple[str, ...]:
        """Names that a filter can use on these passages."""
        names = {name for chunk in self._chunks for name in chunk.metadata}
        return (*CHUNK_FIELDS, *sorted(f"metadata.{name}" if name in CHUNK_FIELDS else name for name in names))

    def _all(self, parts: Sequence[FilterNode]) -> Mask:
        mask = np.ones(len(self._chunks), dtype=bool)
        for part in parts:
            mask &= self.evaluate(part)
        return mask

    def _encode(self, field: str) -> Column:
        if field in CHUNK_FIELDS:
            return Column.of([getattr(chunk, field) for chunk in self._chunks])
        name = field.removeprefix("metadata.")
        column = Column.of([chunk.metadata.get(name) for chunk in self._chunks])
        if self._chunks and len(column.values) == 1 and name not in {n for c in self._chunks for n in c.metadata}:
            raise UsageError(
                f"no passage has a field {field!r} to filter by; there are {', '.join(self.fields())}", subject=field
            )
        return column


def _equality(node: Equal) -> Callable[[Any], bool]:
    wanted = {_comparable(value) for value in node.values}

    def holds(cell: Any) -> bool:
        if isinstance(cell, tuple):
            return any(_comparable(member) in wanted for member in cell)
        return _comparable(cell) in wanted or (node.field == "page" and _comparable(_page_number(cell)) in wanted)

    return holds


def _in_range(node: Between) -> Callable[[Any], bool]:
    bound = node.low if node.low is not None else node.high
    textual = isinstance(bound, str)

    def holds(cell: Any) -> bool:
        value = cell
        if node.field == "page" and not textual:
            value = _page_number(cell)
        if isinstance(value, bool | tuple) or value is None or isinstance(value, str) != textual:
            return False
        above = node.low is None or (value > node.low if node.low_open else value >= node.low)
        below = node.high is None or (value < node.high if node.high_open else value <= node.high)
        return above and below

    return holds


def _comparable(value: Any) -> tuple[str, Any]:
    # Booleans are no numbers here: a filter for 1 must not find True.
    return (type(value).__name__ if isinstance(value, bool | str) else "number", value)


def _page_number(label: Any) -> Any:
    """Pages are shown as strings; where one is a number it also compares as one."""
    return int(label) if isinstance(label, str) and label.isdecimal() and len(label) < 10 else None


__all__ = ["Column", "Mask", "MetadataColumns"]
