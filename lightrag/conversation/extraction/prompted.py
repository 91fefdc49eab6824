"""Extraction by a language model: one request per batch, every item checked, one more try for an unusable answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from lightrag.conversation.extraction import prompts
from lightrag.conversation.extraction.answers import items_of, read_json
from lightrag.conversation.extraction.base import Extraction, ExtractionRequest, draft_of
from lightrag.conversation.types import EntryDraft, EntryKind, Problem, StoredMessage, TopicSegment
from lightrag.errors import BackendError, ConfigurationError
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.types import ChatMessage, Usage

Mode = Literal["flat", "event"]
INSTRUCTION_ROOM = 600
"""Tokens kept for the instructions and a second try."""
LINE_ROOM = 30
"""Tokens of a line besides its text: time, number, speaker."""
METADATA_SHARE = 0.5
"""Of an answer with category, keywords, entities and time: what the facts themselves take."""
FACT_CHARACTERS = 2000
"""A longer fact is no sentence but a model that ran away."""


class PromptedExtractor:
    """Asks a language model for facts, and in the mode ``event`` also for relations."""

    def __init__(self, model: LanguageModel, *, mode: Mode = "flat", sampling: Sampling | None = None) -> None:
        self._model = model
        self._mode = mode
        self._sampling = sampling or Sampling(max_tokens=2000, json=True)

    async def extract(self, request: ExtractionRequest) -> Extraction:
        """See :class:`Extractor`."""
        found = Extraction(())
        for segments in self._fitting(request):
            sheet = prompts.write_sheet(segments, request.roles)
            for kind, system in self._tasks(request):
                part = await _Conversation(self._model, self._sampling, sheet, kind, request).run(system)
                found = Extraction(found.drafts + part.drafts, found.problems + part.problems, found.usage + part.usage)
        return found

    def _tasks(self, request: ExtractionRequest) -> Iterator[tuple[EntryKind, str]]:
        shape = prompts.FACTS_SHAPE_WITH_METADATA if request.metadata else prompts.FACTS_SHAPE
        yield "fact", request.instructions or f"{prompts.FACTS}\n{shape}"
        if self._mode == "event":
            yield "relation", request.relation_instructions or f"{prompts.RELATIONS}\n{prompts.RELATIONS_SHAPE}"

    def _fitting(self, request: ExtractionRequest) -> Iterator[tuple[TopicSegment, ...]]:
        """The segments in parts that fit the model's window; a long segment is read in pieces."""
        room = self._model.context_tokens - self._sampling.max_tokens - INSTRUCTION_ROOM
        if room < LINE_ROOM * 2:
            raise ConfigurationError(
                f"model {self._model.name!r} reads {self._model.context_tokens} tokens, of which max_tokens "
                f"{self._sampling.max_tokens} are kept for its answer: lower max_tokens of the memory manager",
                subject="max_tokens",
            )
        part: list[TopicSegment] = []
        used = 0
        most = min(room, self._answerable(request))
        for segment in request.segments:
            for piece, size in self._pieces(segment, request.roles, room, most):
                if part and used + size > most:
                    yield tuple(part)
                    part, used = [], 0
                part.append(piece)
                used += size
        if part:
            yield tuple(part)

    def _answerable(self, request: ExtractionRequest) -> int:
        """Tokens of lines whose facts fit one answer, which may repeat all that it read: more would break off."""
        return int(self._sampling.max_tokens * (METADATA_SHARE if request.metadata else 1))

    def _pieces(
        self, segment: TopicSegment, roles: Collection[str], room: int, most: int
    ) -> Iterator[tuple[TopicSegment, int]]:
        members: list[StoredMessage] = []
        used = 0
        for stored in segment.messages:
            if stored.message.role not in roles:
                continue
            for part, size in self._lines(stored, room):
                if members and used + size > most:
                    yield TopicSegment(segment.segment, segment.conversation, tuple(members)), used
                    members, used = [], 0
                members.append(part)
                used += size
        if members:
            yield TopicSegment(segment.segment, segment.conversation, tuple(members)), used

    def _lines(self, stored: StoredMessage, room: int) -> Iterator[tuple[StoredMessage, int]]:
        """A message, or parts of it where it is longer than the window."""
        text = stored.working_text
        spans = self._model.tokenizer.spans(text)
        size = room - LINE_ROOM
        if len(spans) <= size:
            yield stored, len(spans) + LINE_ROOM
            return
        for start in range(0, len(spans), size):
            last = min(start + size, len(spans)) - 1
            yield replace(stored, compressed=text[spans[start].start : spans[last].end]), last - start + 1 + LINE_ROOM


