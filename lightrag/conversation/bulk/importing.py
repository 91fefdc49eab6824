"""One user's conversations into their memory, exactly once.

Every session is accepted under a request id that says where in its conversation it begins and what it says, so the
history itself tells how far an import has come: a killed one goes on there, a repeated one does nothing, and one whose
source has grown does what is new.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3
from sqlalchemy import select

from lightrag.conversation.bulk.layouts import Told
from lightrag.conversation.bulk.receipts import FailedConversation, Receipt
from lightrag.conversation.engine import Engine
from lightrag.conversation.history import schema
from lightrag.conversation.images.pictures import Picture, read_pictures
from lightrag.conversation.index.rows import SESSION_GAP
from lightrag.conversation.intake import IntakeRules, read_messages
from lightrag.conversation.pipeline import LEASE_SECONDS, Progress
from lightrag.conversation.types import Message, Scope, comparable
from lightrag.errors import ConflictError, DataError

ACCEPTED_TOGETHER = 500
"""Messages in one transaction."""
NAME_CHARACTERS = 256
"""Of a conversation's name."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A whole conversation of one user, as a source tells it."""

    name: str
    messages: tuple[Message, ...]
    ends: tuple[int, ...]
    """Positions after the last message of each session."""


class _Known(NamedTuple):
    digest: str
    messages: int


def gather(told: Iterable[Told]) -> list[Told]:
    """Join what records tell of the same conversation, in order."""
    joined: dict[str, Told] = {}
    for part in told:
        known = joined.get(part.conversation)
        if known is None:
            joined[part.conversation] = part
        elif known.one_session:
            # Thousands of records may be one conversation: lists grow in place.
            session = known.sessions[0] if known.sessions else []
            flat = session if isinstance(session, list) else list(session)
            for messages in part.sessions:
                flat.extend(messages)
            joined[part.conversation] = known._replace(
                sessions=(flat,) if flat else (), ignored=known.ignored + part.ignored
            )
        else:
            both = (*known.sessions, *part.sessions)
            joined[part.conversation] = known._replace(sessions=both, ignored=known.ignored + part.ignored)
    return list(joined.values())


def read_dialogue(told: Told, rules: IntakeRules) -> Dialogue:
    """Check every message of a conversation before any is accepted.

    Raises:
        MessageError: one cannot be accepted; it is named by its position in its session.
        DataError: there is none.
    """
    messages: list[Message] = []
    ends: list[int] = []
    for session in told.sessions:
        read = read_messages(session, rules=rules).messages
        if told.one_session:
            ends += [len(messages) + place for place in _silences(read)]
        messages += read
        ends.append(len(messages))
    if not messages:
        raise DataError("no message of it says anything")
    if not told.conversation.strip() or len(told.conversation) > NAME_CHARACTERS:
        raise DataError(f"its name {told.conversation[:40]!r} must have 1 to {NAME_CHARACTERS} characters")
    return Dialogue(told.conversation, tuple(messages), tuple(ends))


def _silences(messages: Sequence[Message]) -> list[int]:
    """Where a longer silence ends a session."""
    times = [comparable(message.time) for message in messages]
    return [place for place in range(1, len(times)) if times[place] - times[place - 1] > SESSION_GAP]


