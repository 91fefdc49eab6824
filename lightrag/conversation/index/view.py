"""One user's memory at one revision, ready to be searched: rows, BM25 weights, links, columns, speakers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lightrag.conversation.index.rows import Row
from lightrag.conversation.index.speakers import Speakers
from lightrag.conversation.index.terms import KnownTerms
from lightrag.conversation.types import StoredMessage
from lightrag.documents.language import detect_language
from lightrag.retrieval.columns import MetadataColumns
from lightrag.retrieval.fusion import Scores
from lightrag.retrieval.graph import Chain, LinkGraph
from lightrag.retrieval.lexical import K1, B, LexicalIndex
from lightrag.retrieval.link_columns import Link, LinkColumns
from lightrag.retrieval.links import shared_name_links

BACKGROUND = 256
"""Rows that stand for "an arbitrary memory" when a similarity is judged."""


class LexicalWeights(NamedTuple):
    """How BM25 weighs words."""

    k1: float = K1
    b: float = B


SAMPLED = 40
"""Messages from which the language is told."""


@dataclass(frozen=True)
class MemoryView:
    """Immutable and safe to share between threads. What only a search reads is derived by the first one."""

    revision: int
    """Of the history."""
    rows: tuple[Row, ...]
    recent: Sequence[StoredMessage] = field(default=(), repr=False)
    """Some of the newest messages, from which the language is told."""
    speakers: Speakers = field(default_factory=lambda: Speakers({}), repr=False)
    """Who takes part."""
    relations: Sequence[tuple[str, str, str, float]] = field(default=(), repr=False)
    """Between entries, as (from entry, to entry, label, weight)."""
    weights: LexicalWeights = field(default_factory=LexicalWeights)
    terms: KnownTerms = field(default_factory=KnownTerms, repr=False, compare=False)
    """Of the texts of earlier views."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Row of each item number."""
        return {row.item: place for place, row in enumerate(self.rows)}

    @cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 over the rows."""
        texts = [row.indexed for row in self.rows]
        return self.terms.index(texts, _language(self.recent), k1=self.weights.k1, b=self.weights.b)

    @cached_property
    def columns(self) -> MetadataColumns:
        """What filters look at."""
        return MetadataColumns([row.chunk for row in self.rows])

    @cached_property
    def graph(self) -> LinkGraph:
        """Rows that follow each other, and links between others."""
        chunks = [row.chunk for row in self.rows]
        chain = Chain.of([row.session for row in self.rows], [each.tokens for each in chunks])
        found = shared_name_links(chunks, self.lexical)
        return LinkGraph.build(chain, LinkColumns.joined([found, LinkColumns.of([*self._answers(), *self._related()])]))

    def _answers(self) -> Iterator[Link]:
        """A question leads to what the other one says next."""
        for place, (asked, answer) in enumerate(itertools.pairwise(self.rows)):
            if asked.asks and asked.session == answer.session and asked.entry.speaker != answer.entry.speaker:
                yield Link(place, place + 1, "relation", 1.0, "answer")

    def _related(self) -> Iterator[Link]:
        ids = {row.entry.entry_id: place for place, row in enumerate(self.rows)} if self.relations else {}
        for source, target, label, weight in self.relations:
            if source in ids and target in ids and source != target:
                yield Link(ids[source], ids[target], "relation", weight, label)

    @cached_property
    def background(self) -> tuple[int, ...]:
        """Item numbers of some rows from all over the memory."""
        count = len(self.rows)
        sample = random.Random(0).sample(range(count), min(BACKGROUND, count))  # noqa: S311  # no secret
        return tuple(self.rows[place].item for place in sample)

    @cached_property
    def telling(self) -> Scores:
        """How much each row can tell, in (0, 1]: a message that only asks, or hardly says anything, answers little."""
        return np.array([row.telling for row in self.rows], np.float32)


def _language(recent: Sequence[StoredMessage]) -> str:
    sample = "\n".join(stored.message.content[:400] for stored in recent[-SAMPLED:])
    return detect_language(sample).code if sample.strip() else "und"


__all__ = ["BACKGROUND", "SAMPLED", "LexicalWeights", "MemoryView"]