class _Conversation:
    """One request and at most one more try."""

    def __init__(
        self,
        model: LanguageModel,
        sampling: Sampling,
        sheet: prompts.Sheet,
        kind: EntryKind,
        request: ExtractionRequest,
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._sheet = sheet
        self._kind = kind
        self._request = request

    async def run(self, system: str) -> Extraction:
        asked = (ChatMessage("system", system), ChatMessage("user", self._sheet.text))
        usage = Usage()
        saved: Extraction | None = None
        reason = ""
        for attempt in range(2):
            again = (ChatMessage("user", prompts.AGAIN.format(reason=reason)),) if attempt else ()
            completion = (await self._model.complete([Prompt((*asked, *again))], self._sampling))[0]
            usage += completion.usage
            answer = read_json(completion.text)
            items = None if answer is None else items_of(answer.value)
            if items is None:
                reason = "it is no JSON list" if answer is None else "it holds no list of items"
                continue
            part = self._check(items)
            if answer is not None and answer.whole and (saved is None or len(part.drafts) >= len(saved.drafts)):
                return Extraction(part.drafts, part.problems, usage)
            reason = "it broke off inside an item"
            # A second answer that is whole and says less than the first, which broke off, loses nothing of that one.
            saved = saved if saved is not None and len(saved.drafts) >= len(part.drafts) else part
        if saved is None or not saved.drafts:
            raise BackendError(
                f"model {self._model.name!r} gave no usable extraction twice: {reason}",
                subject=self._model.name,
                retryable=True,
            )
        lost = Problem("extract", f"the model's answer broke off twice; {len(saved.drafts)} whole items were kept")
        return Extraction(saved.drafts, (*saved.problems, lost), usage)

    def _check(self, items: Sequence[Any]) -> Extraction:
        drafts: list[EntryDraft] = []
        problems: list[Problem] = []
        for item in items:
            made = self._item(item)
            if isinstance(made, str):
                problems.append(Problem("extract", f"the model's item {str(item)[:120]!r} was refused: {made}"))
            elif made.importance >= self._request.threshold:
                drafts.append(made)
        return Extraction(tuple(drafts), tuple(problems))

    def _item(self, item: Any) -> EntryDraft | str:
        """The entry of an item, or why there is none."""
        if not isinstance(item, dict):
            return "it is no object"
        text = item.get("relation" if self._kind == "relation" else "fact", item.get("fact"))
        if not isinstance(text, str) or not text.strip():
            return "it has no text"
        if len(text) > FACT_CHARACTERS:
            return f"its text has {len(text)} characters"
        source = _line_number(item.get("source_id"))
        if source is None:
            return "its source_id is no line number"
        if not 0 <= source < len(self._sheet.lines):
            return f"there is no line {source}"
        fields = _metadata(item) if self._request.metadata else {}
        return draft_of(self._sheet.lines[source], text.strip(), kind=self._kind, method="prompted", **fields)


def _line_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else None


def _metadata(item: dict[str, Any]) -> dict[str, Any]:
    """Whatever of the metadata has the right shape; the fact itself does not depend on it."""
    fields: dict[str, Any] = {}
    importance = item.get("importance")
    if isinstance(importance, int | float) and not isinstance(importance, bool):
        fields["importance"] = min(1.0, max(0.0, float(importance)))
    for name in ("category", "event_time"):
        if isinstance(item.get(name), str):
            fields[name] = item[name].strip()[:64]
    for name in ("entities", "keywords"):
        if isinstance(item.get(name), list):
            fields[name] = tuple(dict.fromkeys(str(word).strip() for word in item[name] if isinstance(word, str)))
    return fields


__all__ = ["PromptedExtractor"]
