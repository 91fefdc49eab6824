"""What a training job is asked to do, as a value that travels as JSON between the command and the workers.

Knows no cluster: a job runs in this process, alone or as one worker of a process group.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field

from lightrag.config import Description
from lightrag.errors import UsageError
from lightrag.training.loop import LoopSettings, Precision, Task, TrainingReport, train


class Tasks(NamedTuple):
    """What a job trains on, and what it validates on."""

    training: Task
    validation: Task | None


class TrainingJob(Description, ABC):
    """What all training jobs have in common."""

    program: ClassVar[str] = "training"
    """How the job is started from a command line."""
    models: ClassVar[tuple[str, ...]] = ()
    """Fields that hold a local path or hub id."""

    output: str = Field(min_length=1)
    """Folder for checkpoints, metrics and the trained model; on a cluster one that every worker sees. A run that
    stopped goes on from its newest checkpoint."""
    data: tuple[str, ...] = Field(min_length=1)
    """Files of JSON lines; ``file[N]`` takes a sample of N rows."""
    validation: tuple[str, ...] = ()
    """Files with examples that are not trained on."""
    steps: int = Field(default=0, ge=0)
    """Updates of the weights; 0: as many as ``epochs`` say."""
    epochs: float = Field(default=1.0, gt=0)
    """How often every example is seen, where ``steps`` are not given."""
    batch_size: int = Field(default=8, ge=1)
    """Examples per step, of all workers together."""
    parts: int = Field(default=0, ge=0)
    """Parts of a batch that are computed after each other or by several workers, see
    :class:`lightrag.training.loop.LoopSettings`; 0: one per worker."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Published: 5e-5 for pre-training, 1e-5 for tuning."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises; then it falls along a cosine to a tenth."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Longer gradients are shortened to it."""
    seed: int = 0
    save_every: int = Field(default=500, ge=0)
    """Steps between checkpoints; 0 for none."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between losses over the validation examples; 0 with such examples: ten times in the run."""
    precision: Precision = "float32"
    """``bfloat16`` stores frozen weights in it and computes in it; trained weights stay float32."""
    workers: int = Field(default=1, ge=1)
    """Processes that share the work, each on its own core or GPU."""
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    """``auto``: GPUs where there are enough of them."""
    max_failures: int = Field(default=3, ge=0)
    """How often a run on Ray goes on after workers died."""
    address: str = ""
    """Ray cluster to run on; empty: the one of ``RAY_ADDRESS``, else a private one for the time of the job."""

    def to_json(self) -> str:
        """The text that :meth:`parse` reads back."""
        return self.model_dump_json(exclude_defaults=True)

    def located(self) -> Self:
        """The same job with absolute paths, for workers that run in other folders."""
        folders = {name: getattr(self, name) for name in self.models}
        return self.model_copy(
            update={
                "output": str(Path(self.output).absolute()),
                "data": tuple(str(Path(source).absolute()) for source in self.data),
                "validation": tuple(str(Path(source).absolute()) for source in self.validation),
                **{
                    name: str(Path(value).absolute())
                    for name, value in folders.items()
                    if value and Path(value).is_dir()
                },
            }
        )

    @abstractmethod
    def tasks(self, device: str) -> Tasks:
        """Load the model and read the data.

        Raises:
            UsageError: nothing in the data can be trained on.
        """

    def loop(self, task: Task) -> LoopSettings:
        """How the weights are updated."""
        batches = sum(math.ceil(len(group) / self.batch_size) for group in task.groups)
        steps = self.steps or max(1, math.ceil(batches * self.epochs))
        return LoopSettings(
            steps,
            self.batch_size,
            learning_rate=self.learning_rate,
            warmup_share=self.warmup_share,
            weight_decay=self.weight_decay,
            max_gradient_norm=self.max_gradient_norm,
            seed=self.seed,
            save_every=self.save_every,
            parts=self.parts or self.workers,
            validate_every=(self.validate_every or max(1, steps // 10)) if self.validation else 0,
            precision=self.precision,
        )

    def run(self, device: str, *, on_step: Callable[[int, int, float], object] | None = None) -> TrainingReport:
        """Run the job in this process.

        Args:
            device: as torch names it.
            on_step: called with each step's number, the number of all steps and the loss.

        Raises:
            LightRAGError: see :meth:`tasks` and :func:`lightrag.training.loop.train`.
        """
        if self.validate_every and not self.validation:
            raise UsageError("validate_every needs validation data")
        training, validation = self.tasks(device)
        settings = self.loop(training)
        observe = None if on_step is None else lambda step, loss: on_step(step, settings.steps, loss)
        return train(training, settings, Path(self.output), validation=validation, on_step=observe)


def require_examples(examples: Sequence[Any], sources: Sequence[str], why: str) -> None:
    """Refuse data of which nothing is left.

    Raises:
        UsageError: there is no example.
    """
    if not examples:
        raise UsageError(f"no example in {', '.join(map(repr, sources))} can be used: {why}")


__all__ = ["Tasks", "TrainingJob", "require_examples"]
