"""What compressors and estimators are trained on: the published stages with their defects corrected, and distillation.

Corrected: a ratio is drawn at every step instead of once per example, random positions are in order, every trained
weight is saved. New: passages encoded each by itself, stretches kept whole among compressed ones, and the language
model's own answers over the raw context as a target.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.latents.inputs import EncoderInput, Framing
from lightrag.latents.positions import count_at_ratio, kept_positions
from lightrag.training.checkpoints import Role, WholeDecoder
from lightrag.training.distillation import distillation_loss
from lightrag.training.estimation import passage_loss, passage_scores, sequence_vectors, token_loss, token_vectors
from lightrag.training.finetuning import IGNORED, Example, finetuning_loss
from lightrag.training.pretraining import Method, plan_windows, two_stream_loss

# --- pre-training -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PretrainingSettings:
    """Two-stream pre-training, FlexRAG section 3.2."""

    window: int = 1024
    ratios: tuple[int, ...] = (1, 2, 4, 8)
    method: Method = "random"
    encoder_max_length: int = 4096


class PretrainingTask:
    """Predict each window of a text from the latents of those before it.

    Args:
        encoder: decoder that is trained.
        language_model: causal LM of the same width; frozen here.
        texts: token ids of texts that have at least two windows.
        settings: how they are cut and compressed.

    Raises:
        UsageError: a text is too short.
    """

    role: Role = "encoder"

    def __init__(
        self, encoder: Any, language_model: Any, texts: Sequence[Sequence[int]], settings: PretrainingSettings
    ) -> None:
        if short := [number for number, ids in enumerate(texts) if len(ids) <= settings.window]:
            raise UsageError(f"text {short[0]} has no second window of {settings.window} tokens; leave it out")
        self.model = encoder
        self.trainee = WholeDecoder(encoder, self.role)
        self._language_model = language_model.requires_grad_(False)
        self._texts = texts
        self._settings = settings

    @property
    def examples(self) -> int:
        """Number of texts."""
        return len(self._texts)

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Any texts may share a batch."""
        return [range(self.examples)]

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`lightrag.training.loop.Task`."""
        return {"task": "pre-training", **_jsonable(self._settings)}

    def loss(self, indices: Sequence[int], rng: random.Random) -> Tensor:
        """Mean of the texts' losses."""
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        device = self._language_model.get_input_embeddings().weight.device
        losses = []
        for index in indices:
            ids = torch.tensor(self._texts[index], device=device)
            plan = plan_windows(
                len(ids),
                self._settings.window,
                self._settings.ratios,
                rng,
                method=self._settings.method,
                generator=generator,
            )
            result = two_stream_loss(
                self.model, self._language_model, ids, plan, encoder_max_length=self._settings.encoder_max_length
            )
            losses.append(result.loss)
        return torch.stack(losses).mean()


# --- fine-tuning and distillation -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """A question about the passages with its answer, as token ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Passages and what is asked about them."""

    before: tuple[int, ...]
    """Prompt ids in front of the passages."""
    passages: tuple[tuple[int, ...], ...]
    turns: tuple[Turn, ...]
    """One after the other behind the passages; every answer is supervised."""


@dataclass(frozen=True, slots=True)
class FinetuningSettings:
    """How samples are compressed in training.

    Raises:
        UsageError: a share is not between 0 and 1.
    """

    ratios: tuple[float, ...] = (1, 2, 4, 8)
    """One is drawn for every sample at every step."""
    random_share: float = 0.25
    """Share of passages whose kept positions are drawn at random, in order, instead of as they are served."""
    whole_share: float = 0.25
    """Share of samples in which one stretch is kept whole, as selective compression does."""
    whole_tokens: int = 16
    """Longest such stretch."""
    distillation: float = 0.0
    """Weight of the divergence from the raw-context model against the cross-entropy of the answers."""
    framing: Framing = Framing()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        for name in ("random_share", "whole_share", "distillation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")


class FinetuningTask:
    """Answer questions about passages that the language model reads as latents only.

    Args:
        encoder: decoder that is trained.
        language_model: causal LM of the same width; frozen here, and the teacher in distillation.
        samples: what is asked.
        settings: how they are compressed.
    """

    role: Role = "encoder"

    def __init__(
        self, encoder: Any, language_model: Any, samples: Sequence[Sample], settings: FinetuningSettings
    ) -> None:
        self.model = encoder
        self.trainee = WholeDecoder(encoder, self.role)
        self._language_model = language_model.requires_grad_(False)
        self._samples = samples
        self._settings = settings

    @property
    def examples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Any samples may share a batch."""
        return [range(self.examples)]

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`lightrag.training.loop.Task`."""
        return {"task": "fine-tuning", **_jsonable(self._settings)}

    def loss(self, indices: Sequence[int], rng: random.Random) -> Tensor:
        """Cross-entropy of the answers, divergence from the raw-context model, or both."""
        samples = [self._samples[index] for index in indices]
        examples = [compress_sample(sample, self._settings, rng) for sample in samples]
        weight = self._settings.distillation
        losses = []
        if weight < 1:
            losses.append((1 - weight) * finetuning_loss(self.model, self._language_model, examples))
        if weight:
            raw = [[token for passage in sample.passages for token in passage] for sample in samples]
            losses.append(weight * distillation_loss(self.model, self._language_model, examples, raw))
        return torch.stack(losses).sum()


