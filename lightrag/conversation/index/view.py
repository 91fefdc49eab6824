"""One user's memory at one revision, ready to be searched: rows, BM25 weights, links, columns, speakers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

BACKGROUND = 256
"""Rows that stand for "an arbitrary memory" when a similarity is judged."""


class LexicalWeights(NamedTuple):
    """How BM25 weighs words."""

    k1: float = K1
    b: float = B


_SAMPLED = 40
"""Messages from which the language is told."""


@dataclass(frozen=True, slots=True)
class MemoryView:
    """Immutable and safe to share between threads."""

    revision: int
    rows: tuple[Row, ...]
    places: Mapping[int, int] = field(repr=False)
    """Row of each item number."""
    lexical: LexicalIndex = field(repr=False)
    graph: LinkGraph = field(repr=False)
    columns: MetadataColumns = field(repr=False)
    speakers: Speakers = field(repr=False)
    background: tuple[int, ...] = field(repr=False)
    """Item numbers of some rows from all over the memory."""
    telling: Scores = field(repr=False)
    """How much each row can tell, in (0, 1]: a message that only asks, or hardly says anything, answers little."""

    def __len__(self) -> int:
        return len(self.rows)


def build_view(
    revision: int,
    messages: Sequence[StoredMessage],
    entries: Sequence[MemoryEntry],
    *,
    turns: bool,
    extra_links: Sequence[tuple[str, str, str, float]] = (),
    weights: LexicalWeights = LexicalWeights(),  # noqa: B008  # immutable
) -> MemoryView:
    """Derive everything that is searched in memory from a user's messages and entries.

    Args:
        revision: of the history that they were read at.
        messages: all of them.
        entries: all that are not deleted.
        turns: whether messages that were extracted stay rows of their own.
        extra_links: relations between entries as (from entry, to entry, label, weight).
        weights: of BM25.
    """
    rows = build_rows(messages, entries, turns=turns)
    language = _language(messages)
    texts = [indexed_text("", row.text, row.asked) for row in rows]
    lexical = LexicalIndex.build(texts, [language] * len(rows), k1=weights.k1, b=weights.b)
    chunks = tuple(chunk(row, place) for place, row in enumerate(rows))
    chain = Chain.of([row.session for row in rows], [each.tokens for each in chunks])
    ids = {row.entry.entry_id: place for place, row in enumerate(rows)}
    relations = [
        Link(ids[source], ids[target], "relation", weight, label)
        for source, target, label, weight in extra_links
        if source in ids and target in ids and source != target
    ]
    links = [*shared_name_links(chunks, lexical), *_answers(rows), *relations]
    sample = random.Random(0).sample(range(len(rows)), min(BACKGROUND, len(rows)))  # noqa: S311  # no secret
    return MemoryView(
        revision,
        tuple(rows),
        {row.item: place for place, row in enumerate(rows)},
        lexical,
        LinkGraph.build(chain, links),
        MetadataColumns(chunks),
        Speakers.of(stored.message for stored in messages),
        tuple(rows[place].item for place in sample),
        np.array([_telling(row) for row in rows], np.float32),
    )


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
