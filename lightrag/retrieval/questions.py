"""From a request to the texts that are searched: the question, bounded in length, and clues as queries or seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightrag.documents.language import detect_language
from lightrag.errors import UsageError
from lightrag.models.base import Embedder
from lightrag.types import Clue

MAX_QUESTION_CHARS = 8_000
"""Longer questions are searched by their two ends, where the actual question stands; embedding grows with length."""
MAX_CLUE_QUERIES = 16
CLUE_SHARE = 0.5
"""Say of all clues together beside the question's 1, and what a clue of score 1 gives to the passage it quotes."""
SEED_PASSAGES = 3
"""A clue read from more passages than this says where to look too vaguely; it is searched as text instead."""


class WeightedText(NamedTuple):
    """A text to search with."""

    text: str
    weight: float


def bounded_question(question: str) -> tuple[str, str]:
    """Return the question as it will be searched, and a note where that is not all of it.

    Raises:
        UsageError: the question is empty.
    """
    question = question.strip()
    if not question:
        raise UsageError("the question is empty: ask something")
    if len(question) <= MAX_QUESTION_CHARS:
        return question, ""
    half = MAX_QUESTION_CHARS // 2
    note = (
        f"the question has {len(question):,} characters; only its first and last {half:,} were searched for, "
        f"{len(question) - MAX_QUESTION_CHARS:,} in the middle were not"
    )
    return f"{question[:half]}\n{question[-half:]}", note


def unspoken_language(question: str, embedder: Embedder) -> str:
    """Code of the question's language if the embedder does not speak it, else nothing."""
    language = detect_language(question).code if embedder.languages else "und"
    return "" if language == "und" or language in embedder.languages else language


def clue_queries(clues: Sequence[Clue]) -> tuple[list[WeightedText], str]:
    """Clues that are searched as text, and a note where there are too many."""
    texts = {clue.text.strip(): clue for clue in clues if not _is_seed(clue) and clue.text.strip()}
    chosen = sorted(texts.values(), key=lambda clue: -clue.score)[:MAX_CLUE_QUERIES]
    note = (
        f"only the best {MAX_CLUE_QUERIES} of {len(texts)} clues were searched for" if len(texts) > len(chosen) else ""
    )
    share = CLUE_SHARE / max(len(chosen), 1)
    return [
        WeightedText(bounded_question(clue.text)[0], share * min(max(clue.score, 0.0), 1.0)) for clue in chosen
    ], note


def clue_seeds(clues: Sequence[Clue], rows: Mapping[str, int]) -> dict[int, float]:
    """What clues give to the passages they were read from, by row; passages of other versions are ignored."""
    seeds: dict[int, float] = {}
    for clue in filter(_is_seed, clues):
        gain = CLUE_SHARE * min(max(clue.score, 0.0), 1.0) / len(clue.chunk_ids) ** 0.5
        for row in (rows[identity] for identity in clue.chunk_ids if identity in rows):
            seeds[row] = max(seeds.get(row, 0.0), gain)
    return seeds


def _is_seed(clue: Clue) -> bool:
    return 0 < len(clue.chunk_ids) <= SEED_PASSAGES


__all__ = [
    "CLUE_SHARE",
    "MAX_QUESTION_CHARS",
    "WeightedText",
    "bounded_question",
    "clue_queries",
    "clue_seeds",
    "unspoken_language",
]
