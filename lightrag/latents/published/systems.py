"""FlexRAG and TacZip as they were released, from text to LM input; ``compat="published"`` of the public classes.

Nothing is corrected here. The language model itself is the caller's: it reads :meth:`embeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lightrag.errors import UsageError
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.estimator import TokenEstimator
from lightrag.latents.published import flexrag, taczip
from lightrag.latents.published.plan import Method, PublishedPlan, Sampler
from lightrag.latents.published.prompt import PromptCutter

if TYPE_CHECKING:
    from torch import Tensor


class PublishedFlexRAG:
    r"""FlexRAG's released behaviour.

    Example:
        >>> system = PublishedFlexRAG(encoder, tokenizer)  # doctest: +SKIP
        >>> plan = system.uniform("{context}\n\nQuestion: {question}", passages, question, ratio=8)  # doctest: +SKIP
        >>> lm.generate(inputs_embeds=system.embeds(plan, lm.get_input_embeddings())[None])  # doctest: +SKIP

    Args:
        encoder: the compressive encoder.
        tokenizer: of the language model, from ``transformers``.
        lm_max_length: LM tokens for prompt and states.
        encoder_max_length: tokens of one encoder input.
        wrap: how a user's text becomes a prompt, see :class:`PromptCutter`.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        tokenizer: Any,
        *,
        lm_max_length: int = 4096,
        encoder_max_length: int = 4096,
        wrap: str = "llama-2",
    ) -> None:
        self._encoder = encoder
        self._cutter = PromptCutter(tokenizer, wrap)
        self._frame = flexrag.framing(tokenizer.bos_token_id, tokenizer.eos_token_id, encoder_max_length)
        self._limit = lm_max_length

    def uniform(
        self,
        template: str,
        context: str,
        question: str,
        ratio: int,
        *,
        method: Method = "stride",
        sampler: Sampler | None = None,
    ) -> PublishedPlan:
        """See :func:`lightrag.latents.published.flexrag.plan_uniform`."""
        cut = self._cutter.cut(template, context, question)
        return flexrag.plan_uniform(cut, ratio, self._frame, lm_max_length=self._limit, method=method, sampler=sampler)

    def sentences(
        self,
        template: str,
        context: str,
        question: str,
        ratio: int,
        importance: Callable[[PublishedPlan], flexrag.SentenceImportance],
        *,
        proportion: float = 0.0625,
        low: int = 1,
    ) -> PublishedPlan:
        """See :func:`lightrag.latents.published.flexrag.plan_sentences`.

        ``importance`` is given the uniform plan, whose inputs are those that will be encoded.
        """
        cut = self._cutter.cut(template, context, question)
        uniform = flexrag.plan_uniform(cut, ratio, self._frame, lm_max_length=self._limit)
        return flexrag.plan_sentences(
            cut, ratio, self._frame, importance(uniform), proportion=proportion, low=low, lm_max_length=self._limit
        )

    def tokens(
        self,
        template: str,
        context: str,
        question: str,
        ratio: int,
        importance: Callable[[PublishedPlan], Sequence[Sequence[int]]],
        *,
        low: int = 1,
    ) -> PublishedPlan:
        """See :func:`lightrag.latents.published.flexrag.plan_tokens`; ``importance`` as in :meth:`sentences`."""
        cut = self._cutter.cut(template, context, question)
        uniform = flexrag.plan_uniform(cut, ratio, self._frame, lm_max_length=self._limit)
        return flexrag.plan_tokens(cut, ratio, self._frame, importance(uniform), low=low, lm_max_length=self._limit)

    def embeds(self, plan: PublishedPlan, embedding: Any) -> Tensor:
        """LM input with states in place, shape (tokens, hidden)."""
        return splice(self._encoder, plan, embedding)


class PublishedTacZip:
    """TacZip's released behaviour.

    Args:
        encoder: the compressive encoder.
        tokenizer: of the language model, from ``transformers``.
        instruction: task instruction, word for word as in training.
        estimator: for :meth:`adapted`.
        lm_max_length: LM tokens for prompt and states.
        encoder_max_length: tokens of one encoder input.
        wrap: how a user's text becomes a prompt, see :class:`PromptCutter`.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        tokenizer: Any,
        *,
        instruction: str = "",
        estimator: TokenEstimator | None = None,
        lm_max_length: int = 4096,
        encoder_max_length: int = 4096,
        wrap: str = "chat",
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._estimator = estimator
        self._cutter = PromptCutter(tokenizer, wrap)
        ids = tokenizer(instruction, add_special_tokens=False)["input_ids"] if instruction else ()
        self._frame = taczip.framing(tokenizer.bos_token_id, ids, encoder_max_length)
        self._limit = lm_max_length

    def uniform(
        self,
        template: str,
        context: str,
        question: str,
        ratio: int,
        *,
        method: Method = "stride",
        sampler: Sampler | None = None,
    ) -> PublishedPlan:
        """See :func:`lightrag.latents.published.taczip.plan_uniform`."""
        cut = self._cutter.cut(template, context, question)
        return taczip.plan_uniform(cut, ratio, self._frame, lm_max_length=self._limit, method=method, sampler=sampler)

    def adapted(
        self,
        template: str,
        context: str,
        question: str,
        ratio: int,
        *,
        query: str = "",
        proportion: float = 0.1,
        low: int = 1,
    ) -> PublishedPlan:
        """See :func:`lightrag.latents.published.taczip.plan_tokens`.

        Args:
            template: with ``{context}`` and ``{question}``.
            context: what is compressed.
            question: fills the template.
            ratio: of the whole context.
            query: what the estimator reads, end token included; the question by default. Longer ones lose their end.
            proportion: share of tokens that is kept whole.
            low: keep every so many of them.

        Raises:
            UsageError: there is no estimator.
        """
        if self._estimator is None:
            raise UsageError("an adapted ratio needs an estimator: pass estimator= when making this object")
        cut = self._cutter.cut(template, context, question)
        truncated = taczip.truncated_context(cut, ratio, self._frame, self._limit)
        passage = taczip.passage_ids(truncated, self._frame)
        ids = self._tokenizer(query or question)["input_ids"][: taczip.QUERY_TOKENS]
        scores = self._estimator.scores(self._estimator.query_vector(ids), self._estimator.raw_vectors(passage))
        return taczip.plan_tokens(
            cut, ratio, self._frame, scores.tolist(), proportion=proportion, low=low, lm_max_length=self._limit
        )

    def embeds(self, plan: PublishedPlan, embedding: Any) -> Tensor:
        """LM input with states in place, shape (tokens, hidden)."""
        return splice(self._encoder, plan, embedding)


def splice(encoder: LatentEncoder, plan: PublishedPlan, embedding: Any) -> Tensor:
    """Embed a plan's ids and put its states in their places, shape (tokens, hidden).

    Args:
        encoder: computes the states.
        plan: one prompt.
        embedding: the language model's input embeddings, a ``torch`` module.
    """
    import torch

    weight = embedding.weight
    states = [row.to(weight.device, weight.dtype) for row in encoder.encode(plan.inputs, plan.keep)]
    before, after = (torch.tensor(ids, dtype=torch.long, device=weight.device) for ids in (plan.before, plan.after))
    with torch.no_grad():
        return torch.cat([embedding(before), *states, embedding(after)])


__all__ = ["PublishedFlexRAG", "PublishedTacZip", "splice"]
