"""What extraction is asked and what it gives back; implementations live beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol

from lightrag.conversation.types import EntryDraft, Problem, Role, StoredMessage, TopicSegment
from lightrag.types import Usage

MessagesUse = Literal["user_only", "assistant_only", "hybrid"]

ROLES_OF: dict[MessagesUse, frozenset[Role]] = {
    "user_only": frozenset({"user"}),
    "assistant_only": frozenset({"assistant"}),
    "hybrid": frozenset({"user", "assistant"}),
}


@dataclass(frozen=True, slots=True)
class ExtractionRequest:
    """Segments of one user to be read together."""

    segments: tuple[TopicSegment, ...]
    _: KW_ONLY
    roles: frozenset[Role] = ROLES_OF["user_only"]
    """Whose messages entries may come from."""
    threshold: float = 0.0
    """Entries of less importance are left out; their messages stay in memory as they are."""
    metadata: bool = True
    """Also fill category, keywords, entities and event time."""
    instructions: str = ""
    """Replaces the built-in instructions for facts."""
    relation_instructions: str = ""
    """The same for relations."""

    def messages(self) -> Iterator[StoredMessage]:
        """Messages that entries may come from, in order."""
        for segment in self.segments:
            yield from (stored for stored in segment.messages if stored.message.role in self.roles)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was found."""

    drafts: tuple[EntryDraft, ...]
    problems: tuple[Problem, ...] = ()
    """Items that were refused, each with its reason."""
    usage: Usage = Usage()


class Extractor(Protocol):
    """Turns segments into entries. Keeps nothing between calls."""

    async def extract(self, request: ExtractionRequest) -> Extraction:
        """Read segments.

        Raises:
            BackendError: the model failed, or gave no usable answer twice. The work can be repeated.
        """
        ...


def draft_of(stored: StoredMessage, text: str, **fields: object) -> EntryDraft:
    """An entry from one message, with that message's time, speaker, topic and tags."""
    message = stored.message
    return EntryDraft(
        text,
        message.time,
        (stored.message_id,),
        speaker=message.speaker or message.role,
        speaker_id=message.speaker_id,
        conversation=stored.conversation,
        topic=stored.segment,
        tags=message.tags,
        images=message.images,
        **fields,  # type: ignore[arg-type]  # names and types are those of EntryDraft
    )


__all__ = ["ROLES_OF", "Extraction", "ExtractionRequest", "Extractor", "MessagesUse", "draft_of"]
