"""Who says what, where passages are turns, and whom a question asks about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightrag.retrieval.columns import Mask
from lightrag.retrieval.names import atoms
from lightrag.types import Chunk

SPEAKER = "speaker"
"""Metadata field that names who speaks a passage."""


@dataclass(frozen=True, slots=True)
class SpeakerTable:
    """The speaker of each passage."""

    names: Mapping[str, int]
    """Number of each speaker by name, atoms joined by blanks."""
    speakers: NDArray[np.int32]
    """Number of the speaker per passage; -1 where nobody speaks."""

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> SpeakerTable:
        """Read the metadata field ``speaker``; passages without it belong to nobody."""
        names: dict[str, int] = {}
        said_by = (_canonical(str(chunk.metadata.get(SPEAKER, ""))) for chunk in chunks)
        numbers = [names.setdefault(name, len(names)) if name else -1 for name in said_by]
        return cls(names, np.array(numbers, dtype=np.int32))

    def asked_about(self, question: str) -> Mask | None:
        """Passages of those whom a question names; ``None`` where it names nobody, or everybody."""
        words = f" {_canonical(question)} "
        named = [number for name, number in self.names.items() if f" {name} " in words]
        return np.isin(self.speakers, named) if 0 < len(named) < len(self.names) else None


def _canonical(text: str) -> str:
    return " ".join(atom.text for atom in atoms(text))


__all__ = ["SPEAKER", "SpeakerTable"]
