"""What memories can be filtered by: names, units, and the two places where a filter is evaluated.

The same checked tree is asked of the vector store, inside its search, and of the columns beside the lexical index.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lightrag.conversation.clock import parse_time
from lightrag.conversation.history.ledger import moment
from lightrag.conversation.types import MemoryEntry
from lightrag.conversation.vectors.base import PayloadValue
from lightrag.errors import MessageError, UsageError
from lightrag.retrieval.filters import And, Between, Equal, Exists, FilterNode, Not, Or, parse_filter
from lightrag.types import Chunk, MetadataValue

FIELDS = {
    "time": "time", "time_stamp": "time", "float_time_stamp": "time", "valid_from": "time",
    "speaker": "speaker", "speaker_name": "speaker", "speaker_id": "speaker_id", "category": "category",
    "entity": "entity", "entities": "entity", "keyword": "keyword", "keywords": "keyword", "tag": "tag", "tags": "tag",
    "kind": "kind", "state": "state", "conversation": "conversation", "topic": "topic", "topic_id": "topic",
    "weekday": "weekday", "importance": "importance", "valid_to": "valid_to",
}  # fmt: skip
"""Names that a filter may use, ours and the published ones."""


def payload(entry: MemoryEntry) -> dict[str, PayloadValue]:
    """What an entry can be filtered by in a vector store; empty fields are left out."""
    fields: dict[str, PayloadValue] = {
        "time": moment(entry.time),
        "kind": entry.kind,
        "state": entry.state,
        "speaker": entry.speaker,
        "speaker_id": entry.speaker_id,
        "category": entry.category,
        "entity": list(entry.entities),
        "keyword": list(entry.keywords),
        "tag": list(entry.tags),
        "conversation": entry.conversation,
        "weekday": f"{entry.time:%a}",
        "importance": entry.importance,
    }
    if entry.topic is not None:
        fields["topic"] = entry.topic
    if entry.valid_to is not None:
        fields["valid_to"] = moment(entry.valid_to)
    return {name: value for name, value in fields.items() if value not in ("", [])}


# A field that no memory fills finds nothing; it is no slip in a name, which was checked before.
_BLANK: dict[str, MetadataValue] = dict.fromkeys(FIELDS.values(), "")


def chunk(entry: MemoryEntry, session: str, text: str) -> Chunk:
    """A row in the form in which retrieval filters, links and scores passages."""
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in payload(entry).items()}
    length = len(text)
    return Chunk(entry.entry_id, session, 0, text, 0, length, tokens=max(1, length // 4), metadata=_BLANK | known)


def read_filter(form: Mapping[str, Any]) -> FilterNode:
    """Check the JSON form of a filter (see ``lightrag.retrieval.filters``) on memories.

    Times are given as ``add_memory`` takes them: ``{"time": {"gte": "2024-01-01", "lt": "2024-02-01"}}``. A list stands
    for ``in``.

    Raises:
        UsageError: an operator or a field is unknown (the message names the nearest one), or a value does not fit.
    """
    return _bind(parse_filter({name: _listed(value) for name, value in form.items()}))


def valid_at(time: datetime | None) -> FilterNode:
    """What held at a time: said by then and not superseded by then. ``None``: what holds now."""
    if time is None:
        return Not(part=Equal(field="state", values=("superseded",)))
    instant = moment(time)
    ended = Between(field="valid_to", high=instant)
    return And(parts=(Between(field="time", high=instant), Not(part=ended)))


def _listed(value: Any) -> Any:
    return {"in": value} if isinstance(value, list | tuple) and value and not isinstance(value[0], Mapping) else value


def _bind(node: FilterNode) -> FilterNode:
    """Give a parsed filter the names and units that rows have.

    Raises:
        UsageError: a field is unknown; the message names the nearest one.
    """
    match node:
        case And(parts=parts):
            return And(parts=tuple(_bind(part) for part in parts))
        case Or(parts=parts):
            return Or(parts=tuple(_bind(part) for part in parts))
        case Not(part=part):
            return Not(part=_bind(part))
        case Between():
            low, high = (_value(node.field, bound) for bound in (node.low, node.high))
            return node.model_copy(update={"field": _field(node.field), "low": low, "high": high})
        case Equal():
            values = tuple(_value(node.field, value) for value in node.values)
            return node.model_copy(update={"field": _field(node.field), "values": values})
        case Exists():
            return node.model_copy(update={"field": _field(node.field)})
    raise UsageError(f"the filter 'contains' is not offered on {node.field!r} of memories; use 'eq' or 'in'")


def _field(name: str) -> str:
    known = FIELDS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(set(FIELDS.values())))}"
        raise UsageError(f"memories have no field {name!r} to filter by: {hint}", subject=name)
    return known


def _value(field: str, value: Any) -> Any:
    if value is None or _field(field) not in {"time", "valid_to"}:
        return value
    try:
        return moment(parse_time(value))
    except MessageError as error:
        raise UsageError(f"the filter on {field!r} needs a time: {error}", subject=field) from error


__all__ = ["FIELDS", "chunk", "payload", "read_filter", "valid_at"]
