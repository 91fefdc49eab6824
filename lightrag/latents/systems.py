"""FlexRAG and TacZip as objects that compress, generate and answer: blocking calls over local checkpoints.

They put encoder, importance, budget and language model together. Services use the parts
(:func:`lightrag.latents.open_compressor`, :class:`lightrag.models.local.model.TransformersLanguageModel`), which are
asynchronous and shared between requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from lightrag.compression import CompressedContext
from lightrag.documents import read_document
from lightrag.errors import UsageError
from lightrag.latents.checkpoint import find_part, has_part, holds_language_model, language_model_path
from lightrag.latents.compressor import LatentCompressor, LatentOptions
from lightrag.latents.encoder import LatentEncoder, Precision
from lightrag.latents.estimator import TokenEstimator, published_end
from lightrag.latents.importance import EstimatorImportance, Importance, LexicalImportance
from lightrag.latents.modes import Compressed, CorrectedMode, Mode, PublishedMode, Target, plan_flexrag, plan_taczip
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.published.plan import PublishedPlan
from lightrag.latents.published.systems import PublishedFlexRAG, PublishedTacZip
from lightrag.models.files import resolve_model
from lightrag.models.local.model import TransformersLanguageModel
from lightrag.types import Chunk, Document, Evidence, Usage

Compat = Literal["corrected", "published"]
PassageInput = str | Path | Document | Chunk | Evidence
"""Text, a file, a document, or what retrieval found."""
Result = TypeVar("Result")

PUBLISHED_TEMPLATE = "Passages:\n{context}\n\nQuestion: {question}\nAnswer:"


@dataclass(frozen=True, slots=True)
class LatentAnswer:
    """An answer with what it was read from."""

    text: str
    compressed: Compressed
    """What the language model read besides the question."""
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """What FlexRAG and TacZip have in common."""

    compat: Compat = "corrected"
    """``published`` reproduces the released systems, defects included."""
    latents: LatentOptions = LatentOptions()  # noqa: RUF009  # frozen
    """How budgets are spent in corrected mode."""
    template: str = ""
    """Prompt with ``{context}`` and ``{question}``; empty: one in the question's language."""
    proportion: float = 0.0625
    """Share of tokens that ``published`` keeps at ratio 1."""
    encoder_max_length: int = 4096
    lm_max_length: int = 4096
    """LM tokens for prompt and states in ``published`` mode; corrected mode takes the model's own window."""
    wrap: Literal["", "chat", "llama-2", "plain"] = ""
    """How ``published`` makes a prompt of the template; empty: as the system was released."""
    dtype: Precision = "auto"
    device: str = "cpu"


