"""One encoder for many requests at once: passages that are wanted at the same time are encoded in one packed batch.

Ties :class:`~lightrag.latents.memo.StateMemo` to :class:`~lightrag.models.combining.Combiner`. It knows no budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightrag.latents.memo import StateMemo
from lightrag.latents.passages import PassageEncoder
from lightrag.models.combining import Combiner

if TYPE_CHECKING:
    from torch import Tensor

_PASSES = 4
"""Most passes of the encoder for requests that are combined: nobody should wait long for others."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one request wants encoded."""

    passages: Sequence[tuple[int, ...]]
    positions: Sequence[Sequence[int]]
    joint: bool

    @property
    def tokens(self) -> int:
        return sum(map(len, self.passages))


class SharedEncoder:
    """Encodes passages for any number of threads.

    Args:
        encoder: not used by anything else at the same time.
        remember_bytes: see :class:`StateMemo`.
    """

    def __init__(self, encoder: PassageEncoder, remember_bytes: int) -> None:
        self._encoder = encoder
        self._memo = StateMemo(encoder, remember_bytes)
        most = _PASSES * encoder.encoder.max_batch_tokens
        self.requests: Combiner[_Wanted, list[Tensor]] = Combiner(self._run, size=lambda item: item.tokens, most=most)
        """Counts what was combined."""

    def states(
        self, passages: Sequence[tuple[int, ...]], positions: Sequence[Sequence[int]], *, joint: bool = False
    ) -> list[Tensor]:
        """States of passages at ascending positions, shape (positions, hidden) each.

        Args:
            passages: token ids.
            positions: wanted, for each passage.
            joint: see :meth:`PassageEncoder.encode`; such requests share nothing.
        """
        return self.requests([_Wanted(passages, positions, joint)])[0] if passages else []

    def _run(self, requests: Sequence[_Wanted]) -> list[list[Tensor]]:
        alone = [item for item in requests if not item.joint]
        states = iter(
            self._memo.states(
                [ids for item in alone for ids in item.passages], [row for item in alone for row in item.positions]
            )
        )
        return [
            self._encoder.encode(item.passages, item.positions, joint=True)
            if item.joint
            else [next(states) for _ in item.passages]
            for item in requests
        ]


__all__ = ["SharedEncoder"]
