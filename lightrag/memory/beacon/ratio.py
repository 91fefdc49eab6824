"""Which compression ratio the next window gets.

Knows nothing of cells or tokens. The random policies draw the numbers that a freshly loaded published model draws; what
was drawn so far is part of a memory's state, so a memory does not depend on what else its model has read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightrag.errors import ConfigurationError
from lightrag.memory.beacon.config import BeaconConfig

_SEED = 42
"""Of the published generator."""


class Choice(NamedTuple):
    """A chosen ratio, and what must be remembered for the next choice."""

    ratio: int
    sticky: int
    """The ratio of the whole sequence for policies that choose once; -1 for the others."""


class RatioPolicy:
    """Chooses ratios for one sequence at a time.

    Args:
        config: allowed ratios, window and kind of mix.
        generator: draws instead of the published one; for training, where samples must differ.
    """

    def __init__(self, config: BeaconConfig, generator: np.random.Generator | None = None) -> None:
        self._config = config
        self._given = generator
        self._generator = generator or np.random.default_rng(_SEED)
        self._drawn = 0

    def choose(self, *, windows: int, sticky: int, received: int, allow_raw: bool = True) -> Choice:
        """Choose for the next window.

        Args:
            windows: ratios chosen for this sequence so far.
            sticky: the sequence's ratio, or -1.
            received: tokens of the sequence so far, all of the current call included.
            allow_raw: whether ratio 0 may be chosen from a list.

        Raises:
            ConfigurationError: no listed ratio divides the window.
        """
        config = self._config
        if len(config.ratios) == 1:
            return Choice(config.ratios[0], sticky)
        if sticky >= 0:
            return Choice(sticky, sticky)
        usable = [
            ratio for ratio in config.ratios if (ratio == 0 and allow_raw) or (ratio > 0 and config.window % ratio == 0)
        ]
        if not usable:
            raise ConfigurationError(
                f"none of the ratios {list(config.ratios)!r} divides the window of {config.window} tokens"
            )
        if config.ratio_mix == "sequence":
            return Choice(usable[windows % len(usable)], -1)
        if config.ratio_mix == "step-random":
            return Choice(self._draw(usable, windows), -1)
        ratio = self._draw(usable, 0) if config.ratio_mix == "instance-random" else self._fitting(usable, received)
        return Choice(ratio, ratio)

    def _draw(self, usable: list[int], windows: int) -> int:
        if self._given is None:
            if self._drawn > windows:
                self._generator, self._drawn = np.random.default_rng(_SEED), 0
            while self._drawn < windows:
                self._generator.choice(usable)
                self._drawn += 1
        self._drawn += 1
        return int(self._generator.choice(usable))

    def _fitting(self, usable: list[int], received: int) -> int:
        """The ratio with the smallest sufficient capacity, or the largest ratio."""
        needed = received + int(self._config.ratio_mix.removeprefix("adapt-"))
        positions = int(self._config.rope.max_positions * self._config.rope.factor)
        window = self._config.window

        def capacity(ratio: int) -> int:
            return (positions - window) * ratio + window if ratio else positions

        sufficient = [ratio for ratio in usable if capacity(ratio) >= needed]
        return min(sufficient, key=capacity) if sufficient else max(usable)


__all__ = ["Choice", "RatioPolicy"]
