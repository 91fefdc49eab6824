"""From what callers hand over to checked messages; everything of a call is checked before anything is stored.

Knows the accepted shapes of a message, and no store.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any, NamedTuple, cast, get_args

from lightrag.conversation.clock import parse_time
from lightrag.conversation.types import Message, Role
from lightrag.errors import MessageError

ROLES: tuple[str, ...] = get_args(Role)
MAX_CHARACTERS = 262_144
"""Longest message; longer texts are documents, and a corpus is their place."""
_FIELDS = frozenset({"role", "content", "time_stamp", "speaker_name", "speaker_id", "images"})


class Intake(NamedTuple):
    """Checked messages and what was noticed on the way."""

    messages: tuple[Message, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """What the checks allow."""

    max_characters: int = MAX_CHARACTERS
    default_time: datetime | None = None
    """Stands in for a missing time stamp; ``None`` refuses such messages."""


def read_messages(
    messages: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    tags: Sequence[str] = (),
    rules: IntakeRules | None = None,
) -> Intake:
    """Check one message or a list of them.

    A message has ``role`` (``user`` or ``assistant``), ``content`` (text, or a list of text and image parts in the
    OpenAI shape) and ``time_stamp``; it may have ``speaker_name``, ``speaker_id`` and ``images``. Empty messages among
    others are skipped, with a note.

    Raises:
        MessageError: a message cannot be accepted; it names the message by its position from 0.
    """
    rules = rules or IntakeRules()
    listed = _listed(messages)
    read: list[Message] = []
    empty = 0
    for index, raw in enumerate(listed):
        message = _Reader(index, rules).read(raw, tuple(tags))
        if message is None:
            empty += 1
        else:
            read.append(message)
    if not read:
        raise MessageError(f"all {len(listed)} messages are empty: there is nothing to remember")
    notes = (f"{empty} empty messages were skipped",) if empty else ()
    return Intake(tuple(read), notes)


def _listed(messages: object) -> list[object]:
    if isinstance(messages, Mapping):
        return [messages]
    if isinstance(messages, Sequence) and not isinstance(messages, str | bytes):
        if not messages:
            raise MessageError("the list of messages is empty")
        return list(messages)
    raise MessageError(
        f"messages are a dict or a list of dicts with 'role', 'content' and 'time_stamp', got {type(messages).__name__}"
    )


class _Reader:
    def __init__(self, index: int, rules: IntakeRules) -> None:
        self.index = index
        self.rules = rules

    def read(self, raw: object, tags: tuple[str, ...]) -> Message | None:
        if not isinstance(raw, Mapping):
            raise self.refuse(f"is {type(raw).__name__}, not a dict with 'role', 'content' and 'time_stamp'")
        unknown = sorted(str(name) for name in raw if name not in _FIELDS)
        if unknown:
            raise self.refuse(f"has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(_FIELDS))}")
        role = raw.get("role")
        if role not in ROLES:
            raise self.refuse(f"has role {role!r}; use one of {', '.join(map(repr, ROLES))}")
        text, images = self._content(raw.get("content"))
        images += self._images(raw.get("images") or ())
        if not text.strip() and not images:
            return None
        if len(text) > self.rules.max_characters:
            raise self.refuse(
                f"has {len(text):,} characters; at most {self.rules.max_characters:,} are one message. "
                "Split it, or ingest it as a document"
            )
        return Message(
            cast(Role, role),
            text,
            self._time(raw.get("time_stamp")),
            speaker=self._string(raw.get("speaker_name"), "speaker_name"),
            speaker_id=self._string(raw.get("speaker_id"), "speaker_id"),
            images=images,
            tags=tags,
        )

    def refuse(self, reason: str) -> MessageError:
        return MessageError(f"message {self.index} {reason}; nothing of this call was stored", subject=str(self.index))

    def _time(self, value: object) -> datetime:
        if value is None or value == "":
            if self.rules.default_time is not None:
                return self.rules.default_time
            raise self.refuse("has no 'time_stamp' (set the option 'default_time_stamp' to accept such messages)")
        try:
            return parse_time(value)
        except MessageError as error:
            raise self.refuse(f"cannot be placed in time: {error}") from error

    def _content(self, content: object) -> tuple[str, tuple[str, ...]]:
        if isinstance(content, str):
            return self._clean(content), ()
        if not isinstance(content, Sequence) or isinstance(content, bytes):
            raise self.refuse(f"has content of type {type(content).__name__}; give text or a list of parts")
        texts: list[str] = []
        images: list[str] = []
        for part in content:
            self._part(part, texts, images)
        return self._clean("\n".join(texts)), tuple(images)

    def _part(self, part: object, texts: list[str], images: list[str]) -> None:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, Mapping) and kind == "image_url":
            link = part.get("image_url")
            images.append(self._image(link.get("url") if isinstance(link, Mapping) else link))
        else:
            raise self.refuse(f"has a content part that is neither text nor image_url: {str(part)[:80]!r}")

    def _clean(self, text: str) -> str:
        # Stores refuse NUL bytes, and lone surrogates cannot be encoded.
        return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")

    def _string(self, value: object, name: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str | int):
            raise self.refuse(f"has a {name} of type {type(value).__name__}; give text")
        return self._clean(str(value)).strip()

    def _images(self, values: object) -> tuple[str, ...]:
        if isinstance(values, str | bytes | PurePath) or not isinstance(values, Sequence):
            raise self.refuse(f"has images of type {type(values).__name__}; give a list of paths, data URIs or bytes")
        return tuple(self._image(value) for value in values)

    def _image(self, value: object) -> str:
        """An image as text: bytes as a data URI, a path as it is."""
        if isinstance(value, bytes | bytearray):
            return "data:application/octet-stream;base64," + base64.b64encode(value).decode()
        if isinstance(value, PurePath):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(f"has an image of type {type(value).__name__}; give a path, a data URI or bytes")
        return self._clean(value).strip()


__all__ = ["MAX_CHARACTERS", "ROLES", "Intake", "IntakeRules", "read_messages"]
