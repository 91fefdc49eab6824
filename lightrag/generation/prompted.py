"""Answers written by a language model from numbered passages, streamed, with the citations it made.

Evidence that does not fit the model's window is left out from the worst end, and the answer says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

from lightrag.documents import detect_language
from lightrag.errors import LimitError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.memory.prompts import PromptKey, PromptSet, prompts_for
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.types import ChatMessage, ContentPart, Evidence, LatentPart, Usage

_CITATION = re.compile(r"\[(\d{1,3})\]")
_MARK = "\x00context\x00"
# Room for the chat template's own tokens, which the tokenizer cannot see: in all, and for every earlier message.
_TEMPLATE_TOKENS = 64
_TURN_TOKENS = 8


class PromptedAnswerer:
    """Asks a language model.

    Args:
        model: any backend.
        max_tokens: longest answer where the request does not say.
        temperature: where the request does not say; 0 is greedy.
        prompts: replaces the built-in prompts for every language.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        prompts: PromptSet | None = None,
    ) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._prompts = prompts

    async def answer(self, request: GenerationRequest) -> AsyncIterator[GenerationDelta]:
        """Stream the model's answer; see :class:`lightrag.generation.base.Answerer`."""
        sampling = Sampling(
            max_tokens=request.max_tokens or self._max_tokens,
            temperature=self._temperature if request.temperature is None else request.temperature,
        )
        prompt, evidence, notes = self._prompt(request, sampling.max_tokens)
        pieces: list[str] = []
        usage = Usage()
        limited = False
        async with aclosing(self._model.stream(prompt, sampling)) as deltas:
            async for delta in deltas:
                if delta.text:
                    pieces.append(delta.text)
                    yield GenerationDelta(delta.text, kind="generated", model=self._model.name)
                if delta.usage is not None:
                    usage += delta.usage
                if delta.finish_reason == "length":
                    limited = True
                    notes = (*notes, f"the answer was stopped at its limit of {sampling.max_tokens} tokens")
        yield GenerationDelta(
            "",
            done=True,
            kind="generated",
            model=self._model.name,
            usage=usage,
            cited=_cited("".join(pieces), evidence),
            limited=limited,
            notes=notes,
        )

    def _prompt(
        self, request: GenerationRequest, answer_tokens: int
    ) -> tuple[Prompt, Sequence[Evidence], tuple[str, ...]]:
        """Build the prompt, leaving out the worst passages until it fits the window."""
        template = self._template(request)
        if request.context is not None:
            return _prompt(request, template, request.context.parts), request.context.evidence, ()
        said = sum(self._model.tokenizer.count(message.text) + _TURN_TOKENS for message in request.history)
        room = self._model.context_tokens - answer_tokens - _TEMPLATE_TOKENS - said
        room -= self._model.tokenizer.count(template)
        passages = [_passage(number, item) for number, item in enumerate(request.evidence, 1)]
        if not passages:
            passages = [clue.text for clue in request.clues]
        sizes = [self._model.tokenizer.count(passage) + 2 for passage in passages]
        ranked = sorted(
            range(len(passages)), key=lambda index: -request.evidence[index].score if request.evidence else index
        )
        kept: set[int] = set()
        for index in ranked:
            if sizes[index] > room:
                break
            kept.add(index)
            room -= sizes[index]
        if passages and not kept:
            raise LimitError(
                f"not one passage fits the {self._model.context_tokens} tokens of {self._model.name!r}: use a model "
                "with a longer window, smaller chunks, or a smaller max_tokens"
            )
        notes = (
            (f"{len(passages) - len(kept)} of {len(passages)} passages did not fit the generator's window",)
            if len(kept) < len(passages)
            else ()
        )
        context = "\n\n".join(passages[index] for index in sorted(kept))
        return _prompt(request, template, (context,)), request.evidence, notes

    def _template(self, request: GenerationRequest) -> str:
        """The instructions with the question filled in and a mark where the passages go."""
        prompts = self._prompts or prompts_for(_language(request))
        key: PromptKey = "sum_gen" if request.task == "summarize" else "qa_gen"
        if request.instructions:
            prompts = prompts.with_replaced({key: request.instructions})
        filled = prompts.fill(key, context=_MARK, question=request.question)
        if request.task == "summarize" and request.question.strip():
            filled = f"{filled}\n\n{request.question}"
        return filled


def _prompt(request: GenerationRequest, template: str, parts: Sequence[ContentPart]) -> Prompt:
    head, _, tail = template.partition(_MARK)
    content: list[ContentPart] = [head, *parts, tail]
    latent = any(isinstance(part, LatentPart) for part in content)
    question = ChatMessage("user", tuple(content) if latent else "".join(cast("list[str]", content)))
    return Prompt((*request.history, question), cache_salt=str(request.corpus))


def _passage(number: int, evidence: Evidence) -> str:
    chunk = evidence.chunk
    place = ", ".join(part for part in (chunk.title, chunk.heading, f"page {chunk.page}" if chunk.page else "") if part)
    return f"[{number}] ({place})\n{chunk.text}" if place else f"[{number}]\n{chunk.text}"


def _language(request: GenerationRequest) -> str:
    if request.question.strip():
        return detect_language(request.question).code
    return request.evidence[0].chunk.language if request.evidence else "en"


def _cited(text: str, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    numbers = dict.fromkeys(int(number) for number in _CITATION.findall(text))
    return tuple(evidence[number - 1].chunk.chunk_id for number in numbers if 1 <= number <= len(evidence))


__all__ = ["PromptedAnswerer"]
