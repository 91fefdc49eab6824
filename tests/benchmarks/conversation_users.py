"""Many users at once, served by several processes over one history, as replicas of the service do.

Every process serves every user, each from another place in the row of users, so that all of them are interleaved.
Every process then looks at every user: each must have exactly the entries of its own, whichever process made them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightrag.conversation import LightMemory
from lightrag.conversation.types import SearchResult
from lightrag.models.fakes import HashingEmbedder

AT_ONCE = 8
"""Tasks of one process."""
TENANTS = 7
ROUNDS = 2
"""Adds of every process to every user. The first one makes the user's index in that process."""
PATIENCE_SECONDS = 600
_together: Barrier


def users(count: int, folder: Path, *, workers: int = 2, history: str = "") -> dict[str, Any]:
    """Let every worker add to the memory of every user; nobody sees another one's entries.

    Args:
        count: users.
        folder: for the vectors of every worker, and for the history unless that is elsewhere.
        workers: processes.
        history: database of the history, ``postgresql://user@host/name``; empty: one SQLite file.
    """
    context = get_context("spawn")
    location, run = history or str(folder / "history.db"), uuid4().hex[:8]
    with ProcessPoolExecutor(workers, context, _meet, (context.Barrier(workers),)) as pool:
        working = [pool.submit(_work, worker, workers, count, folder, location, run) for worker in range(workers)]
        phases = list(zip(*(each.result() for each in working), strict=True))
    new, known, looked = (
        workers * count / (max(ended for _, ended in phase) - min(begun for begun, _ in phase)) for phase in phases
    )
    place = history.partition("://")[0] or "SQLite"
    print(
        f"{count} users from each of {workers} processes over one history ({place}): {new:.0f} adds/s of users who are "
        f"new to it, {known:.0f} adds/s of known ones, with a search per add; {looked:.0f} searches/s; each "
        f"sees exactly its own {ROUNDS * workers} entries everywhere",
        flush=True,
    )
    rates = {"new_adds_per_second": new, "adds_per_second": known, "searches_per_second": looked}
    return {"name": f"{count} users, {workers} processes", **rates, "history": place}


def _meet(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _work(worker: int, workers: int, count: int, folder: Path, history: str, run: str) -> list[tuple[float, float]]:
    """One process. Returns begin and end of every phase, by one clock for all processes."""
    config = {
        "embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(folder / f"vectors-{worker}")}},
        "history_db_path": history,
    }
    memory = LightMemory.from_config(config, embedder=HashingEmbedder(64))
    first = worker * count // workers
    order = [(first + step) % count for step in range(count)]

    async def look(n: int) -> SearchResult:
        found = await memory.for_user(f"{run}-{n % TENANTS}", f"user{n}").aio.search("owner house", limit=20)
        assert all(f"owner {n} " in hit.entry.text for hit in found.entries), f"user {n} sees another one's entries"
        return found

    async def add(part: int, n: int) -> None:
        said = f"I am owner {n} and have house {worker}/{part}."
        message = {"role": "user", "content": said, "time_stamp": "2024-01-01"}
        await memory.for_user(f"{run}-{n % TENANTS}", f"user{n}").aio.add_memory(message, force_extract=True)
        found = await look(n)
        assert any(said in hit.entry.text for hit in found.entries), f"user {n} does not see what was just added"

    async def check(n: int) -> None:
        seen = {hit.entry.text for hit in (await look(n)).entries}
        made = [f"{each}/{part}" for each in range(workers) for part in range(ROUNDS)]
        assert seen == {f"User: I am owner {n} and have house {house}." for house in made}, (n, seen)

    async def everyone(work: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(n: int) -> None:
            async with limit:
                await work(n)

        # Nothing else runs in this process while it waits for the others.
        _together.wait(PATIENCE_SECONDS)
        begun = time.monotonic()
        await asyncio.gather(*(one(n) for n in order))
        return begun, time.monotonic()

    async def phases() -> list[tuple[float, float]]:
        adding = [await everyone(partial(add, part)) for part in range(ROUNDS)]
        return [*adding, await everyone(check)]

    try:
        return asyncio.run(phases())
    except BaseException:
        # The others must not wait for one that has failed.
        _together.abort()
        raise
    finally:
        memory.close()


__all__ = ["users"]
