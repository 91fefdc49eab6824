"""From the passages that were found to the text a generator reads: as many as its window takes, in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from lightrag.errors import LimitError, UsageError
from lightrag.retrieval.selection import select

if TYPE_CHECKING:
    from lightrag.types import Chunk, Tokenizer

_LOG = logging.getLogger(__name__)
_TEMPLATE_TOKENS = 64
"""For what a chat template writes around a prompt."""


@runtime_checkable
class TextGenerator(Protocol):
    """What may write the answers of a pipeline: ``Agent``, ``Model``, ``Memory``, or an object of the user's."""

    def generate(self, prompt: Any, /, *, max_new_tokens: int) -> list[str] | str:
        """Answer a prompt; a list holds one text per prompt."""
        ...


class Window(NamedTuple):
    """How much a generator reads and writes at once, and how it counts."""

    tokens: int
    tokenizer: Tokenizer


def fitting(
    chunks: Sequence[Chunk], rows: Sequence[int], window: Window | None, frame: str, max_new_tokens: int
) -> list[Chunk]:
    """Choose the passages to hand on, near-duplicates left out.

    Args:
        chunks: the most important first.
        rows: their places in the text.
        window: of the generator; ``None`` where nobody knows.
        frame: the prompt without passages.
        max_new_tokens: longest answer.

    Returns:
        Passages in the order of the text.

    Raises:
        LimitError: not even one passage fits.
    """
    if not chunks:
        return []
    counted, room = list(chunks), sum(chunk.tokens for chunk in chunks)
    if window is not None:
        # One more for the line break between passages.
        counted = [replace(chunk, tokens=window.tokenizer.count(chunk.text) + 1) for chunk in chunks]
        room = window.tokens - max_new_tokens - window.tokenizer.count(frame) - _TEMPLATE_TOKENS
    chosen = select(counted, rows, top_k=len(chunks), token_budget=room, order="corpus")
    if not chosen.places:
        raise LimitError(
            f"the generator's window has room for {max(room, 0)} tokens of evidence, the shortest passage has "
            f"{min(chunk.tokens for chunk in counted)}: lower retrieval_chunk_size or max_new_tokens"
        )
    if len(chosen.places) < len(chunks):
        _LOG.info("%d of %d passages found fit the generator's window", len(chosen.places), len(chunks))
    return [chunks[place] for place in chosen.places]


def one_text(said: object) -> str:
    """The text that a generator gave for one prompt.

    Raises:
        UsageError: it gave none.
    """
    if isinstance(said, str):
        return said
    if isinstance(said, Sequence) and len(said) == 1 and isinstance(said[0], str):
        return said[0]
    raise UsageError(f"generate(prompt) of the generator must return a list with one text, it returned {said!r}")


__all__ = ["TextGenerator", "Window", "fitting", "one_text"]
