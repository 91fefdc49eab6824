"""What reconciliation is asked and what it decides; implementations live beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from lightrag.conversation.types import MemoryEntry
from lightrag.types import Usage

Action = Literal["update", "merge", "delete", "ignore"]


class Later(NamedTuple):
    """A later entry that is near the target."""

    entry: MemoryEntry
    similarity: float
    """Cosine of the two texts."""


@dataclass(frozen=True, slots=True)
class UpdateCase:
    """An entry and the later ones that may have something to say about it."""

    target: MemoryEntry
    later: tuple[Later, ...]
    """In order of time; never empty, and all strictly later than the target."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the target."""

    action: Action
    """``update``: its text is replaced by ``text``. ``merge``: a later entry says the same. ``delete``: a later entry
    contradicts it. ``ignore``: both hold."""
    text: str = ""
    by: str = ""
    """The later entry that takes its place, for ``merge`` and ``delete``."""
    reason: str = ""
    problem: str = ""
    """Why there is no usable decision; the target stays as it is and is asked about again."""
    usage: Usage = Usage()


class Reconciler(Protocol):
    """Decides. Keeps nothing between calls."""

    async def decide(self, case: UpdateCase) -> Decision:
        """Decide about one target.

        Raises:
            BackendError: the model failed; the case can be asked again.
        """
        ...


__all__ = ["Action", "Decision", "Later", "Reconciler", "UpdateCase"]
