"""From the tree of a metadata filter to Qdrant's conditions, for the engine in process and for the client alike.

Both packages name the same classes; the few differences are arguments here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from lightrag.errors import UsageError
from lightrag.retrieval.filters import And, Between, Contains, Equal, Exists, FilterNode, Not, Or


class Dialect(NamedTuple):
    """Where the classes come from, and how a range and a match are spelled."""

    names: ModuleType
    range_name: str
    match_any: Callable[[ModuleType, list[Any]], Any]
    match_one: Callable[[ModuleType, Any], Any]


def edge_dialect() -> Dialect:
    """The engine in process."""
    import qdrant_edge

    return Dialect(
        qdrant_edge,
        "RangeFloat",
        lambda names, values: names.MatchAny(values),
        lambda names, value: names.MatchValue(value),
    )


def client_dialect() -> Dialect:
    """The client of a server."""
    from qdrant_client import models

    return Dialect(
        models,
        "Range",
        lambda names, values: names.MatchAny(any=values),
        lambda names, value: names.MatchValue(value=value),
    )


def to_filter(node: FilterNode, dialect: Dialect) -> Any:
    """Translate a filter tree into a ``Filter`` of the dialect, as flat as it can be.

    Conditions that stand directly in a filter are answered from payload indexes; inside another filter each point is
    looked at.
    """
    names = dialect.names
    match node:
        case And(parts=parts):
            barred = [part.part for part in parts if isinstance(part, Not)]
            wanted = [part for part in parts if not isinstance(part, Not)]
            return names.Filter(
                must=[_condition(part, dialect) for part in wanted],
                must_not=[_condition(part, dialect) for part in barred],
            )
        case Or(parts=parts):
            # An empty list of alternatives would mean "anything" to Qdrant; here it holds nowhere.
            return names.Filter(should=[_condition(part, dialect) for part in parts]) if parts else nothing(dialect)
        case Not(part=part):
            return names.Filter(must_not=[_condition(part, dialect)])
        case _:
            return names.Filter(must=[_condition(node, dialect)])


def _condition(node: FilterNode, dialect: Dialect) -> Any:
    """A bare condition where one says it all, else a filter."""
    match node:
        case Equal():
            alternatives = _equal(node, dialect)
            if len(alternatives) == 1:
                return alternatives[0]
            return dialect.names.Filter(should=alternatives) if alternatives else nothing(dialect)
        case Between():
            return _between(node, dialect)
        case Exists(field=field):
            return dialect.names.Filter(must_not=[_empty(field, dialect)])
        case Contains(field=field):
            raise UsageError(f"the filter 'contains' is not offered on {field!r} of memories; use 'eq' or 'in'")
        case _:
            return to_filter(node, dialect)


def nothing(dialect: Dialect) -> Any:
    """A filter that no item passes."""
    everything = dialect.names.Filter(must_not=[])
    return dialect.names.Filter(must_not=[everything])


def _equal(node: Equal, dialect: Dialect) -> list[Any]:
    texts = [value for value in node.values if isinstance(value, str)]
    numbers = [value for value in node.values if not isinstance(value, str)]
    conditions = [_between(Between(field=node.field, low=value, high=value), dialect) for value in numbers]
    if texts:
        # One value is matched twice as fast as a list of one.
        one = len(texts) == 1
        matched = dialect.match_one(dialect.names, texts[0]) if one else dialect.match_any(dialect.names, texts)
        conditions.append(dialect.names.FieldCondition(key=node.field, match=matched))
    return conditions


def _between(node: Between, dialect: Dialect) -> Any:
    if isinstance(node.low, str) or isinstance(node.high, str):
        raise UsageError(f"the filter on {node.field!r} compares with text; give a number", subject=node.field)
    bounds: dict[str, float] = {}
    if node.low is not None:
        bounds["gt" if node.low_open else "gte"] = float(node.low)
    if node.high is not None:
        bounds["lt" if node.high_open else "lte"] = float(node.high)
    names = dialect.names
    return names.FieldCondition(key=node.field, range=getattr(names, dialect.range_name)(**bounds))


def _empty(field: str, dialect: Dialect) -> Any:
    names = dialect.names
    if dialect.range_name == "Range":
        return names.IsEmptyCondition(is_empty=names.PayloadField(key=field))
    return names.IsEmptyCondition(field)


__all__ = ["Dialect", "client_dialect", "edge_dialect", "nothing", "to_filter"]
