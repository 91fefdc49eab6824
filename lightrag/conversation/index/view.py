"""One user's memory at one revision, ready to be searched: rows, BM25 weights, links, columns, speakers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lightrag.conversation.extraction.condense import is_question
from lightrag.conversation.index.fields import chunk
from lightrag.conversation.index.rows import Row, build_rows
from lightrag.conversation.index.speakers import Speakers
from lightrag.conversation.types import MemoryEntry, StoredMessage
from lightrag.documents.language import detect_language
from lightrag.retrieval.columns import MetadataColumns
from lightrag.retrieval.fusion import Scores
from lightrag.retrieval.graph import Chain, Link, LinkGraph
from lightrag.retrieval.lexical import K1, B, LexicalIndex
from lightrag.retrieval.links import shared_name_links
from lightrag.retrieval.turns import indexed_text, telling
from lightrag.types import Chunk

BACKGROUND = 256
"""Rows that stand for "an arbitrary memory" when a similarity is judged."""


class LexicalWeights(NamedTuple):
    """How BM25 weighs words."""

    k1: float = K1
    b: float = B


_SAMPLED = 40
"""Messages from which the language is told."""


@dataclass(frozen=True)
class MemoryView:
    """Immutable and safe to share between threads. What only a search reads is derived by the first one."""

    revision: int
    rows: tuple[Row, ...]
    messages: Sequence[StoredMessage] = field(repr=False)
    """All messages of the user, those that are no rows included."""
    relations: Sequence[tuple[str, str, str, float]] = field(default=(), repr=False)
    """Between entries, as (from entry, to entry, label, weight)."""
    weights: LexicalWeights = field(default_factory=LexicalWeights)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Row of each item number."""
        return {row.item: place for place, row in enumerate(self.rows)}

    @cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 over the rows."""
        language = _language(self.messages)
        texts = [indexed_text("", row.text, row.asked) for row in self.rows]
        return LexicalIndex.build(texts, [language] * len(texts), k1=self.weights.k1, b=self.weights.b)

    @cached_property
    def columns(self) -> MetadataColumns:
        """What filters look at."""
        return MetadataColumns(self._chunks())

    @cached_property
    def graph(self) -> LinkGraph:
        """Rows that follow each other, and links between others."""
        chunks = self._chunks()
        chain = Chain.of([row.session for row in self.rows], [each.tokens for each in chunks])
        ids = {row.entry.entry_id: place for place, row in enumerate(self.rows)}
        relations = [
            Link(ids[source], ids[target], "relation", weight, label)
            for source, target, label, weight in self.relations
            if source in ids and target in ids and source != target
        ]
        links = [*shared_name_links(chunks, self.lexical), *_answers(self.rows), *relations]
        return LinkGraph.build(chain, links)

    @cached_property
    def speakers(self) -> Speakers:
        """Who takes part."""
        return Speakers.of(stored.message for stored in self.messages)

    @cached_property
    def background(self) -> tuple[int, ...]:
        """Item numbers of some rows from all over the memory."""
        count = len(self.rows)
        sample = random.Random(0).sample(range(count), min(BACKGROUND, count))  # noqa: S311  # no secret
        return tuple(self.rows[place].item for place in sample)

    @cached_property
    def telling(self) -> Scores:
        """How much each row can tell, in (0, 1]: a message that only asks, or hardly says anything, answers little."""
        return np.array([_telling(row) for row in self.rows], np.float32)

    def _chunks(self) -> tuple[Chunk, ...]:
        return tuple(chunk(row, place) for place, row in enumerate(self.rows))


def build_view(
    revision: int,
    messages: Sequence[StoredMessage],
    entries: Sequence[MemoryEntry],
    *,
    turns: bool,
    relations: Sequence[tuple[str, str, str, float]] = (),
    weights: LexicalWeights = LexicalWeights(),  # noqa: B008  # immutable
) -> MemoryView:
    """Lay out a user's messages and entries.

    Args:
        revision: of the history that they were read at.
        messages: all of them.
        entries: all that are not deleted.
        turns: whether messages that were extracted stay rows of their own.
        relations: between entries, as (from entry, to entry, label, weight).
        weights: of BM25.
    """
    rows = build_rows(messages, entries, turns=turns)
    return MemoryView(revision, tuple(rows), messages, relations, weights)


def _answers(rows: Sequence[Row]) -> Iterator[Link]:
    """A question leads to what the other one says next."""
    for place in range(1, len(rows)):
        asked, answer = rows[place - 1], rows[place]
        if asked.session == answer.session and asked.entry.speaker != answer.entry.speaker and is_question(asked.text):
            yield Link(place - 1, place, "relation", 1.0, "answer")


def _telling(row: Row) -> float:
    """Facts were written to tell something; only what was said as it was said may not."""
    if not row.quote:
        return 1.0
    said = row.text.partition(": ")[2]
    return telling(said, len(said) // 4)


def _language(messages: Sequence[StoredMessage]) -> str:
    sample = "\n".join(stored.message.content[:400] for stored in messages[-_SAMPLED:])
    return detect_language(sample).code if sample.strip() else "und"


__all__ = ["BACKGROUND", "LexicalWeights", "MemoryView", "build_view"]
