"""Remembers the states of passages that were encoded by themselves, so that no question encodes them again.

For passages without stored latents. Least recently used ones go first. Not safe to share between threads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightrag.latents.passages import PassageEncoder

if TYPE_CHECKING:
    from torch import Tensor


class StateMemo:
    """States of whole passages, in the encoder's own precision.

    Args:
        encoder: makes states.
        max_bytes: remembered between calls; 0 remembers nothing, and then only wanted positions are computed.
    """

    def __init__(self, encoder: PassageEncoder, max_bytes: int) -> None:
        self._encoder = encoder
        self._max_bytes = max_bytes
        self._states: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._bytes = 0
        self.encoded = 0
        """Passages encoded since the start."""

    def states(self, passages: Sequence[tuple[int, ...]], positions: Sequence[Sequence[int]]) -> list[Tensor]:
        """States of passages at ascending positions."""
        if not self._max_bytes:
            self.encoded += len(passages)
            return self._encoder.encode(passages, positions)
        missing = list(dict.fromkeys(ids for ids in passages if ids not in self._states))
        fresh = dict(zip(missing, self._encoder.encode(missing), strict=True))
        # Taken before anything is forgotten, so that one call may use more than is remembered.
        whole = [fresh[ids] if ids in fresh else self._states[ids] for ids in passages]
        for ids, states in zip(passages, whole, strict=True):
            self._remember(ids, states)
        self.encoded += len(missing)
        return [states[list(row)] for states, row in zip(whole, positions, strict=True)]

    def _remember(self, ids: tuple[int, ...], states: Tensor) -> None:
        if ids not in self._states:
            self._bytes += states.nbytes
            self._states[ids] = states
        self._states.move_to_end(ids)
        while self._bytes > self._max_bytes:
            _, dropped = self._states.popitem(last=False)
            self._bytes -= dropped.nbytes


__all__ = ["StateMemo"]
