"""The job that trains a beacon memory model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from lightrag.errors import UsageError
from lightrag.memory.beacon.config import BeaconConfig, is_beacon_checkpoint
from lightrag.memory.beacon.loss import LabelledTokens
from lightrag.models.files import resolve_model
from lightrag.models.local.rendering import PromptRenderer
from lightrag.training.beacons import BeaconTask, BeaconTrainee
from lightrag.training.jobs import Tasks, TrainingJob, require_examples
from lightrag.training.memory_data import pack_texts, read_samples

PUBLISHED_WINDOW = 2048


class MemoryTraining(TrainingJob):
    """Train the beacons of a Qwen2 or Mistral model on rows with ``text`` or ``conversations``."""

    program: ClassVar[str] = "python -m pipelines.train_memory"
    models: ClassVar[tuple[str, ...]] = ("model",)

    model: str = Field(min_length=1)
    """Local path or hub id: an ordinary decoder to begin with, or a memory model to train further."""
    window: int = Field(default=0, ge=0)
    """Tokens per window; 0: the model's own, and 2,048 for one that is no memory model yet."""
    ratios: tuple[int, ...] = ()
    """Ratios that are drawn for each window, and that the trained model lists. Empty: the model's own, else the
    published 2, 4, 8, 16 and 32; tuning was published with 2, 4 and 8."""
    params: tuple[Literal["q", "k", "v", "o"], ...] = ()
    """Projections that get a beacon version. Empty: the model's own, else the published q, k and v."""
    beacon: dict[str, Any] = Field(default_factory=dict)
    """Further beacon fields of ``config.json``, for example ``{"beacon_sink_size": 4}``."""
    min_tokens: int = Field(default=0, ge=0)
    """Shorter samples are left out; 0: those without a second window. Published: 4,096."""
    max_tokens: int = Field(default=65536, ge=2)
    """Texts are cut there, longer conversations are left out."""
    blocks: tuple[int, ...] = ()
    """Join texts and cut them into blocks of these lengths, drawn evenly, instead of taking each text by itself."""
    recompute: bool = False
    """Compute windows again in the backward pass: a third slower, and memory for one window only."""

    def tasks(self, device: str) -> Tasks:
        """See :meth:`lightrag.training.jobs.TrainingJob.tasks`."""
        import torch

        folder = resolve_model(self.model)
        overrides = self._overrides(is_beacon_checkpoint(folder))
        renderer = PromptRenderer(folder, self.model)
        window = BeaconConfig.read(folder, **overrides).window
        # A checkpoint may list ratios that its window has no use for; whoever names some here means them.
        if unusable := [ratio for ratio in self.ratios if ratio < 0 or (ratio and window % ratio)]:
            raise UsageError(f"ratios {unusable} do not divide the window of {window} tokens", subject="ratios")
        # Read before the model is loaded, which takes longer.
        training = self._samples(self.data, renderer, window)
        validation = self._samples(self.validation, renderer, window) if self.validation else []
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        trainee = BeaconTrainee.load(folder, dtype=dtype, device=device, **overrides)
        return Tasks(
            BeaconTask(trainee, training, recompute=self.recompute),
            BeaconTask(trainee, validation) if validation else None,
        )

    def _overrides(self, beacons: bool) -> dict[str, Any]:
        overrides = dict(self.beacon)
        if window := self.window or (0 if beacons else PUBLISHED_WINDOW):
            overrides |= {"beacon_window": window, "beacon_stride": window}
        if self.ratios:
            overrides["beacon_ratio"] = list(self.ratios)
        if params := self.params or (() if beacons else ("q", "k", "v")):
            overrides["beacon_param"] = list(params)
        return overrides

    def _samples(self, sources: tuple[str, ...], renderer: PromptRenderer, window: int) -> list[LabelledTokens]:
        if self.blocks:
            if min(self.blocks) <= window:
                raise UsageError(f"blocks must be longer than a window of {window} tokens, not {list(self.blocks)}")
            samples = [
                block for source in sources for block in pack_texts(source, renderer, self.blocks, seed=self.seed)
            ]
            require_examples(samples, sources, f"the texts together do not fill a block of {min(self.blocks)} tokens")
            return samples
        least = max(self.min_tokens, window + 1)
        samples = [
            sample
            for source in sources
            for sample in read_samples(source, renderer, min_tokens=least, max_tokens=self.max_tokens)
        ]
        require_examples(samples, sources, f"none has {least} to {self.max_tokens} tokens; a window has {window}")
        return samples


__all__ = ["PUBLISHED_WINDOW", "MemoryTraining"]
