"""Accepting messages and moving them on: history first, then buffers, extraction, index, and reconciliation if wanted.

Knows one user at a time and no configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lightrag.conversation._sync import refuse_inside_loop, run_sync
from lightrag.conversation.arguments import conversation_name, instructions_of, request_name, tag_names
from lightrag.conversation.engine import Engine
from lightrag.conversation.history import Accepted, Waiting
from lightrag.conversation.images.pictures import Picture, read_pictures
from lightrag.conversation.intake import Intake, IntakeRules, read_messages
from lightrag.conversation.logs import LOGGER
from lightrag.conversation.pipeline import Progress
from lightrag.conversation.types import AddReport, Message, Messages, Problem, Scope, UpdateReport
from lightrag.errors import ArtifactError, BackendError

ONLINE_THRESHOLD = 0.7
"""Similarity from which a new entry is compared with an older one at once."""


_NOTHING: Final = Progress()


class AddCall(NamedTuple):
    """One call that adds messages, with checked arguments."""

    intake: Intake
    conversation: str
    force_segment: bool
    force_extract: bool
    instructions: tuple[str, str]
    """For facts and for relations; empty: the extractor's own."""
    request_id: str | None
    seconds: float | None
    """How long it may work on entries."""


def read_call(
    messages: Messages,
    rules: IntakeRules,
    *,
    force_segment: bool,
    force_extract: bool,
    instructions: str | Mapping[str, str] | None,
    tags: Sequence[str],
    conversation: str,
    request_id: str | None,
    seconds: float | None,
) -> AddCall:
    """Check what a caller hands over.

    Raises:
        MessageError: a message cannot be accepted.
        UsageError: another argument cannot be used.
    """
    intake = read_messages(messages, tags=tag_names(tags), rules=rules)
    name, request = conversation_name(conversation), request_name(request_id)
    return AddCall(intake, name, force_segment, force_extract, instructions_of(instructions), request, seconds)


class Adding:
    """Adds to one user's memory."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope

    async def add(self, call: AddCall) -> AddReport:
        """Make messages durable, then take the conversation as far as its buffers allow."""
        return await self._finish(call, await asyncio.to_thread(self._accept, call))

    def add_blocking(self, call: AddCall) -> AddReport:
        """As :meth:`add`, for callers that wait: most calls are done without another thread.

        Raises:
            UsageError: the caller runs inside an event loop.
        """
        refuse_inside_loop()
        accepted = self._accept(call)
        if self._due(call, accepted):
            return run_sync(self._finish(call, accepted))
        return self._report(call, accepted, accepted.waiting)

    def _accept(self, call: AddCall) -> Accepted:
        engine = self._engine
        messages: Sequence[Message] = call.intake.messages
        pictures: Sequence[tuple[Picture, ...]] = ()
        if engine.pictures is not None:
            messages, pictures = read_pictures(messages, engine.pictures)
        return engine.history.messages.accept(
            self._scope,
            call.conversation,
            messages,
            call.request_id,
            pictures,
            topic_tokens=engine.pipeline.topic_tokens(messages),
        )

    def _due(self, call: AddCall, accepted: Accepted) -> bool:
        return self._engine.pipeline.due(accepted.waiting, force_extract=call.force_extract)

    async def _finish(self, call: AddCall, accepted: Accepted) -> AddReport:
        if not self._due(call, accepted):
            return self._report(call, accepted, accepted.waiting)
        done, problems = await self._advance(call)
        waiting = await asyncio.to_thread(self._engine.history.messages.waiting, self._scope, call.conversation)
        return self._report(call, accepted, waiting, done, problems)

    def _report(
        self,
        call: AddCall,
        accepted: Accepted,
        waiting: Waiting,
        done: Progress = _NOTHING,
        problems: Sequence[Problem] = (),
    ) -> AddReport:
        added, made = len(accepted.message_ids), len(done.entries)
        LOGGER.info("%s: %d messages, %d entries, %d queued", self._scope.key, added, made, waiting.queued)
        return AddReport(
            accepted.message_ids,
            done.entries,
            buffered=waiting.buffered,
            queued=waiting.queued,
            repeated=accepted.repeated,
            problems=tuple(problems),
            notes=call.intake.notes,
            usage=done.usage,
        )

    async def _advance(self, call: AddCall) -> tuple[Progress, list[Problem]]:
        engine = self._engine
        done = Progress()
        try:
            async with asyncio.timeout(call.seconds) as timer:
                done = await engine.pipeline.advance(
                    self._scope,
                    call.conversation,
                    force_segment=call.force_segment,
                    force_extract=call.force_extract,
                    instructions=call.instructions,
                )
                engine.meter.add("add_memory", done.usage)
                return done, [*done.problems, *await self._follow_up(done)]
        except TimeoutError:
            if not timer.expired():
                raise
            # The messages are durable; whoever waits should learn that instead of waiting for a slow model.
            reason = f"took longer than {call.seconds:g} s; it is tried again with later messages, or by flush"
            return done, [*done.problems, Problem("extract", reason, retried=True)]

    async def flush(self) -> AddReport:
        """Extract everything that waits in buffers or in the queue, in all conversations of the user."""
        engine, scope = self._engine, self._scope
        failed: list[Problem] = []
        for conversation in await asyncio.to_thread(engine.history.messages.buffered_conversations, scope):
            failed += await engine.pipeline.batch(scope, conversation, force_segment=True, force_batch=True)
        # Once for all of them: a model that is down is not asked again for every conversation.
        done = await engine.pipeline.extract_due(scope, ignore_backoff=True)
        engine.meter.add("add_memory", done.usage)
        problems = [*failed, *done.problems, *await self._follow_up(done)]
        queued = len(await asyncio.to_thread(engine.history.batches.queued, scope))
        return AddReport((), done.entries, queued=queued, problems=tuple(problems), usage=done.usage)

    async def _follow_up(self, done: Progress) -> list[Problem]:
        """Index what was extracted, and reconcile it where that is wanted at once."""
        if not done.entries:
            return []
        options = self._engine.options
        try:
            if options.online:
                report = await self._reconcile(done.entries)
                return list(report.problems)
            # Without a vector index BM25 is derived at the next search, which costs no model.
            revision = await self._engine.keeper.bring_up(self._scope, vectors="embedding" in options.indexed)
            if self._engine.images is not None:
                await self._engine.images.bring_up(self._scope, revision)
        except (BackendError, ArtifactError) as error:
            return [Problem("index", str(error), retried=True)]
        return []

    async def _reconcile(self, entries: Sequence[str]) -> UpdateReport:
        engine = self._engine
        await engine.consolidator.build_queues(self._scope)
        report = await engine.consolidator.consolidate(self._scope, ONLINE_THRESHOLD, only=entries)
        return await consolidated(engine, self._scope, report)


async def consolidated(engine: Engine, scope: Scope, report: UpdateReport) -> UpdateReport:
    """What follows every consolidation: its cost is counted and what is derived from entries is made anew."""
    engine.meter.add("update", report.usage)
    if report.operations:
        await engine.keeper.bring_up(scope)
    return report


__all__ = ["ONLINE_THRESHOLD", "AddCall", "Adding", "consolidated", "read_call"]
