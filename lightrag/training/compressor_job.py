"""The job that trains a compressive encoder or the token estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from lightrag.latents.checkpoint import find_part
from lightrag.latents.estimator import published_end
from lightrag.latents.inputs import Framing
from lightrag.models.files import resolve_model
from lightrag.models.local.rendering import PromptRenderer
from lightrag.training.data import opening_ids, read_questions, read_texts
from lightrag.training.estimator_data import EstimatorReader
from lightrag.training.jobs import Tasks, TrainingJob, require_examples
from lightrag.training.loop import Task
from lightrag.training.tasks import (
    EstimatorTask,
    FinetuningSettings,
    FinetuningTask,
    PretrainingSettings,
    PretrainingTask,
)

Stage = Literal["pretraining", "finetuning", "passages", "tokens"]


class CompressorTraining(TrainingJob):
    """Train a compressor; the stages are those of FlexRAG and TacZip, one after the other."""

    program: ClassVar[str] = "python -m pipelines.train_compressor"
    models: ClassVar[tuple[str, ...]] = ("language_model", "start")

    stage: Stage
    """``pretraining`` on rows with ``text``; ``finetuning`` on ``query``, ``key`` and ``answers``; the estimator on
    ``passages`` (``query``, ``pos``, ``neg``) first and ``tokens`` (``query``, ``passage``, ``gold``) then."""
    language_model: str = Field(min_length=1)
    """Local path or hub id of the model that reads the latents; its tokenizer is used."""
    start: str = ""
    """What is trained: local path or hub id; empty: a copy of the language model."""
    layers: int = Field(default=0, ge=0)
    """Keep so many first layers of ``start``; 0: eight of the language model for the encoder, else all."""
    ratios: tuple[float, ...] = (1, 2, 4, 8)
    """Drawn for every window or example, at every step."""
    window: int = Field(default=1024, ge=1)
    """Of pre-training, in tokens."""
    min_tokens: int = Field(default=1024, ge=0)
    """Pre-training leaves out shorter texts."""
    max_tokens: int = Field(default=16000, ge=2)
    """Pre-training leaves out longer texts; longer passages of the estimator are cut."""
    encoder_max_length: int = Field(default=4096, ge=2)
    """Tokens that the encoder reads at once."""
    passages: int = Field(default=5, ge=1)
    """Passages of a question; of a ranking, the positive one included."""
    template: str = ""
    """Prompt of fine-tuning with ``{context}`` and ``{question}``; empty: the built-in one."""
    instruction: str = ""
    """Task instruction in front of everything that the encoder reads."""
    random_share: float = Field(default=0.25, ge=0, le=1)
    """Share of passages in fine-tuning whose kept positions are drawn, instead of as they are served."""
    whole_share: float = Field(default=0.25, ge=0, le=1)
    """Share of questions in fine-tuning with one stretch kept whole, as selective compression does."""
    distillation: float = Field(default=0.0, ge=0, le=1)
    """Weight of imitating the language model over raw text against that of the written answers."""
    temperature: float = Field(default=0.02, gt=0)
    """Of the estimator's scores."""

    def tasks(self, device: str) -> Tasks:
        """See :meth:`lightrag.training.jobs.TrainingJob.tasks`."""
        folder = resolve_model(self.language_model)
        renderer = PromptRenderer(folder, self.language_model)
        training = self._examples(self.data, renderer)
        validation = self._examples(self.validation, renderer) if self.validation else []
        model = self._model(device)
        reader = None if self._estimates else self._language_model(device)
        return Tasks(
            self._task(model, reader, training, renderer),
            self._task(model, reader, validation, renderer) if validation else None,
        )

    @property
    def _estimates(self) -> bool:
        return self.stage in ("passages", "tokens")

    def _model(self, device: str) -> Any:
        import torch

        part = find_part(
            resolve_model(self.start or self.language_model), "estimator" if self._estimates else "encoder"
        )
        layers = self.layers or (min(8, part.layers) if not (self.start or self._estimates) else None)
        return part.build(layers, torch.float32, device)

    def _language_model(self, device: str) -> Any:
        import torch

        part = find_part(resolve_model(self.language_model), "language_model")
        return part.build_causal_lm(torch.bfloat16 if self.precision == "bfloat16" else torch.float32, device)

    def _examples(self, sources: Sequence[str], renderer: PromptRenderer) -> list[Any]:
        opening = opening_ids(renderer)
        bos = opening[0] if opening else None
        reader = EstimatorReader(
            renderer.tokenizer, opening, published_end(renderer.tokenizer, bos), max_tokens=self.max_tokens
        )
        examples: list[Any] = []
        for source in sources:
            if self.stage == "pretraining":
                least = max(self.min_tokens, self.window)
                examples += read_texts(
                    source, renderer.tokenizer, min_tokens=least, max_tokens=self.max_tokens, bos=bos
                )
            elif self.stage == "finetuning":
                examples += read_questions(source, renderer, passages=self.passages, template=self.template)
            elif self.stage == "passages":
                examples += reader.rankings(source, passages=self.passages)
            else:
                examples += reader.marked(source)
        why = "they are empty"
        if self.stage == "pretraining":
            why = f"no text has {max(self.min_tokens, self.window) + 1} to {self.max_tokens - 1} tokens"
        require_examples(examples, sources, why)
        return examples

    def _task(self, model: Any, reader: Any, examples: list[Any], renderer: PromptRenderer) -> Task:
        if self._estimates:
            return EstimatorTask(model, examples, temperature=self.temperature)
        if self.stage == "pretraining":
            whole = tuple(int(ratio) for ratio in self.ratios)
            settings = PretrainingSettings(self.window, whole, encoder_max_length=self.encoder_max_length)
            return PretrainingTask(model, reader, examples, settings)
        opening = opening_ids(renderer)
        instruction = tuple(renderer.tokenizer.ids_of([self.instruction])[0]) if self.instruction else ()
        return FinetuningTask(
            model,
            reader,
            examples,
            FinetuningSettings(
                ratios=self.ratios,
                random_share=self.random_share,
                whole_share=self.whole_share,
                distillation=self.distillation,
                framing=Framing(self.encoder_max_length, opening[0] if opening else None, None, instruction),
            ),
        )


__all__ = ["CompressorTraining", "Stage"]
