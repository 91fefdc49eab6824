"""The training loop: deterministic, resumable, on one worker or many. Knows no task; tasks give it losses.

Everything random of a step is drawn from the seed, the step's number and the part of the batch, so a run that was
killed and resumed computes what an uninterrupted one does, and many workers compute what one does.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lightrag.errors import ArtifactError, UsageError
from lightrag.training.batches import batch_indices, grouped_indices
from lightrag.training.checkpoints import RunState, Trainee, load_checkpoint, publish, save_checkpoint
from lightrag.training.metrics import MetricsLog
from lightrag.training.parallel import Workers

Precision = Literal["float32", "bfloat16"]

_WITHOUT_EFFECT = ("save_every", "validate_every")
"""Settings that a resumed run may have changed: they do not change what is computed."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How weights are updated.

    Raises:
        UsageError: a number is out of range.
    """

    steps: int
    batch_size: int = 1
    """Examples per step."""
    learning_rate: float = 5e-5
    """At its peak; FlexRAG's scripts take 5e-5 for pre-training and 1e-5 for fine-tuning, MemoRAG's the same."""
    warmup_share: float = 0.05
    """Share of the steps over which the rate rises; it then falls along a cosine to a tenth."""
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    seed: int = 0
    save_every: int = 500
    """Steps between checkpoints; 0 for none."""
    parts: int = 1
    """Equal parts of a batch, computed one after the other (gradients accumulate) or shared out among workers. Losses
    depend on the number of parts but not on that of workers."""
    validate_every: int = 0
    """Steps between losses over the validation examples; 0 for none."""
    precision: Precision = "float32"
    """What products are computed in; with ``bfloat16`` frozen weights may be stored in it too."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.learning_rate <= 0 or self.save_every < 0:
            raise UsageError(
                "steps, batch_size and learning_rate must be positive, and save_every not negative, not "
                f"{self.steps}, {self.batch_size}, {self.learning_rate}, {self.save_every}"
            )
        if self.parts < 1 or self.batch_size % self.parts:
            raise UsageError(f"parts must divide the batch size {self.batch_size}, {self.parts} does not")
        if self.validate_every < 0 or not 0 <= self.warmup_share <= 1 or self.max_gradient_norm <= 0:
            raise UsageError(
                "validate_every must not be negative, warmup_share lie between 0 and 1, and max_gradient_norm be "
                f"positive, not {self.validate_every}, {self.warmup_share}, {self.max_gradient_norm}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = max(1, round(self.steps * self.warmup_share))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


class Task(Protocol):
    """What is trained on what."""

    @property
    def trainee(self) -> Trainee:
        """What is trained."""
        ...

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Numbers of the examples, in groups of which batches are made; mostly one group of all."""
        ...

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings of the task as JSON values; a resumed run must have the same."""
        ...

    def loss(self, indices: Sequence[int], rng: random.Random) -> Tensor:
        """Mean loss of examples, differentiable; whatever is random is drawn from ``rng``."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What came of a run."""

    losses: tuple[float, ...]
    """One per step, of the whole run."""
    resumed_at: int
    """Step at which this call went on; 0 for a new run."""
    model_folder: Path | None
    """Where the trained model lies in the published layout."""


def train(
    task: Task,
    settings: LoopSettings,
    folder: Path | None = None,
    *,
    validation: Task | None = None,
    on_step: Callable[[int, float], object] | None = None,
) -> TrainingReport:
    """Train, going on where an interrupted run in ``folder`` stopped.

    In a process group of ``torch.distributed`` every worker calls this with the same arguments; they share out the
    parts of each batch, and the first one writes.

    Args:
        task: what is trained.
        settings: how.
        folder: for checkpoints, metrics and the result, on a file system that all workers see; ``None`` keeps nothing.
        validation: the same model on examples that it does not train on.
        on_step: called with each step's number and loss, on every worker.

    Raises:
        UsageError: the task has no examples, the parts cannot be shared out evenly, or the settings ask for validation
            without a task for it.
        ArtifactError: the folder belongs to another run, its checkpoint is damaged, or not all workers see it.
    """
    workers = Workers.current()
    _check(task, settings, validation, workers)
    trainee = task.trainee
    trainee.model.requires_grad_(False)
    parameters = list(trainee.parameters.values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    recipe = _recipe(task, settings)
    state = load_checkpoint(folder, trainee, optimizer, recipe) if folder is not None else None
    losses = list(state.losses) if state else []
    first = state.step if state else 0
    if not workers.agree(first, parameters[0].device):
        raise ArtifactError(f"not all workers see the same checkpoints in {str(folder)!r}; put it where all do")
    log = MetricsLog(folder if workers.first else None, first)
    for step in range(first, settings.steps):
        started = time.perf_counter()
        loss, norm = _step(task, settings, optimizer, parameters, step, workers)
        losses.append(loss)
        seconds = time.perf_counter() - started
        log.write(step, loss=loss, rate=settings.rate(step), gradient_norm=norm, seconds=round(seconds, 6))
        if validation is not None and _due(step, settings.validate_every):
            log.write(step, validation_loss=validate(validation, settings, workers))
        if folder is not None and _due(step, settings.save_every):
            if workers.first:
                save_checkpoint(folder, trainee, optimizer, RunState(step + 1, tuple(losses), recipe))
            workers.wait()
        if on_step is not None:
            on_step(step, loss)
    trainee.model.eval().requires_grad_(False)
    if folder is not None and workers.first:
        publish(folder, trainee)
    workers.wait()
    return TrainingReport(tuple(losses), first, None if folder is None else folder / trainee.name)


def validate(task: Task, settings: LoopSettings, workers: Workers = Workers()) -> float:  # noqa: B008  # frozen
    """Mean loss over all examples of a task without training on them; the same draws at every call."""
    size = settings.batch_size // settings.parts
    chunks = [group[at : at + size] for group in task.groups for at in range(0, len(group), size)]
    task.trainee.model.eval()
    total = 0.0
    with torch.no_grad():
        for number in workers.own(len(chunks)):
            rng = random.Random(f"{settings.seed}:validation:{number}")  # noqa: S311  # no secret depends on it
            with _computing(task, settings):
                total += float(task.loss(chunks[number], rng)) * len(chunks[number])
    return workers.sum_values([total], _device(task))[0] / sum(map(len, chunks))


def _check(task: Task, settings: LoopSettings, validation: Task | None, workers: Workers) -> None:
    if not any(task.groups) or (validation is not None and not any(validation.groups)):
        raise UsageError("there are no examples to train on" if not any(task.groups) else "nothing to validate on")
    if settings.parts % workers.count:
        raise UsageError(f"{settings.parts} parts of a batch cannot be shared out evenly among {workers.count} workers")
    if bool(settings.validate_every) != (validation is not None):
        raise UsageError("validation needs both validate_every and examples to validate on")


def _recipe(task: Task, settings: LoopSettings) -> dict[str, Any]:
    own = {name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT}
    return {**own, **task.recipe, "examples": sum(map(len, task.groups))}


def _due(step: int, every: int) -> bool:
    return bool(every) and (step + 1) % every == 0


def _step(
    task: Task,
    settings: LoopSettings,
    optimizer: torch.optim.AdamW,
    parameters: list[torch.nn.Parameter],
    step: int,
    workers: Workers,
) -> tuple[float, float]:
    """Update the weights; returns loss and gradient norm."""
    for group in optimizer.param_groups:
        group["lr"] = settings.rate(step)
    indices = grouped_indices(task.groups, settings.batch_size, step, settings.seed)
    size = settings.batch_size // settings.parts
    task.trainee.model.train()
    optimizer.zero_grad()
    total = 0.0
    for part in workers.own(settings.parts):
        loss = _part_loss(task, indices[part * size : (part + 1) * size], settings, step, part) / settings.parts
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        total += float(loss.detach())
    workers.sum_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
    optimizer.step()
    return workers.sum_values([total], parameters[0].device)[0], float(norm)


def _part_loss(task: Task, indices: Sequence[int], settings: LoopSettings, step: int, part: int) -> Tensor:
    name = f"{settings.seed}:{step}" if settings.parts == 1 else f"{settings.seed}:{step}:{part}"
    rng = random.Random(name)  # noqa: S311  # no secret depends on it
    device = _device(task)
    # Dropout, where a model has it, draws from torch's own generators.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _computing(task, settings):
        torch.manual_seed(random.Random(f"{name}:torch").getrandbits(63))  # noqa: S311
        return task.loss(indices, rng)


def _device(task: Task) -> torch.device:
    return next(iter(task.trainee.parameters.values())).device


def _computing(task: Task, settings: LoopSettings) -> torch.autocast:
    return torch.autocast(_device(task).type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


__all__ = ["LoopSettings", "Task", "TrainingReport", "batch_indices", "train", "validate"]
