"""The two ways in which :mod:`lightrag.latents.systems` works: corrected (the default), and as published.

Both turn evidence into something compressed, and that into an answer. Loading checkpoints is not their business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from lightrag.compression import SEPARATOR, CompressedContext
from lightrag.documents import detect_language, split_sentences
from lightrag.errors import UsageError
from lightrag.latents.compressor import LatentCompressor, LatentOptions
from lightrag.latents.importance import EmbeddingImportance, Importance
from lightrag.latents.layout import parse_layout
from lightrag.latents.published.plan import PublishedPlan
from lightrag.latents.published.sentences import rank_sentences, sentence_boundaries
from lightrag.memory.prompts import fill_template, prompts_for
from lightrag.models.base import Completion, LanguageModel, Prompt, Sampling
from lightrag.types import ChatMessage, Evidence, Usage

if TYPE_CHECKING:
    from lightrag.latents.published.systems import PublishedFlexRAG, PublishedTacZip

    Published = PublishedFlexRAG | PublishedTacZip

Compressed = CompressedContext | PublishedPlan
"""What ``compress`` gives: a context, or with ``compat="published"`` a plan of the released systems."""

Planner = Callable[[str, str, int], Awaitable[PublishedPlan]]
"""Context, question and ratio to a plan."""

_MARK = "\x00passages\x00"


@dataclass(frozen=True, slots=True)
class Target:
    """How much is wanted; exactly one is set, and a layout may come with a budget.

    Raises:
        UsageError: none is set, or two that contradict each other.
    """

    ratio: float | None = None
    """Source tokens per kept state."""
    budget: int | None = None
    """Tokens of the generator in all."""
    layout: str = ""
    """See :mod:`lightrag.latents.layout`."""

    def __post_init__(self) -> None:
        given = (self.ratio is not None, self.budget is not None, bool(self.layout))
        if given not in {(True, False, False), (False, True, False), (False, False, True), (False, True, True)}:
            raise UsageError(
                "say how much is wanted: ratio=8, or budget=500, or layout='raw:2, 16x' (with or without a budget)"
            )


class Mode(Protocol):
    """Compresses and generates."""

    async def compress(self, evidence: Sequence[Evidence], target: Target, question: str) -> Compressed:
        """Make the evidence smaller."""
        ...

    async def generate(self, question: str, compressed: Compressed, max_new_tokens: int) -> Completion:
        """Answer from what :meth:`compress` gave."""
        ...

    async def close(self) -> None:
        """Free the models."""
        ...


class CorrectedMode:
    """Budgets spent exactly, passages encoded by themselves, nothing falls back in silence."""

    def __init__(
        self, compressor: LatentCompressor, options: LatentOptions, model: LanguageModel, template: str
    ) -> None:
        self.compressor = compressor
        self.model = model
        self._options = options
        self._template = template

    async def compress(self, evidence: Sequence[Evidence], target: Target, question: str) -> CompressedContext:
        """See :class:`Mode`."""
        compressor = self.compressor
        if target.layout:
            compressor = compressor.with_options(replace(self._options, layout=parse_layout(target.layout)))
        budget = target.budget
        if budget is None and target.ratio is not None:
            budget = await asyncio.to_thread(compressor.budget_at, target.ratio, evidence)
        elif budget is None:
            # One token less than all of it as text, since what fits as text is not compressed.
            budget = max(1, await asyncio.to_thread(compressor.raw_tokens, evidence) - 1)
        return await compressor.compress(evidence, budget, question)

    async def generate(self, question: str, compressed: Compressed, max_new_tokens: int) -> Completion:
        """See :class:`Mode`."""
        if not isinstance(compressed, CompressedContext):
            raise UsageError("this was compressed with compat='published'; generate with an object of that kind")
        template = self._template or prompts_for(detect_language(question).code).qa_gen
        head, mark, tail = fill_template(template, context=_MARK, question=question).partition(_MARK)
        if not mark:
            raise UsageError(f"the template must hold {{context}}, this one does not: {template!r}")
        prompt = Prompt((ChatMessage("user", (head, *compressed.parts, tail)),))
        return (await self.model.complete([prompt], Sampling(max_tokens=max_new_tokens)))[0]

    async def close(self) -> None:
        """See :class:`Mode`."""
        await self.model.close()


class PublishedMode:
    """The released behaviour, defects included; knows only whole ratios of the whole context.

    Args:
        system: FlexRAG or TacZip.
        plan: decides what is kept of a context for a question at a ratio, see :func:`plan_flexrag`.
        build: makes the causal LM of ``transformers`` at its first use.
        tokenizer: of ``transformers``.
    """

    def __init__(self, system: Published, plan: Planner, build: Callable[[], Any], tokenizer: Any) -> None:
        self._system = system
        self._plan = plan
        self._build = build
        self._tokenizer = tokenizer

    @cached_property
    def model(self) -> Any:
        """The language model."""
        return self._build()

    async def compress(self, evidence: Sequence[Evidence], target: Target, question: str) -> PublishedPlan:
        """See :class:`Mode`."""
        if target.ratio is None or target.ratio != int(target.ratio):
            raise UsageError("the published systems know whole ratios only: pass ratio=8, no budget and no layout")
        if not evidence:
            raise UsageError("there is no evidence to compress")
        return await self._plan(SEPARATOR.join(item.chunk.text for item in evidence), question, int(target.ratio))

    async def generate(self, question: str, compressed: Compressed, max_new_tokens: int) -> Completion:
        """See :class:`Mode`; the question is part of the plan already."""
        if not isinstance(compressed, PublishedPlan):
            raise UsageError("this was not compressed with compat='published'; generate with an object of its kind")
        return await asyncio.to_thread(self._generate, compressed, max_new_tokens)

    async def close(self) -> None:
        """See :class:`Mode`."""
        vars(self).pop("model", None)

    def _generate(self, plan: PublishedPlan, max_new_tokens: int) -> Completion:
        import torch

        embeds = self._system.embeds(plan, self.model.get_input_embeddings())[None]
        with torch.inference_mode():
            ids = self.model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
            )[0]
        usage = Usage(prompt_tokens=embeds.shape[1], completion_tokens=len(ids), calls=1)
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(text, "length" if len(ids) >= max_new_tokens else "stop", usage)


def plan_flexrag(
    system: PublishedFlexRAG, tokenizer: Any, template: str, importance: Importance | None, proportion: float
) -> Planner:
    """FlexRAG's plans: uniform without importance, by sentences with their embeddings.

    Raises:
        UsageError: the importance is of another kind.
    """
    if importance is not None and not isinstance(importance, EmbeddingImportance):
        raise UsageError(
            f"published FlexRAG values sentences by embeddings, not by {importance.name}: pass "
            "EmbeddingImportance(embedder) or None, or leave out compat='published'"
        )

    async def plan(context: str, question: str, ratio: int) -> PublishedPlan:
        uniform = await asyncio.to_thread(system.uniform, template, context, question, ratio)
        if importance is None:
            return uniform
        inputs = [item.ids for item in uniform.inputs]
        texts = [tokenizer.decode(ids) for ids in inputs]
        rows = [[text[start:end] for start, end in split_sentences(text)] for text in texts]
        places = sentence_boundaries(inputs, rows, lambda text: tokenizer(text)["input_ids"], tokenizer.decode)
        vectors = await importance.embedder.embed([sentence for row in rows for sentence in row])
        asked = (await importance.embedder.embed([question], "query"))[0]
        ranked = rank_sentences(places, vectors, asked)
        return await asyncio.to_thread(
            system.sentences, template, context, question, ratio, lambda _: ranked, proportion=proportion
        )

    return plan


def plan_taczip(system: PublishedTacZip, template: str, query_end: str | None, proportion: float) -> Planner:
    """TacZip's plans: adapted with an estimator, whose questions end in ``query_end``; uniform where it is ``None``."""

    async def plan(context: str, question: str, ratio: int) -> PublishedPlan:
        if query_end is None:
            return await asyncio.to_thread(system.uniform, template, context, question, ratio)
        return await asyncio.to_thread(
            system.adapted, template, context, question, ratio, query=question + query_end, proportion=proportion
        )

    return plan


__all__ = ["Compressed", "CorrectedMode", "Mode", "Planner", "PublishedMode", "Target", "plan_flexrag", "plan_taczip"]
