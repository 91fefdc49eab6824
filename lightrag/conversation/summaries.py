"""Summaries over periods: entries of a window of time become one entry of kind ``summary``, found like any other.

Which entries a summary covers is kept with it, so a period is summarised once, whoever asks and however often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import uuid4

from lightrag.conversation.extraction.condense import content_words
from lightrag.conversation.history import History, Why
from lightrag.conversation.index.keeper import IndexKeeper
from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.types import EntryDraft, MemoryEntry, Scope, comparable, position
from lightrag.errors import BackendError
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.types import Usage

RelatedFrom = Literal["global", "historical"]

INSTRUCTIONS = (
    "Summarise these dated memories of one period in at most 200 words: who did, said, planned or felt what, with "
    "names and dates. Related memories from other periods may follow; mention them only where they explain something. "
    "Add nothing that is not there. Answer with the summary only."
)
QUOTED_ENTRIES = 8
"""Entries that an extractive summary quotes."""


@dataclass(frozen=True, slots=True)
class SummaryReport:
    """What one call made."""

    summaries: tuple[MemoryEntry, ...] = ()
    covered: int = 0
    """Entries that are summarised now."""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class SummaryOptions:
    """How to summarise."""

    instructions: str = ""
    window: timedelta = timedelta(hours=1)
    everything: bool = False
    """All periods instead of the earliest one."""
    related: int = 15
    """Entries of other periods shown beside; 0 for none."""
    related_from: RelatedFrom = "global"


class Summarizer:
    """Summarises one user's entries. Safe to share between tasks."""

    def __init__(
        self, history: History, keeper: IndexKeeper, vectorizer: Vectorizer, model: LanguageModel | None
    ) -> None:
        self._history = history
        self._keeper = keeper
        self._vectorizer = vectorizer
        self._model = model

    async def summarize(self, scope: Scope, options: SummaryOptions) -> SummaryReport:
        """Summarise the earliest period that has no summary yet, or all of them.

        Raises:
            BackendError: the model failed; finished periods stay.
        """
        report = SummaryReport()
        while True:
            view = await self._keeper.view(scope, vectors=False)
            entries = [row.entry for row in view.rows if row.entry.state == "current"]
            window, others = _next_window(entries, options)
            if not window:
                return report
            related = await self._related(window, others, options.related)
            text, usage = await self._write(window, related, options.instructions)
            entry_id = await asyncio.to_thread(self._store, scope, window, text)
            made = await asyncio.to_thread(self._history.entries.get, scope, entry_id)
            report = SummaryReport((*report.summaries, made), report.covered + len(window), report.usage + usage)
            if not options.everything:
                return report

    async def _related(
        self, window: Sequence[MemoryEntry], others: Sequence[MemoryEntry], count: int
    ) -> list[MemoryEntry]:
        if not others or not count:
            return []
        vectors = await self._vectorizer.documents([entry.text for entry in (*window, *others)])
        centre = vectors[: len(window)].mean(axis=0)
        scores = vectors[len(window) :] @ centre
        chosen = sorted(range(len(others)), key=lambda place: -float(scores[place]))[:count]
        return sorted((others[place] for place in chosen), key=position)

    async def _write(
        self, window: Sequence[MemoryEntry], related: Sequence[MemoryEntry], instructions: str
    ) -> tuple[str, Usage]:
        if self._model is None:
            return _quote(window), Usage()
        parts = ["Memories of the period:", *(entry.line for entry in window)]
        if related:
            parts += ["Related memories of other periods:", *(entry.line for entry in related)]
        prompt = Prompt.of("\n".join(parts), system=instructions or INSTRUCTIONS)
        completion = (await self._model.complete([prompt], Sampling(max_tokens=600)))[0]
        if not completion.text.strip():
            raise BackendError(f"model {self._model.name!r} wrote an empty summary", retryable=True)
        return completion.text.strip(), completion.usage

    def _store(self, scope: Scope, window: Sequence[MemoryEntry], text: str) -> str:
        draft = EntryDraft(
            text,
            window[-1].time,
            tuple(dict.fromkeys(source for entry in window for source in entry.sources)),
            kind="summary",
            method="prompted",
            conversation=window[-1].conversation,
            event_time=f"{window[0].time:%Y-%m-%d}/{window[-1].time:%Y-%m-%d}",
            covers=tuple(entry.entry_id for entry in window),
        )
        with self._history.ledger.write(scope) as tx:
            why = Why(uuid4().hex, f"summary of {len(window)} entries", time.time())
            return self._history.entries.insert(tx, [draft], why)[0]


def _next_window(
    entries: Sequence[MemoryEntry], options: SummaryOptions
) -> tuple[list[MemoryEntry], list[MemoryEntry]]:
    """Entries of the next period, and those that may be shown beside them."""
    told = {entry_id for entry in entries if entry.kind == "summary" for entry_id in entry.covers}
    ordered = sorted((entry for entry in entries if entry.kind not in ("summary", "turn")), key=position)
    waiting = [entry for entry in ordered if entry.entry_id not in told]
    if not waiting:
        return [], []
    start = comparable(waiting[0].time)
    window = [entry for entry in waiting if comparable(entry.time) - start <= options.window]
    inside = {entry.entry_id for entry in window}
    others = [entry for entry in ordered if entry.entry_id not in inside]
    if options.related_from == "historical":
        others = [entry for entry in others if comparable(entry.time) < start]
    return window, others


def _quote(window: Sequence[MemoryEntry]) -> str:
    """The entries that say most, in order."""
    ranked = sorted(window, key=lambda entry: (-entry.importance, -len(set(content_words(entry.text)))))
    chosen = sorted(ranked[:QUOTED_ENTRIES], key=position)
    days = f"{window[0].time:%Y-%m-%d}" + (f" to {window[-1].time:%Y-%m-%d}" if len(window) > 1 else "")
    return f"{days}. " + " ".join(entry.text for entry in chosen)


__all__ = ["INSTRUCTIONS", "RelatedFrom", "Summarizer", "SummaryOptions", "SummaryReport"]