class UserImport:
    """Imports into one user's memory. One at a time per user; conversations in the order of their source."""

    def __init__(self, engine: Engine, scope: Scope, source: str) -> None:
        """Begin.

        Args:
            engine: whose history and pipeline are used; nothing is indexed.
            scope: whose memory.
            source: identity of the source.
        """
        self._engine = engine
        self._scope = scope
        self._source = source
        self._progress: list[Progress] = []
        self._accepted = 0

    async def run(self, told: Sequence[Told], failed: Sequence[FailedConversation] = ()) -> Receipt:
        """Import conversations; those that cannot be are in the receipt, with the reason.

        Raises:
            BackendError: the history failed; what was accepted stays, and the next run goes on from it.
        """
        failures = list(failed)
        imported = unchanged = 0
        resumed = False
        for each in told:
            try:
                dialogue = await asyncio.to_thread(read_dialogue, each, self._engine.options.intake)
                begun = await self._import(dialogue)
            except (DataError, ConflictError) as error:
                failures.append(FailedConversation(self._scope.user, each.conversation, "", str(error)))
                continue
            resumed = resumed or begun is not None
            unchanged += begun == len(dialogue.messages)
            imported += begun != len(dialogue.messages)
        queued = await self._extract_rest(take_over=resumed)
        return self._receipt(
            Receipt(
                users=1,
                changed=int(bool(self._accepted or self._entries)),
                conversations=len(told),
                imported=imported,
                unchanged=unchanged,
                messages=self._accepted,
                ignored=sum(each.ignored for each in told),
                queued=queued,
                failed=tuple(failures),
                index=(self._scope.user,),
            )
        )

    def _receipt(self, receipt: Receipt) -> Receipt:
        usages = [progress.usage for progress in self._progress]
        waits = receipt.queued > 0
        return receipt + Receipt(
            entries=len(self._entries),
            calls=sum(usage.calls for usage in usages),
            tokens=sum(usage.prompt_tokens + usage.completion_tokens for usage in usages),
            problems=tuple(
                f"{self._scope.user}: {problem.stage}: {problem.reason}"
                for progress in self._progress
                for problem in progress.problems
                if waits or not problem.retried
            ),
        )

    @property
    def _entries(self) -> set[str]:
        return {entry for progress in self._progress for entry in progress.entries}

    # --- One conversation ---------------------------------------------------------------------------------------------

    async def _import(self, dialogue: Dialogue) -> int | None:
        """Accept what is missing and move it on. Returns how much was there already; ``None``: nothing."""
        key = blake3(f"{self._source}\0{dialogue.name}".encode()).hexdigest(length=16)
        known = await asyncio.to_thread(self._known, key)
        begun = start = _begun(dialogue, known)
        end = len(dialogue.messages)
        if start and (start < end or await self._waits(dialogue.name)):
            # A run before this one may have ended between accepting and moving on.
            await self._advance(dialogue, start)
        while start < end:
            stop = min(min(place for place in dialogue.ends if place > start), start + ACCEPTED_TOGETHER)
            messages = dialogue.messages[start:stop]
            await self._accept(dialogue.name, messages, f"{_prefix(key)}{start}:{_digest(messages)}")
            self._accepted += len(messages)
            await self._advance(dialogue, stop)
            start = stop
        return begun or None

    async def _advance(self, dialogue: Dialogue, reached: int) -> None:
        done = await self._engine.pipeline.advance(
            self._scope,
            dialogue.name,
            force_segment=reached in dialogue.ends,
            force_extract=reached == len(dialogue.messages),
        )
        self._progress.append(done)

    async def _accept(self, conversation: str, messages: Sequence[Message], request_id: str) -> None:
        rules = self._engine.pictures
        pictures: Sequence[Sequence[Picture]] = ()
        if rules is not None:
            messages, pictures = await asyncio.to_thread(read_pictures, messages, rules)
        accept = self._engine.history.messages.accept
        await asyncio.to_thread(accept, self._scope, conversation, messages, request_id, pictures)

    async def _waits(self, conversation: str) -> bool:
        waiting = await asyncio.to_thread(self._engine.history.messages.waiting, self._scope, conversation)
        return waiting.buffered > 0

    def _known(self, key: str) -> dict[int, _Known]:
        """What was accepted before, by where it begins in the conversation."""
        ledger = self._engine.history.ledger
        requests = schema.requests.c
        where = (requests.scope_id == ledger.scope_id(self._scope)) & requests.request_id.startswith(_prefix(key))
        with ledger.read(str(self._scope)) as connection:
            rows = connection.execute(select(requests.request_id, requests.accepted).where(where)).all()
        places = ((row.request_id.split(":"), len(row.accepted)) for row in rows)
        return {int(parts[2]): _Known(parts[3], count) for parts, count in places}

    # --- The rest -----------------------------------------------------------------------------------------------------

    async def _extract_rest(self, *, take_over: bool) -> int:
        """Try what waits in the queue once more. Returns how many batches still wait."""
        batches = self._engine.history.batches
        if not await asyncio.to_thread(batches.queued, self._scope):
            return 0
        if take_over:
            await asyncio.to_thread(self._take_over)
        self._progress.append(await self._engine.pipeline.extract_due(self._scope, ignore_backoff=True))
        return len(await asyncio.to_thread(batches.queued, self._scope))

    def _take_over(self) -> None:
        """Free batches that a killed worker holds. Should one still be at work, its result is refused, not doubled."""
        batches = self._engine.history.batches
        taken: set[int] = set()
        later = time.time() + LEASE_SECONDS + 1
        while claim := batches.claim(self._scope, later, 0.0, ready=None, skip=frozenset(taken)):
            taken.add(claim.batch_id)
            batches.give_back(self._scope, claim, "taken over from a worker that is gone", 0.0)


def _prefix(key: str) -> str:
    return f"import:{key}:"


def _begun(dialogue: Dialogue, known: dict[int, _Known]) -> int:
    """How many messages of a conversation were accepted before.

    Raises:
        DataError: they say something else now.
    """
    start = 0
    while start in known:
        digest, count = known[start]
        if _digest(dialogue.messages[start : start + count]) != digest:
            raise DataError(
                f"its messages from number {start} on were imported before and say something else now: import it under "
                "another source name, or forget the user first"
            )
        start += count
    return start


def _digest(messages: Sequence[Message]) -> str:
    said = [
        [each.role, each.content, each.time.isoformat(), each.speaker, each.speaker_id, *each.images]
        for each in messages
    ]
    return blake3(json.dumps(said).encode()).hexdigest(length=12)


__all__ = ["Dialogue", "UserImport", "gather", "read_dialogue"]
