"""The catalogue of corpora as the object store holds it. Reads commit files only, so it needs no heavy library."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass

from lightrag.api.schemas import CorpusInfo
from lightrag.errors import LightRAGError, NotFoundError
from lightrag.storage.artifacts import CorpusLog, list_corpora
from lightrag.storage.commits import Commit
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId, CorpusVersion

_LOG = logging.getLogger(__name__)

_WARM_SECONDS = 300.0
"""How long a version may take to load before it is tried again."""

Warm = Callable[[CorpusVersion], Awaitable[object]]
"""Loads a version where it will be needed."""


@dataclass(slots=True)
class _Known:
    log: CorpusLog
    newest: Commit | None = None
    """The one that is served."""
    looked: float = float("-inf")
    warming: asyncio.Task[None] | None = None
    """Makes a newer one ready."""


class StoredCatalogue:
    """Knows corpora and versions from storage.

    Args:
        store: where they are.
        refresh_seconds: how long the newest version of a corpus is taken to be the newest without looking again.
        warm: loads a version where it will be needed. While it does, the version before it is served; where it fails,
            that goes on, and the next look tries again. ``None``: the first request to a version loads it.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        refresh_seconds: float,
        warm: Warm | None = None,
    ) -> None:
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._warm = warm
        self._known: dict[CorpusId, _Known] = {}

    async def pin(self, corpus: CorpusId, version: int | None = None) -> CorpusVersion:
        """Return the newest version, or check that the given one exists; see :class:`lightrag.api.app.Catalogue`."""
        if version is not None:
            await asyncio.to_thread(CorpusLog(self._store, corpus).read, version)
            return corpus.at(version)
        return (await self._newest(corpus)).id

    async def corpora(self, tenant: str) -> list[CorpusInfo]:
        """List the tenant's corpora."""
        found = await asyncio.to_thread(list_corpora, self._store, tenant)
        # One that is deleted meanwhile is left out.
        commits = await asyncio.gather(*(self._newest(corpus) for corpus in found), return_exceptions=True)
        for result in commits:
            if isinstance(result, BaseException) and not isinstance(result, NotFoundError):
                raise result
        return [_describe(commit) for commit in commits if isinstance(commit, Commit)]

    async def describe(self, corpus: CorpusId) -> CorpusInfo:
        """Describe one corpus."""
        return _describe(await self._newest(corpus))

    async def _newest(self, corpus: CorpusId) -> Commit:
        known = self._known.get(corpus) or _Known(CorpusLog(self._store, corpus))
        if time.monotonic() - known.looked > self._refresh_seconds:
            newest, replaces = await asyncio.to_thread(_look, known.log, known.newest)
            known.looked = time.monotonic()
            if self._warm is None or newest is None or not replaces:
                known.newest = newest
            elif known.warming is None or known.warming.done():
                warming = _warm_up(self._warm, known, newest)
                # Outside the request that happened to look: it ends before, and Ray Serve loses one of two calls that
                # are made at once under the id of one request.
                known.warming = asyncio.create_task(warming, name=f"warm {newest.id}", context=Context())
        if known.newest is None:
            # Names that do not exist are not remembered: anybody can ask for any number of them.
            self._known.pop(corpus, None)
            raise NotFoundError(
                f"there is no corpus {corpus.corpus!r}: make it with `lightrag ingest PATH --corpus {corpus.corpus}`",
                subject=str(corpus),
            )
        self._known[corpus] = known
        return known.newest


def _look(log: CorpusLog, served: Commit | None) -> tuple[Commit | None, bool]:
    """The newest version, and whether it is to replace one that can still be served."""
    newest = log.latest()
    if served is None or newest is None or newest.version <= served.version:
        return newest, False
    try:
        log.read(served.version)
    except NotFoundError:  # the corpus was deleted and made again
        return newest, False
    return newest, True


async def _warm_up(warm: Warm, known: _Known, newest: Commit) -> None:
    try:
        async with asyncio.timeout(_WARM_SECONDS):
            await warm(newest.id)
    except (LightRAGError, TimeoutError) as error:
        _LOG.warning("%s cannot be loaded, so the version before it is still served: %s", newest.id, error)
    else:
        known.newest = newest


def _describe(commit: Commit) -> CorpusInfo:
    return CorpusInfo(
        corpus=commit.corpus,
        version=commit.version,
        committed_at=commit.created.isoformat(timespec="seconds"),
        counts=commit.counts,
    )


__all__ = ["StoredCatalogue", "Warm"]
