"""What one worker of a bulk job does: opened from values, alike in one process and in many; units in, receipts out.

A unit is a batch of users, so one user's conversations are always read by one worker, in order. Everything a station
does is safe to repeat.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from lightrag.config import Settings
from lightrag.conversation._sync import run_sync
from lightrag.conversation.bulk.consolidating import consolidate_user
from lightrag.conversation.bulk.importing import UserImport, gather
from lightrag.conversation.bulk.layouts import Layout, Told
from lightrag.conversation.bulk.receipts import FailedConversation, Receipt
from lightrag.conversation.bulk.records import Place, Records
from lightrag.conversation.bulk.spec import ConsolidationSpec, ImportSpec
from lightrag.conversation.engine import Engine
from lightrag.conversation.opening import embedded_vectors, memory_configuration, open_conversations
from lightrag.conversation.types import Scope
from lightrag.errors import ConfigurationError, DataError

TOGETHER = 8
"""Users that one worker has in hand at a time: while a language model writes for one, others go on."""

StageName = Literal["extract", "index"]
Task = TypeVar("Task")
Result = TypeVar("Result")


class Station(Protocol):
    """Turns a unit, or the receipt of the station before, into a receipt; both as JSON."""

    def run(self, text: str) -> str:
        """Do it.

        Raises:
            BackendError: a store failed; what was done stays.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass(frozen=True, slots=True)
class ImportLine:
    """Everything that describes an import; travels to workers."""

    settings: Settings
    spec: ImportSpec
    layout: str
    source: str

    def station(self, *stages: StageName) -> Station:
        """Some stages in this process."""
        return ImportStation(self, stages)


@dataclass(frozen=True, slots=True)
class ConsolidationLine:
    """Everything that describes a consolidation; travels to workers."""

    settings: Settings
    spec: ConsolidationSpec

    def station(self, *stages: StageName) -> Station:
        """All of it in this process."""
        return ConsolidationStation(self)


class OpenEngine:
    """An engine of this worker, over the configured vectors or, where those are not to be had, vectors of its own."""

    def __init__(self, settings: Settings, *, own_vectors: bool = False) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.shares_vectors = not own_vectors
        if not own_vectors:
            try:
                self.engine = open_conversations(settings)
            except ConfigurationError as error:
                if not _held_elsewhere(settings, error):
                    raise
                self.shares_vectors = False
        if not self.shares_vectors:
            self._folder = tempfile.TemporaryDirectory(prefix="lightrag-vectors-")
            self.engine = open_conversations(settings, scratch=Path(self._folder.name))

    def close(self) -> None:
        """Let go of everything."""
        run_sync(self.engine.close())
        if self._folder is not None:
            self._folder.cleanup()


def _held_elsewhere(settings: Settings, error: ConfigurationError) -> bool:
    """Whether it is the folder of the vectors that another process holds, such as the running service."""
    config = memory_configuration(settings)
    configs = config.embedding_retriever.configs
    return embedded_vectors(config) and error.subject == str(
        Path(str(configs.path)).expanduser().absolute() / configs.collection_name
    )


class ImportStation:
    """Extracts, indexes, or both."""

    def __init__(self, line: ImportLine, stages: Sequence[StageName]) -> None:
        self._line = line
        self._stages = stages
        # Extraction alone writes to the history only, so any number of workers may do it.
        self._open = OpenEngine(line.settings, own_vectors="index" not in stages)
        self._records = Records(line.spec.location, line.spec.options)
        self._layout = Layout(line.layout, line.spec.columns, line.spec.user)  # type: ignore[arg-type]  # was detected

    def run(self, text: str) -> str:
        """See :class:`Station`."""
        return run_sync(self._run(text)).to_json()

    async def _run(self, text: str) -> Receipt:
        receipt = await self._extract(json.loads(text)) if "extract" in self._stages else Receipt.from_json(text)
        if "index" in self._stages and self._open.shares_vectors:
            await _together(self._index, receipt.index)
            receipt = replace(receipt, index=())
        return receipt

    async def _extract(self, unit: Mapping[str, list[list[Any]]]) -> Receipt:
        receipts = await _together(self._user, list(unit.items()))
        return reduce(add, receipts, Receipt())

    async def _user(self, task: tuple[str, list[list[Any]]]) -> Receipt:
        user, places = task
        told, failed = await asyncio.to_thread(self._read, user, [Place(*place) for place in places])
        scope = Scope(self._line.spec.tenant, user)
        return await UserImport(self._open.engine, scope, self._line.source).run(told, failed)

    def _read(self, user: str, places: Sequence[Place]) -> tuple[list[Told], list[FailedConversation]]:
        told: list[Told] = []
        failed: list[FailedConversation] = []
        for place in places:
            for record in self._records.read(place):
                try:
                    told += self._layout.told(record, place.path)
                except DataError as error:
                    failed.append(FailedConversation(user, "", f"{place.path}#{place.start}", str(error)))
        return gather(told), failed

    async def _index(self, user: str) -> None:
        engine, scope = self._open.engine, Scope(self._line.spec.tenant, user)
        await index_user(engine, scope)

    def close(self) -> None:
        """See :class:`Station`."""
        self._open.close()


async def index_user(engine: Engine, scope: Scope) -> None:
    """Bring the vectors of a user up to date; who is, costs two look-ups."""
    if "embedding" not in engine.options.indexed:
        return
    revision = await asyncio.to_thread(engine.history.ledger.revision, scope)
    if await asyncio.to_thread(engine.store.watermark, scope) >= revision:
        return
    revision = await engine.keeper.bring_up(scope)
    if engine.images is not None:
        await engine.images.bring_up(scope, revision)


class ConsolidationStation:
    """Consolidates users."""

    def __init__(self, line: ConsolidationLine) -> None:
        self._line = line
        self._open = OpenEngine(line.settings)

    def run(self, text: str) -> str:
        """See :class:`Station`."""
        return run_sync(self._run(json.loads(text))).to_json()

    async def _run(self, users: list[str]) -> Receipt:
        return reduce(add, await _together(self._user, users), Receipt())

    async def _user(self, user: str) -> Receipt:
        return await consolidate_user(self._open.engine, Scope(self._line.spec.tenant, user), self._line.spec)

    def close(self) -> None:
        """See :class:`Station`."""
        self._open.close()


async def _together(do: Callable[[Task], Awaitable[Result]], tasks: Sequence[Task]) -> list[Result]:
    free = asyncio.Semaphore(TOGETHER)

    async def one(task: Task) -> Result:
        async with free:
            return await do(task)

    running = [asyncio.ensure_future(one(task)) for task in tasks]
    try:
        return list(await asyncio.gather(*running))
    finally:
        # One that fails fails the batch; the others must not go on behind the back of whoever repeats it.
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


__all__ = ["ConsolidationLine", "ConsolidationStation", "ImportLine", "ImportStation", "StageName", "Station"]
