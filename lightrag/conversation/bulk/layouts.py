"""How files lay conversations out: which user a record is about, and which messages in which sessions it holds.

Knows the fields of the layouts and no store; what a message must look like is checked by the intake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from lightrag.conversation.bulk.spec import Columns, LayoutName
from lightrag.errors import DataError, UsageError

Message = dict[str, Any]
"""As the intake takes it."""

_TIMES = ("time_stamp", "timestamp", "time", "date", "date_time", "created_at")
_TEXTS = ("content", "text")
_USERS = ("user", "user_id")
_CONVERSATIONS = ("conversation", "conversation_id", "session_id", "session", "thread_id")
_OTHERS = {"speaker_name": ("speaker_name", "speaker", "name"), "speaker_id": ("speaker_id",), "images": ("images",)}
_IGNORED_ROLES = frozenset({"system", "developer", "tool", "function"})
_SESSION = re.compile(r"session_(\d+)\Z")


class Told(NamedTuple):
    """One conversation of a record."""

    conversation: str
    sessions: tuple[Sequence[Message], ...]
    """A topic never goes on from one into the next. Empty sessions are left out."""
    ignored: int = 0
    """Messages that nobody said: instructions, calls of tools, empty ones."""
    one_session: bool = True
    """Whether records of one conversation go on where the one before ended; sessions are then found by silences."""


def detect_layout(record: Mapping[str, Any], columns: Columns) -> LayoutName:
    """Tell the layout of a file from one of its records.

    Raises:
        UsageError: it is none of those known.
    """
    if "haystack_sessions" in record:
        return "longmemeval"
    inner = record.get("conversation")
    if "session_1" in record or (isinstance(inner, Mapping) and "session_1" in inner):
        return "locomo"
    if isinstance(record.get("messages"), Sequence) and not isinstance(record["messages"], str):
        return "conversations"
    who = (columns.role, *_OTHERS["speaker_name"])
    if any(name in record for name in who) and any(name in record for name in (columns.content, *_TEXTS)):
        return "messages"
    raise UsageError(
        f"the layout of records with {', '.join(sorted(map(str, record))[:12])} is not known: a record is a message "
        "(role, content, time_stamp, user), a conversation (user, messages), or of LoCoMo or LongMemEval",
        subject="layout",
    )


class Layout:
    """Reads records of one layout.

    Args:
        name: which.
        columns: names of fields.
        user: whose all of it is; empty: as the records say.
    """

    def __init__(self, name: LayoutName, columns: Columns, user: str = "") -> None:
        self.name = name
        self._columns = columns
        self._user = user

    def user(self, record: Mapping[str, Any], path: str) -> str:
        """Whose memory a record belongs to.

        Raises:
            DataError: the record does not say.
        """
        if self._user:
            return self._user
        match self.name:
            case "locomo":
                found = record.get("sample_id", PurePosixPath(path).stem)
            case "longmemeval":
                found = record.get("question_id")
            case _:
                found = _first(record, (self._columns.user, *_USERS))
        if found is None or not str(found).strip():
            raise DataError(f"no field {self._columns.user!r} says whose it is: name it (user column), or one user")
        return str(found)

    def told(self, record: Mapping[str, Any], path: str) -> Iterator[Told]:
        """The conversations of a record.

        Raises:
            DataError: the record is not laid out like this.
        """
        match self.name:
            case "messages":
                message, ignored = self._message(record, None)
                yield Told(self._conversation(record, path), ((message,),) if message else (), ignored)
            case "conversations":
                yield self._whole(record, path)
            case "locomo":
                yield Told(str(record.get("sample_id", PurePosixPath(path).stem)), tuple(_locomo(record)), 0, False)
            case "longmemeval":
                yield from self._haystack(record)

    def _conversation(self, record: Mapping[str, Any], path: str) -> str:
        found = _first(record, (self._columns.conversation, *_CONVERSATIONS))
        return PurePosixPath(path).name if found is None else str(found)

    def _whole(self, record: Mapping[str, Any], path: str) -> Told:
        listed = record.get("messages")
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            raise DataError("'messages' is not a list of messages")
        default = _first(record, (self._columns.time, *_TIMES))
        read = [self._message(item, default) for item in listed]
        messages = [message for message, _ in read if message]
        ignored = sum(count for _, count in read)
        return Told(self._conversation(record, path), (messages,) if messages else (), ignored)

    def _haystack(self, record: Mapping[str, Any]) -> Iterator[Told]:
        sessions, dates = record.get("haystack_sessions"), record.get("haystack_dates")
        if not isinstance(sessions, Sequence) or not isinstance(dates, Sequence) or len(sessions) != len(dates):
            raise DataError("'haystack_sessions' and 'haystack_dates' are not two lists of one length")
        names = record.get("haystack_session_ids") or [f"session-{number}" for number in range(len(sessions))]
        for name, session, date in zip(names, sessions, dates, strict=True):
            read = [self._message(item, date) for item in session]
            messages = [message for message, _ in read if message]
            ignored = sum(count for _, count in read)
            yield Told(str(name), (messages,) if messages else (), ignored, False)

    def _message(self, item: Any, time: Any) -> tuple[Message | None, int]:
        """A message for the intake, and how many were ignored."""
        if not isinstance(item, Mapping):
            raise DataError(f"a message is an object, this is {type(item).__name__}")
        role = item.get(self._columns.role)
        content = _first(item, (self._columns.content, *_TEXTS))
        images = item.get("images")
        silent = content is None or (isinstance(content, str) and not content.strip())
        if role in _IGNORED_ROLES or (silent and not images):
            return None, 1
        if role is None and _first(item, _OTHERS["speaker_name"]) is not None:
            role = "user"  # people among themselves
        message: Message = {"role": role, "content": "" if content is None else content}
        said = _first(item, (self._columns.time, *_TIMES))
        message["time_stamp"] = time if said is None else said
        for name, sources in _OTHERS.items():
            value = _first(item, sources)
            if value is not None:
                message[name] = value
        return message, 0


def _locomo(record: Mapping[str, Any]) -> Iterator[list[Message]]:
    """Sessions of two people who both count as users, as the published protocol has it."""
    inner = record.get("conversation")
    dialogue: Mapping[str, Any] = inner if isinstance(inner, Mapping) else record
    numbers = sorted(int(found.group(1)) for name in dialogue if (found := _SESSION.match(name)))
    for number in numbers:
        turns = dialogue[f"session_{number}"]
        if not isinstance(turns, Sequence) or isinstance(turns, str):
            raise DataError(f"'session_{number}' is not a list of turns")
        default = dialogue.get(f"session_{number}_date_time")
        messages = [message for turn in turns if (message := _turn(turn, default))]
        if messages:
            yield messages


def _turn(turn: Any, default: Any) -> Message | None:
    if not isinstance(turn, Mapping):
        raise DataError(f"a turn is an object, this is {type(turn).__name__}")
    text = str(_first(turn, ("text", "clean_text")) or "").strip()
    caption = turn.get("blip_caption")
    # The picture itself lies on some server; its description is what was seen.
    shown = f"[{caption}]" if isinstance(caption, str) and caption.strip() else ""
    content = f"{text} {shown}".strip()
    if not content:
        return None
    speaker = str(turn.get("speaker") or "")
    return {"role": "user", "content": content, "speaker_name": speaker, "time_stamp": turn.get("date_time") or default}


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first field that is there and not null."""
    return next((record[name] for name in names if record.get(name) is not None), None)


__all__ = ["Layout", "Message", "Told", "detect_layout"]
