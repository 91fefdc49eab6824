"""Checkpoints of a training run: the model in its published layout, optimizer as safetensors, the rest as JSON.

A checkpoint exists when its folder has its final name; it is written under another one and then renamed. Nothing is
pickled. The model of any checkpoint can be loaded and served.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lightrag.errors import ArtifactError
from lightrag.memory.beacon.checkpoint import read_tensors
from lightrag.models.files import quiet_loading

Role = Literal["encoder", "estimator"]

FOLDERS: dict[Role, str] = {"encoder": "compressive_encoder", "estimator": "embedding_model"}
"""Sub-folder that the published trainers write, and that :func:`lightrag.latents.checkpoint.find_part` finds."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Trainee(Protocol):
    """A model in training, and how it is written."""

    @property
    def name(self) -> str:
        """Sub-folder of a run, and of each checkpoint, that holds the model."""
        ...

    @property
    def model(self) -> torch.nn.Module:
        """All of it, frozen parts included."""
        ...

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What is trained, by its name in the published layout, always in the same order."""
        ...

    def save(self, target: Path) -> None:
        """Write the whole model in the published layout into an empty folder."""
        ...


class WholeDecoder:
    """A decoder that is trained as a whole: a compressive encoder or an estimator.

    Args:
        model: without a language-model head.
        role: what it is.
    """

    def __init__(self, model: Any, role: Role) -> None:
        self.model = model
        self.name = FOLDERS[role]

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """All of them."""
        return dict(self.model.named_parameters())

    def save(self, target: Path) -> None:
        """Write every weight."""
        with quiet_loading():
            self.model.save_pretrained(target)


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    step: int
    """Steps done."""
    losses: tuple[float, ...]
    """One per step done."""
    recipe: dict[str, Any]
    """What the run is: a resumed run must be the same."""


def publish(folder: Path, trainee: Trainee) -> Path:
    """Write the model into its sub-folder of ``folder``, all of it or nothing; returns the sub-folder."""
    target, partial = folder / trainee.name, folder / f".{trainee.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    trainee.save(partial)
    shutil.rmtree(target, ignore_errors=True)
    return partial.rename(target)


def save_checkpoint(folder: Path, trainee: Trainee, optimizer: torch.optim.AdamW, state: RunState) -> Path:
    """Write a checkpoint and remove older ones.

    Args:
        folder: of the run; the checkpoint is ``folder/step-…``.
        trainee: what is trained.
        optimizer: of its parameters.
        state: stored beside.
    """
    from safetensors.torch import save_file

    target = folder / f"step-{state.step:08d}"
    partial = folder / f".{target.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    publish(partial, trainee)
    save_file(_moments(trainee, optimizer), partial / "optimizer.safetensors")
    content = {"step": state.step, "losses": state.losses, "recipe": state.recipe}
    (partial / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older)
    return target


def load_checkpoint(
    folder: Path, trainee: Trainee, optimizer: torch.optim.AdamW, recipe: dict[str, Any]
) -> RunState | None:
    """Put the newest checkpoint into model and optimizer; ``None`` where there is none.

    Raises:
        ArtifactError: it is damaged, or belongs to a run with another recipe.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        content = json.loads((newest / "state.json").read_text(encoding="utf-8"))
        state = RunState(int(content["step"]), tuple(content["losses"]), content["recipe"])
        moments = load_file(newest / "optimizer.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"checkpoint {str(newest)!r} cannot be read: {error}", subject=str(newest)) from error
    if state.recipe != recipe:
        changed = sorted(key for key in {*recipe, *state.recipe} if recipe.get(key) != state.recipe.get(key))
        details = "; ".join(f"{key} was {state.recipe.get(key)!r} and is {recipe.get(key)!r}" for key in changed)
        raise ArtifactError(
            f"checkpoint {str(newest)!r} belongs to another run: {', '.join(changed)} differ ({details}); "
            "train in another folder",
            subject=str(newest),
        )
    _restore_weights(trainee, newest)
    _restore_moments(trainee, optimizer, moments)
    return state


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _restore_weights(trainee: Trainee, checkpoint: Path) -> None:
    parameters = trainee.parameters
    weights = read_tensors(checkpoint / trainee.name, wanted=frozenset(parameters))
    wrong = [name for name, value in parameters.items() if name not in weights or weights[name].shape != value.shape]
    if wrong:
        raise ArtifactError(
            f"checkpoint {str(checkpoint)!r} is of another model: {wrong[0]!r} is missing or has another shape",
            subject=str(checkpoint),
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _moments(trainee: Trainee, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    return {
        f"{name}:{moment}": optimizer.state[parameter][moment].detach().cpu().contiguous()
        for name, parameter in trainee.parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


def _restore_moments(trainee: Trainee, optimizer: torch.optim.AdamW, moments: dict[str, Tensor]) -> None:
    for name, parameter in trainee.parameters.items():
        if f"{name}:step" not in moments:
            continue
        state = {moment: moments[f"{name}:{moment}"] for moment in _MOMENTS}
        # The step counter stays on the CPU, as AdamW itself keeps it.
        optimizer.state[parameter] = {
            moment: tensor if moment == "step" else tensor.to(parameter.device, parameter.dtype)
            for moment, tensor in state.items()
        }


__all__ = ["FOLDERS", "Role", "RunState", "Trainee", "WholeDecoder", "load_checkpoint", "publish", "save_checkpoint"]
