"""What a published allocation rule decides for one prompt, and the LM input it makes.

Knows no rule; those are in ``flexrag`` and ``taczip`` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lightrag.errors import UsageError
from lightrag.latents.inputs import EncoderInput

PLACEHOLDER_ID = 100
"""Token id that the published systems write where a state will stand; its embedding is never used."""

Method = Literal["stride", "random", "terminal"]
"""How positions are chosen at a ratio; all but ``stride`` were only used in training."""


class Sampler(Protocol):
    """Draws without replacement, as :class:`random.Random` does."""

    def sample(self, population: Sequence[int], k: int) -> list[int]:
        """Draw ``k`` of the population."""
        ...


@dataclass(frozen=True, slots=True)
class PublishedPlan:
    """One prompt, ready for the encoder and the language model."""

    before: tuple[int, ...]
    """Token ids in front of the states: the prompt's head, and raw context in front of the compressed middle."""
    inputs: tuple[EncoderInput, ...]
    keep: tuple[tuple[int, ...], ...]
    """Per encoder input the kept positions; a published defect can keep one twice."""
    after: tuple[int, ...]
    notes: tuple[str, ...] = ()
    """Fallbacks that the published rule takes in silence."""

    @property
    def kept(self) -> int:
        """Number of states."""
        return sum(len(row) for row in self.keep)

    @property
    def input_ids(self) -> tuple[int, ...]:
        """LM input with placeholders where the states go."""
        return (*self.before, *[PLACEHOLDER_ID] * self.kept, *self.after)

    @property
    def placeholders(self) -> range:
        """Positions of the states in :attr:`input_ids`."""
        return range(len(self.before), len(self.before) + self.kept)


def stride_positions(length: int, ratio: int, first: int = 0) -> list[int]:
    """Positions ``first + ratio - 1, first + 2 ratio - 1, …`` of an input, and its last one.

    As published: whether the last position needs appending is decided by ``length`` without regard to ``first``,
    which can repeat it or miss the end, and ratio 1 drops its first position.
    """
    positions = list(range(first + ratio - 1, length, ratio))
    if length % ratio:
        positions.append(length - 1)
    return positions[1:] if ratio == 1 else positions


def choose_positions(
    length: int, ratio: int, first: int = 0, method: Method = "stride", sampler: Sampler | None = None
) -> list[int]:
    """Positions kept at a ratio by one of the published methods; all keep as many as ``stride``.

    Raises:
        UsageError: ``random`` needs a sampler.
    """
    stride = stride_positions(length, ratio, first)
    if method == "stride":
        return stride
    if method == "terminal":
        return list(range(length - len(stride), length))
    if sampler is None:
        raise UsageError("the method 'random' needs a sampler, for example random.Random(7)")
    return sorted(sampler.sample(range(first, length), len(stride)))


def count_positions(length: int, ratio: int) -> int:
    """Number of positions that :func:`stride_positions` gives for an input without instruction."""
    return len(stride_positions(length, ratio))


def thin(positions: Sequence[int], step: int) -> list[int]:
    """Every ``step``-th of the positions from the first, and the last where they do not divide evenly.

    As published, that can list the last one twice, which counts against the budget.
    """
    thinned = list(positions[::step])
    if len(positions) % step:
        thinned.append(positions[-1])
    return thinned


def merge(uniform: Iterable[int], chosen: Iterable[int]) -> tuple[int, ...]:
    """Union of two position lists, ascending."""
    return tuple(sorted({*uniform, *chosen}))


__all__ = [
    "PLACEHOLDER_ID",
    "Method",
    "PublishedPlan",
    "Sampler",
    "choose_positions",
    "count_positions",
    "merge",
    "stride_positions",
    "thin",
]
