"""Load whose right answers are known, and what became of it while something was killed. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

from lightrag.client import AsyncClient
from lightrag.errors import LightRAGError
from lightrag.rag import AnswerText, Finished
from tests.lightrag.conversation.conftest import say

QUESTIONS = {
    "Who founded the mill?": "Ada Lind",
    "When did the drying shed burn down?": "1901",
    "What did the mill make in 2017?": "120 tonnes",
}
DEPLOYMENTS = ("Recall", "Retrieval", "Compression", "Generation", "Conversation", "Ingress")
CONTROLLER = "ServeController"
USER = "chaos"


def kill(victim: str, family: Iterable[psutil.Process]) -> int:
    """Kill one process of a deployment, or the controller; returns its number."""
    found = [process for process in family if _is(process, victim)]
    if not found:
        raise AssertionError(f"no process of {victim} runs")
    os.kill(found[0].pid, signal.SIGKILL)
    return found[0].pid


def _is(process: psutil.Process, victim: str) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False
    return title.startswith("ray::") and (f":{victim}" in title or title.startswith(f"ray::{victim}"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request."""

    kind: str
    began: float
    """By ``time.monotonic``."""
    seconds: float
    failure: str = ""
    wrong: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(slots=True)
class Load:
    """Requests without any retry of their own, until the load is stopped."""

    outcomes: list[Outcome] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    """Numbers of the sentences that the service said it will remember."""

    def since(self, moment: float) -> Sequence[Outcome]:
        """Requests that ended after a moment."""
        return [outcome for outcome in self.outcomes if outcome.began + outcome.seconds >= moment]

    @property
    def wrong(self) -> list[str]:
        """Answers that were given and are not right."""
        return [outcome.wrong for outcome in self.outcomes if outcome.wrong]

    @property
    def failures(self) -> Counter[str]:
        """What failed, and how often."""
        return Counter(f"{outcome.kind}: {outcome.failure}" for outcome in self.outcomes if outcome.failure)

    async def note(self, kind: str, work: Callable[[], Awaitable[tuple[str, tuple[str, ...]]]]) -> None:
        """Send one request; ``work`` returns what is wrong with its answer, and the fallbacks that it used."""
        began = time.monotonic()
        wrong, fallbacks, failure = "", (), ""
        try:
            wrong, fallbacks = await work()
        except LightRAGError as error:
            failure = f"{type(error).__name__}: {error}"[:160]
        self.outcomes.append(Outcome(kind, began, time.monotonic() - began, failure, wrong, fallbacks))


@asynccontextmanager
async def load(url: str, *, askers: int = 3, pause: float = 0.02, seconds: float = 60.0) -> AsyncIterator[Load]:
    """Ask, stream and remember without pause while the body runs; on leaving, wait for what is under way.

    Args:
        url: of a service that holds the corpus ``mill``.
        askers: how many ask at once; one of them reads streams, and one more writes.
        pause: seconds between two requests of each.
        seconds: deadline of each question.
    """
    made = Load()
    stopped = asyncio.Event()
    numbers = itertools.count()
    async with AsyncClient(url, retries=0) as client, asyncio.TaskGroup() as group:

        async def repeat(kind: str, work: Callable[[], Awaitable[tuple[str, tuple[str, ...]]]]) -> None:
            while not stopped.is_set():
                await made.note(kind, work)
                await asyncio.sleep(pause)

        async def ask() -> tuple[str, tuple[str, ...]]:
            question, right = _question(next(numbers))
            answer = await client.ask(question, corpus="mill", compress_to=200, seconds=seconds)
            wrong = "" if right in answer.text else f"{question} → {answer.text}"
            return wrong, tuple(fallback.stage for fallback in answer.fallbacks)

        async def stream() -> tuple[str, tuple[str, ...]]:
            question, right = _question(next(numbers))
            text, last = "", None
            async for event in client.stream(question, corpus="mill", seconds=seconds):
                if isinstance(event, AnswerText):
                    text += event.text
                if isinstance(event, Finished):
                    last = event.answer
            whole = last is not None and last.text == text and right in text
            return "" if whole else f"stream of {question} → {text}", ()

        async def remember() -> tuple[str, tuple[str, ...]]:
            number = next(numbers)
            await client.memories.add(say(f"I met person {number}."), user=USER)
            made.accepted.append(number)
            return "", ()

        for number in range(askers):
            group.create_task(repeat("stream", stream) if number == 0 else repeat("ask", ask))
        group.create_task(repeat("remember", remember))
        try:
            yield made
        finally:
            stopped.set()


def _question(number: int) -> tuple[str, str]:
    return list(QUESTIONS.items())[number % len(QUESTIONS)]


async def settle(url: str, *, within: float = 240.0) -> float:
    """Wait until every stage answers again; returns the seconds that it took.

    Raises:
        TimeoutError: it does not.
    """
    began = time.monotonic()
    async with AsyncClient(url, retries=0) as client, asyncio.timeout(within):
        while True:
            try:
                answer = await client.ask("Who founded the mill?", corpus="mill", compress_to=200, seconds=within)
                await client.memories.search("person", user=USER)
            except LightRAGError:
                await asyncio.sleep(0.1)
                continue
            if not answer.fallbacks:
                return time.monotonic() - began


async def remembered(url: str) -> list[int]:
    """Numbers of all sentences that are there, in order and each as often as it is there."""
    async with AsyncClient(url) as client:
        await client.memories.consolidate(user=USER, flush=True)
        entries = [entry async for entry in client.memories.all(user=USER)]
    return sorted(int(entry.text.split("person ")[1].rstrip(".")) for entry in entries)
