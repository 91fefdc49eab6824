"""What compression needs of latents that were stored before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from lightrag.latents.positions import Positions

if TYPE_CHECKING:
    from torch import Tensor


class StoredLatents(Protocol):
    """Latents of passages by chunk id. Implementations are safe to share between threads."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder that made them: ``PassageEncoder.fingerprint``."""
        ...

    def tokens(self, chunk_id: str) -> int | None:
        """Tokens of a stored passage; ``None`` where it is not stored."""
        ...

    def states(self, wanted: Sequence[tuple[str, Positions]]) -> list[Tensor]:
        """States of stored passages at ascending positions, shape (positions, hidden) each."""
        ...


__all__ = ["StoredLatents"]