class LatentGenerator:
    """What :class:`FlexRAG` and :class:`TacZip` are made of. Calls from several threads take turns."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._closed = False
        # A thread of its own, so that it also works where an event loop runs already, as in notebooks.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="lightrag-latents")

    def compress(
        self,
        passages: Sequence[PassageInput],
        *,
        ratio: float | None = None,
        budget: int | None = None,
        question: str = "",
        layout: str = "",
    ) -> Compressed:
        """Compress passages, best first where they have no scores.

        Args:
            passages: texts, files, documents or evidence.
            ratio: source tokens per kept state; the passages' numbers are not counted.
            budget: tokens of the prompt in all, numbers included.
            question: decides what is kept more densely.
            layout: fixed tiers such as ``raw:2, 4x:3, 16x``.

        Raises:
            UsageError: no or contradictory targets, or there is no passage.
            DocumentError: a file cannot be read.
        """
        target = Target(ratio, budget, layout)
        return self._run(self._mode.compress(_evidence(passages), target, question))

    def generate(
        self, question: str, context: Compressed | Sequence[PassageInput], *, max_new_tokens: int = 128
    ) -> LatentAnswer:
        """Answer a question from what :meth:`compress` gave, or from passages that are not compressed (ratio 1).

        Raises:
            UsageError: the context was compressed in the other ``compat`` mode.
            LimitError: prompt and answer exceed the model's window.
        """
        if not isinstance(context, CompressedContext | PublishedPlan):
            context = self.compress(context, ratio=1, question=question)
        done = self._run(self._mode.generate(question, context, max_new_tokens))
        return LatentAnswer(done.text, context, done.finish_reason, done.usage)

    def answer(
        self,
        question: str,
        passages: Sequence[PassageInput],
        *,
        ratio: float | None = None,
        budget: int | None = None,
        layout: str = "",
        max_new_tokens: int = 128,
    ) -> LatentAnswer:
        """Compress passages for a question and answer it; raises as :meth:`compress` and :meth:`generate`."""
        compressed = self.compress(passages, ratio=ratio, budget=budget, question=question, layout=layout)
        return self.generate(question, compressed, max_new_tokens=max_new_tokens)

    def close(self) -> None:
        """Free the models; later calls are refused, closing again does nothing."""
        if not self._closed:
            self._run(self._mode.close())
            self._closed = True
            self._worker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._closed:
            work.close()
            raise UsageError("this object was closed; make a new one")
        return self._worker.submit(asyncio.run, work).result()


class FlexRAG(LatentGenerator):
    """Compress passages with a FlexRAG encoder and answer from them.

    Example:
        >>> rag = FlexRAG("checkpoints/FlexRAG", "meta-llama/Llama-2-7b-chat-hf")  # doctest: +SKIP
        >>> context = rag.compress(passages, ratio=8, question="Who built the pier?")  # doctest: +SKIP
        >>> rag.generate("Who built the pier?", context).text  # doctest: +SKIP

    Args:
        encoder: checkpoint in any published layout, or a causal LM whose first layers are taken; folder or hub id.
        language_model: that the encoder belongs to; may be left out where ``encoder`` names or holds it.
        importance: what inside passages is kept more densely; ``default`` is overlap with the question's words, in
            published mode nothing; ``None`` keeps passages evenly.
        options: everything else.

    Raises:
        ArtifactError: a checkpoint is damaged or incomplete.
        BackendError: a model is not there.
        UsageError: the importance is not one that ``compat="published"`` knows.
    """

    def __init__(
        self,
        encoder: str | Path,
        language_model: str | Path | None = None,
        *,
        importance: Importance | Literal["default"] | None = "default",
        options: SystemOptions | None = None,
    ) -> None:
        options = options or SystemOptions()
        parts = _Parts.find(encoder, language_model, options)
        if options.compat == "published":
            tokenizer = parts.pretrained_tokenizer()
            system = PublishedFlexRAG(
                parts.encoder(),
                tokenizer,
                lm_max_length=options.lm_max_length,
                encoder_max_length=options.encoder_max_length,
                wrap=options.wrap or "llama-2",
            )
            chosen = None if importance == "default" else importance
            plan = plan_flexrag(system, tokenizer, options.template or PUBLISHED_TEMPLATE, chosen, options.proportion)
            super().__init__(PublishedMode(system, plan, parts.build_model, tokenizer))
            return
        passages = parts.passage_encoder("")
        chosen = LexicalImportance() if importance == "default" else importance
        super().__init__(parts.corrected(passages, chosen))


class TacZip(LatentGenerator):
    """Compress passages with a TacZip (AceRAG) checkpoint and answer from them.

    Example:
        >>> zipper = TacZip("checkpoints/TacZip-Qwen3-8b", instruction="...")  # doctest: +SKIP
        >>> zipper.answer("Who built the pier?", passages, ratio=8).text  # doctest: +SKIP

    Args:
        checkpoint: combined checkpoint, or a folder with one sub-folder per part.
        language_model: where the checkpoint neither holds nor names it.
        estimator: checkpoint of the token estimator where it is another one.
        instruction: task instruction, word for word as the encoder was trained with it.
        importance: ``default`` is the estimator; without one, overlap with the question's words, and in published
            mode nothing.
        options: everything else.

    Raises:
        ArtifactError: a checkpoint is damaged or incomplete.
        BackendError: a model is not there.
        UsageError: ``compat="published"`` with an importance of one's own.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        language_model: str | Path | None = None,
        *,
        estimator: str | Path | None = None,
        instruction: str = "",
        importance: Importance | Literal["default"] | None = "default",
        options: SystemOptions | None = None,
    ) -> None:
        options = options or SystemOptions()
        parts = _Parts.find(checkpoint, language_model, options)
        wants_estimator = importance == "default" and (estimator is not None or has_part(parts.folder, "estimator"))
        passages = parts.passage_encoder(instruction)
        scorer = parts.estimator(estimator, passages) if wants_estimator else None
        if options.compat == "published":
            if importance not in {"default", None}:
                raise UsageError("published TacZip values tokens by its estimator: leave out importance=, or pass None")
            tokenizer = parts.pretrained_tokenizer()
            system = PublishedTacZip(
                passages.encoder,
                tokenizer,
                instruction=instruction,
                estimator=scorer,
                lm_max_length=options.lm_max_length,
                encoder_max_length=options.encoder_max_length,
                wrap=options.wrap or "chat",
            )
            end = tokenizer.decode(scorer.end_ids) if scorer is not None else None
            plan = plan_taczip(system, options.template or PUBLISHED_TEMPLATE, end, options.proportion)
            super().__init__(PublishedMode(system, plan, parts.build_model, tokenizer))
            return
        chosen: Importance | None = LexicalImportance() if importance == "default" else importance
        if scorer is not None:
            chosen = EstimatorImportance(scorer, passages.tokenizer)
        super().__init__(parts.corrected(passages, chosen))


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where the models of one system are."""

    folder: Path
    """Of the compressor's checkpoint."""
    base: Path
    """Of the language model: its configuration and, unless the checkpoint holds its weights, its weights."""
    options: SystemOptions

    @classmethod
    def find(cls, checkpoint: str | Path, language_model: str | Path | None, options: SystemOptions) -> _Parts:
        folder = resolve_model(str(checkpoint))
        if language_model is not None:
            return cls(folder, resolve_model(str(language_model)), options)
        inside = next((folder / name for name in ("language_model", "lm") if (folder / name).is_dir()), None)
        return cls(folder, inside or resolve_model(language_model_path(folder)), options)

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder if (self.folder / "tokenizer.json").is_file() else self.base

    def encoder(self) -> LatentEncoder:
        return LatentEncoder.load(self.folder, base=self.base, dtype=self.options.dtype, device=self.options.device)

    def passage_encoder(self, instruction: str) -> PassageEncoder:
        return PassageEncoder.load(
            self.folder,
            tokenizer=self.tokenizer_folder,
            instruction=instruction,
            max_length=self.options.encoder_max_length,
            base=self.base,
            dtype=self.options.dtype,
            device=self.options.device,
        )

    def estimator(self, path: str | Path | None, passages: PassageEncoder) -> TokenEstimator:
        return TokenEstimator.load(
            resolve_model(str(path)) if path is not None else self.folder,
            dtype=self.options.dtype,
            device=self.options.device,
            bos=passages.framing.bos,
            end_ids=published_end(passages.tokenizer, passages.framing.bos),
        )

    def pretrained_tokenizer(self) -> Any:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        if (self.base / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(str(self.base))
        # AutoTokenizer would ask to run the code that combined checkpoints come with.
        return PreTrainedTokenizerFast.from_pretrained(str(self.folder))

    def build_model(self) -> Any:
        """The causal LM: from the checkpoint where it holds one, else from its own folder."""
        import torch

        source = self.folder if holds_language_model(self.folder) else self.base
        precision = None if self.options.dtype == "auto" else getattr(torch, self.options.dtype)
        return find_part(source, "language_model", base=self.base).build_causal_lm(precision, self.options.device)

    def corrected(self, passages: PassageEncoder, importance: Importance | None) -> CorrectedMode:
        compressor = LatentCompressor(passages, importance=importance, options=self.options.latents)
        build: Callable[[], Any] | None = self.build_model if holds_language_model(self.folder) else None
        model = TransformersLanguageModel(
            str(self.base), device=self.options.device, dtype=self.options.dtype, build=build
        )
        return CorrectedMode(compressor, self.options.latents, model, self.options.template)


def _evidence(passages: Sequence[PassageInput]) -> list[Evidence]:
    if isinstance(passages, str | Path | Document | Chunk | Evidence):
        raise UsageError("passages are a list: put a single one in brackets")
    return [_one(number, passage) for number, passage in enumerate(passages)]


def _one(number: int, passage: PassageInput) -> Evidence:
    if isinstance(passage, Evidence):
        return passage
    if isinstance(passage, Path):
        passage = read_document(passage)
    if isinstance(passage, Document):
        passage = Chunk(
            passage.document_id, passage.document_id, 0, passage.text, 0, len(passage.text), tokens=0,
            title=passage.title, source=passage.source, language=passage.language,
        )  # fmt: skip
    if isinstance(passage, str):
        passage = Chunk(f"passage-{number}", f"passage-{number}", 0, passage, 0, len(passage), tokens=0)
    return Evidence(passage, score=1.0)


__all__ = ["FlexRAG", "LatentAnswer", "LatentGenerator", "PassageInput", "SystemOptions", "TacZip"]
