"""How a context's token ids are cut into the encoder's inputs, and what stands around them.

Knows nothing of which positions are kept or of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from lightrag.errors import UsageError


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One sequence for the encoder: a stretch of context with what its training put around it."""

    ids: tuple[int, ...]
    head: int = 0
    """Leading positions that are not context: BOS and task instruction."""
    tail: int = 0
    """Trailing positions that are not context: EOS."""

    @property
    def context_tokens(self) -> int:
        """Context tokens in this input."""
        return len(self.ids) - self.head - self.tail


@dataclass(frozen=True, slots=True)
class Framing:
    """What surrounds each stretch of context, and how long an input may be.

    FlexRAG was trained with BOS and EOS and no instruction; TacZip with BOS (where the tokenizer has one) and a task
    instruction, whose states are never kept.
    """

    max_length: int = 4096
    """Longest input in tokens, surroundings included."""
    bos: int | None = None
    eos: int | None = None
    instruction: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UsageError(
                f"an encoder input of {self.max_length} tokens leaves no room for context beside "
                f"{len(self.prefix)} leading tokens"
            )

    @property
    def prefix(self) -> tuple[int, ...]:
        """What every input begins with."""
        return (() if self.bos is None else (self.bos,)) + self.instruction

    @property
    def step(self) -> int:
        """Context tokens in a full input."""
        return self.max_length - len(self.prefix) - (0 if self.eos is None else 1)

    def cut(self, ids: Sequence[int]) -> list[EncoderInput]:
        """Cut a context into inputs; all but the last are full."""
        return list(self.cut_stream(ids))

    def cut_stream(self, ids: Iterable[int]) -> Iterator[EncoderInput]:
        """Cut a context whose tokens are still arriving; each input comes out as soon as it is full."""
        iterator = iter(ids)
        while stretch := tuple(islice(iterator, self.step)):
            ending = () if self.eos is None else (self.eos,)
            yield EncoderInput((*self.prefix, *stretch, *ending), len(self.prefix), len(ending))


__all__ = ["EncoderInput", "Framing"]