def compress_sample(sample: Sample, settings: FinetuningSettings, rng: random.Random) -> Example:
    """Draw a ratio and kept positions for a sample."""
    ratio = rng.choice(settings.ratios)
    lengths = [len(passage) for passage in sample.passages]
    keep = [set(_positions(length, ratio, rng.random() < settings.random_share, rng)) for length in lengths]
    if lengths and rng.random() < settings.whole_share:
        place = rng.randrange(len(lengths))
        start = rng.randrange(max(1, lengths[place]))
        keep[place].update(range(start, min(lengths[place], start + rng.randint(1, settings.whole_tokens))))
    inputs, rows = [], []
    for passage, own in zip(sample.passages, keep, strict=True):
        for number, item in enumerate(settings.framing.cut(passage)):
            first = number * settings.framing.step
            inputs.append(item)
            rows.append([at - first + item.head for at in sorted(own) if first <= at < first + item.context_tokens])
    return _with_turns(sample, inputs, rows)


def _positions(length: int, ratio: float, drawn: bool, rng: random.Random) -> list[int]:
    count = count_at_ratio(length, ratio)
    return sorted(rng.sample(range(length), count)) if drawn else kept_positions(length, count).tolist()


def _with_turns(sample: Sample, inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]]) -> Example:
    ids = [*sample.before, *[0] * sum(map(len, keep))]
    labels = [IGNORED] * len(ids)
    for turn in sample.turns:
        ids += [*turn.prompt, *turn.answer]
        labels += [*[IGNORED] * len(turn.prompt), *turn.answer]
    return Example(tuple(ids), tuple(labels), len(sample.before), tuple(inputs), tuple(map(tuple, keep)))


# --- estimator --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RankedPassages:
    """A question with its positive passage first and negatives behind, with BOS and end as the estimator reads them."""

    question: tuple[int, ...]
    passages: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class MarkedPassage:
    """A question and a passage of which some tokens answer it."""

    question: tuple[int, ...]
    passage: tuple[int, ...]
    gold: tuple[int, ...]
    """Positions of those tokens."""


class EstimatorTask:
    """Train the token estimator: on whole passages first, then on marked tokens (the published stages).

    Args:
        model: decoder that is trained, all of it.
        samples: of one kind; rankings must have equally many passages each, since those of one batch are negatives of
            the others.
        temperature: divides the cosine.

    Raises:
        UsageError: the samples are of both kinds, or their rankings differ in length.
    """

    role: Role = "estimator"

    def __init__(
        self, model: Any, samples: Sequence[RankedPassages] | Sequence[MarkedPassage], *, temperature: float = 0.02
    ) -> None:
        if len({type(sample) for sample in samples}) > 1:
            raise UsageError("train on rankings first and on marked passages then, not on both at once")
        sizes = {len(sample.passages) for sample in samples if isinstance(sample, RankedPassages)}
        if len(sizes) > 1:
            raise UsageError(f"all questions need equally many passages, these have {sorted(sizes)}")
        self.model = model
        self.trainee = WholeDecoder(model, self.role)
        self._samples = samples
        self._temperature = temperature

    @property
    def examples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Any samples may share a batch."""
        return [range(self.examples)]

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`lightrag.training.loop.Task`."""
        kind = type(self._samples[0]).__name__ if self._samples else ""
        return {"task": f"estimator: {kind}", "temperature": self._temperature}

    def loss(self, indices: Sequence[int], rng: random.Random) -> Tensor:
        """Contrastive loss of the batch, or the mean token loss."""
        batch = [self._samples[index] for index in indices]
        questions = sequence_vectors(self.model, [sample.question for sample in batch])
        ranked = [sample for sample in batch if isinstance(sample, RankedPassages)]
        if ranked:
            passages = sequence_vectors(self.model, [ids for sample in ranked for ids in sample.passages])
            return passage_loss(passage_scores(questions, passages, temperature=self._temperature))
        marked = [sample for sample in batch if isinstance(sample, MarkedPassage)]
        losses = [
            token_loss(token_vectors(self.model, sample.passage) @ question / self._temperature, sample.gold)
            for sample, question in zip(marked, questions, strict=True)
        ]
        return torch.stack(losses).mean()


def _jsonable(settings: PretrainingSettings | FinetuningSettings) -> dict[str, Any]:
    import json

    return dict(json.loads(json.dumps(asdict(settings))))


__all__ = [
    "EstimatorTask",
    "FinetuningSettings",
    "FinetuningTask",
    "MarkedPassage",
    "PretrainingSettings",
    "PretrainingTask",
    "RankedPassages",
    "Sample",
    "Turn",
    "compress_sample",
]
