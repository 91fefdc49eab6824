"""Entities and relations over entries, dated: links for multi-hop questions, and a graph to look at.

A relation is an entry that names two entities; its date is the entry's. Entries about one entity are linked, the rarer
the entity the stronger, so a search that finds one of them finds the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import NamedTuple

from lightrag.conversation.types import MemoryEntry, position

MAX_BEARERS = 24
"""Entries about an entity from which on it links nothing: what everything is about tells nothing apart."""


class Relation(NamedTuple):
    """Two entities that one entry names."""

    subject: str
    object: str
    text: str
    time: datetime
    entry_id: str


class EntryLink(NamedTuple):
    """One entry leads to another one about the same entity."""

    source: str
    target: str
    label: str
    weight: float


@dataclass(frozen=True, slots=True)
class MemoryGraph:
    """What a user's memory knows about whom and what."""

    entities: Mapping[str, tuple[str, ...]]
    """Ids of the entries about each entity, in order of time."""
    relations: tuple[Relation, ...]
    """In order of time."""

    def of(self, entity: str) -> tuple[Relation, ...]:
        """Relations of one entity, in order of time."""
        name = entity.casefold()
        return tuple(each for each in self.relations if name in (each.subject.casefold(), each.object.casefold()))


def build_graph(entries: Iterable[MemoryEntry]) -> MemoryGraph:
    """Collect entities and relations of entries; who speaks counts as an entity of what they say."""
    ordered = sorted(entries, key=position)
    named: dict[str, tuple[str, list[str]]] = {}
    relations: list[Relation] = []
    for entry in ordered:
        names = _names(entry)
        for name in names:
            named.setdefault(name.casefold(), (name, []))[1].append(entry.entry_id)
        relations += [
            Relation(one, other, entry.text, entry.time, entry.entry_id) for one, other in combinations(names, 2)
        ]
    return MemoryGraph({name: tuple(ids) for name, ids in named.values()}, tuple(relations))


def graph_links(entries: Sequence[MemoryEntry]) -> Iterator[EntryLink]:
    """Links between entries about the same entity; speakers link nothing, because they are about too much."""
    about: dict[str, tuple[str, list[str]]] = {}
    for entry in sorted(entries, key=position):
        for name in dict.fromkeys(entry.entities):
            about.setdefault(name.casefold(), (name, []))[1].append(entry.entry_id)
    for name, ids in about.values():
        if 2 <= len(ids) <= MAX_BEARERS:
            weight = (len(ids) - 1) ** -0.5
            for one, other in combinations(ids, 2):
                yield EntryLink(one, other, name, weight)
                yield EntryLink(other, one, name, weight)


def _names(entry: MemoryEntry) -> list[str]:
    speaker = entry.speaker if entry.speaker not in ("user", "assistant") else entry.speaker.capitalize()
    return list(dict.fromkeys([*([speaker] if speaker else []), *entry.entities]))


__all__ = ["MAX_BEARERS", "EntryLink", "MemoryGraph", "Relation", "build_graph", "graph_links"]
