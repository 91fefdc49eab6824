"""What a segmenter is asked: turns in, positions of new topics out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lightrag.conversation.types import StoredMessage


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says and what is answered: messages that belong together whatever the topic."""

    messages: tuple[StoredMessage, ...]

    @property
    def text(self) -> str:
        """All texts, joined."""
        return " ".join(stored.message.content for stored in self.messages)

    @property
    def opening(self) -> str:
        """What the user says; empty where only the assistant speaks."""
        return " ".join(stored.message.content for stored in self.messages if stored.message.role == "user")


def turns_of(messages: Sequence[StoredMessage]) -> list[Turn]:
    """Group messages into turns, by what they are and not by their position: a user's message opens one.

    A leading assistant message is a turn of its own, and so is a user's message without an answer.
    """
    groups: list[list[StoredMessage]] = []
    for stored in messages:
        if stored.message.role == "user" or not groups:
            groups.append([stored])
        else:
            groups[-1].append(stored)
    return [Turn(tuple(group)) for group in groups]


class Segmenter(Protocol):
    """Finds topic boundaries."""

    async def boundaries(self, turns: Sequence[Turn]) -> list[int]:
        """Indices of turns that begin a new topic, ascending, each between 1 and ``len(turns) - 1``.

        Raises:
            BackendError: a model failed.
        """
        ...


__all__ = ["Segmenter", "Turn", "turns_of"]
