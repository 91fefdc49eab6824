"""Metadata filters: a JSON form, checked into a small tree, evaluated column by column before any search.

It does not know about indexes: the result is a boolean mask over passages, applied inside the search, so a filter never
costs recall. Values are only ever compared; nothing is interpolated into a query language.

The JSON form::

    {"language": "en"}                                       equality, the short form of {"language": {"eq": "en"}}
    {"year": {"gte": 2019, "lt": 2024}}                      several operators on one field must all hold
    {"page": {"range": [3, 9]}}                              both ends included; null leaves an end open
    {"source": {"contains": "minutes/"}, "draft": false}     several fields must all hold
    {"or": [{"tags": {"in": ["audit", "tax"]}}, {"not": {"author": {"exists": true}}}]}

Fields are those of :data:`CHUNK_FIELDS` and the names in ``Chunk.metadata``; ``metadata.title`` names a metadata field
that a chunk field hides.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from lightrag.errors import UsageError

Operator = Literal["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "range", "contains", "exists"]
OPERATORS: tuple[str, ...] = get_args(Operator)
COMBINATIONS = ("and", "or", "not")
CHUNK_FIELDS = ("chunk_id", "document_id", "source", "title", "language", "page", "heading", "ordinal")

MAX_DEPTH = 32
MAX_NODES = 2_000

Scalar: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr
Number: TypeAlias = StrictInt | StrictFloat


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Equal(_Node):
    """The field has one of the values, or is a list that holds one of them. An absent field equals nothing."""

    kind: Literal["equal"] = "equal"
    field: str
    values: tuple[Scalar, ...] = Field(max_length=10_000)


class Between(_Node):
    """The field lies in a range of numbers, or of strings (so ISO dates compare in time order)."""

    kind: Literal["between"] = "between"
    field: str
    low: Number | StrictStr | None = None
    high: Number | StrictStr | None = None
    low_open: bool = False
    high_open: bool = False


class Contains(_Node):
    """The field is a string with this part, or a list with this member."""

    kind: Literal["contains"] = "contains"
    field: str
    value: StrictStr


class Exists(_Node):
    """The field is present; empty strings count as absent."""

    kind: Literal["exists"] = "exists"
    field: str


class And(_Node):
    """Every part holds; true where there is none."""

    kind: Literal["and"] = "and"
    parts: tuple[FilterNode, ...]


class Or(_Node):
    """Some part holds; false where there is none."""

    kind: Literal["or"] = "or"
    parts: tuple[FilterNode, ...]


class Not(_Node):
    """The part does not hold."""

    kind: Literal["not"] = "not"
    part: FilterNode


FilterNode: TypeAlias = Annotated[
    Equal | Between | Contains | Exists | And | Or | Not,
    Field(discriminator="kind"),
]

And.model_rebuild()
Or.model_rebuild()
Not.model_rebuild()


def parse_filter(form: Mapping[str, Any]) -> FilterNode:
    """Check the JSON form of a filter and return its tree.

    Raises:
        UsageError: an operator is unknown (the message names the nearest one), a value has the wrong type, or the
            filter is nested deeper than 32 levels or has more than 2,000 conditions.
    """
    return _Parser().combine(form, depth=0)


class _Parser:
    def __init__(self) -> None:
        self.nodes = 0

    def combine(self, form: Any, depth: int) -> FilterNode:
        if depth > MAX_DEPTH:
            raise UsageError(f"the filter is nested deeper than {MAX_DEPTH} levels: flatten it", subject="filter")
        if not isinstance(form, Mapping):
            raise UsageError(f"a filter is an object such as {{'language': 'en'}}, got {form!r}", subject="filter")
        parts = [self._entry(str(name), value, depth) for name, value in form.items()]
        return parts[0] if len(parts) == 1 else And(parts=tuple(parts))

    def _entry(self, name: str, value: Any, depth: int) -> FilterNode:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UsageError(f"the filter has more than {MAX_NODES} conditions: use 'in' with a list", subject="filter")
        word = name.lower()
        if word == "not":
            return Not(part=self.combine(value, depth + 1))
        if word in {"and", "or"}:
            if not isinstance(value, list | tuple):
                raise UsageError(f"{name!r} takes a list of filters, got {value!r}", subject="filter")
            parts = tuple(self.combine(part, depth + 1) for part in value)
            return And(parts=parts) if word == "and" else Or(parts=parts)
        if isinstance(value, Mapping):
            conditions = tuple(_condition(name, str(operator), operand) for operator, operand in value.items())
            if not conditions:
                raise UsageError(f"the filter on {name!r} has no operator: use one of {_listed()}", subject=name)
            return conditions[0] if len(conditions) == 1 else And(parts=conditions)
        return _condition(name, "eq", value)


def _condition(field: str, operator: str, operand: Any) -> FilterNode:
    word = operator.lower()
    if word not in OPERATORS:
        near = difflib.get_close_matches(word.lstrip("$"), [*OPERATORS, *COMBINATIONS], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {_listed()}"
        raise UsageError(f"unknown filter operator {operator!r} on field {field!r}: {hint}", subject=field)
    try:
        return _build(field, word, operand)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise UsageError(
            f"the filter {operator!r} on field {field!r} cannot take {operand!r}: {problem}", subject=field
        ) from error


def _build(field: str, operator: str, operand: Any) -> FilterNode:
    node: FilterNode
    match operator:
        case "eq" | "ne":
            node = Equal(field=field, values=(operand,))
        case "in" | "nin":
            node = Equal(field=field, values=operand)
        case "contains":
            node = Contains(field=field, value=operand)
        case "exists":
            return _existence(field, operand)
        case "range":
            return _range(field, operand)
        case _:
            return _bound(field, operator, operand)
    return Not(part=node) if operator in {"ne", "nin"} else node


def _existence(field: str, operand: Any) -> FilterNode:
    if not isinstance(operand, bool):
        raise UsageError(f"the filter 'exists' on field {field!r} takes true or false, got {operand!r}", subject=field)
    return Exists(field=field) if operand else Not(part=Exists(field=field))


def _bound(field: str, operator: str, operand: Any) -> Between:
    if operand is None:
        raise UsageError(f"the filter {operator!r} on field {field!r} needs a number or a string", subject=field)
    is_open = operator in {"gt", "lt"}
    if operator in {"gt", "gte"}:
        return Between(field=field, low=operand, low_open=is_open)
    return Between(field=field, high=operand, high_open=is_open)


def _range(field: str, operand: Any) -> Between:
    if not isinstance(operand, list | tuple) or len(operand) != 2 or operand[0] is operand[1] is None:
        raise UsageError(f"the filter 'range' on field {field!r} takes [low, high], got {operand!r}", subject=field)
    low, high = operand
    if low is not None and high is not None and isinstance(low, str) != isinstance(high, str):
        raise UsageError(f"the range {operand!r} on field {field!r} mixes numbers and strings", subject=field)
    return Between(field=field, low=low, high=high)


def _listed() -> str:
    return ", ".join(OPERATORS)


__all__ = [
    "CHUNK_FIELDS",
    "COMBINATIONS",
    "OPERATORS",
    "And",
    "Between",
    "Contains",
    "Equal",
    "Exists",
    "FilterNode",
    "Not",
    "Operator",
    "Or",
    "parse_filter",
]
