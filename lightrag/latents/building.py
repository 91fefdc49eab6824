"""Builds ``transformers`` modules from the tensors of a checkpoint part, adapters merged. Runs no foreign code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lightrag.errors import ArtifactError
from lightrag.latents.checkpoint import strip_name

if TYPE_CHECKING:
    import torch

    from lightrag.latents.checkpoint import Part

_LORA_ALPHA_DEFAULT = 32.0  # Published estimator training; only used where no adapter configuration says otherwise.


def build_decoder(part: Part, layers: int, dtype: torch.dtype | None, device: str) -> Any:
    """The first layers of a part, without language-model head; see :meth:`Part.build`."""
    import torch
    from transformers import AutoModel

    config = _shorten(part.config, layers)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    _load(part, model, dtype, device, optional=frozenset())
    # Its buffers are not stored; on the meta device they have no values yet.
    model.rotary_emb = type(model.rotary_emb)(config=config).to(device)
    return model.eval().requires_grad_(False)


def build_causal_lm(part: Part, dtype: torch.dtype | None, device: str) -> Any:
    """A whole language model; see :meth:`Part.build_causal_lm`."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _shorten(part.config, part.layers)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = frozenset({"lm_head.weight"}) if config.tie_word_embeddings else frozenset()
    _load(part, model, dtype, device, optional=tied)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(device)
    return model.eval().requires_grad_(False)


def _load(part: Part, model: Any, dtype: torch.dtype | None, device: str, optional: frozenset[str]) -> None:
    wanted = set(model.state_dict())
    state = {name: tensor.to(device, dtype) for name, tensor in _tensors(part, wanted)}
    missing = sorted(wanted - set(state) - optional)
    if missing:
        raise ArtifactError(
            f"{part.role} in {str(part.weights.folder)!r} lacks {len(missing)} tensors, first {missing[0]!r}",
            subject=str(part.weights.folder),
        )
    try:
        model.load_state_dict(state, assign=True, strict=not optional)
    except RuntimeError as error:
        raise ArtifactError(f"{part.role} does not fit its configuration: {error}") from error


def _shorten(config: Any, layers: int) -> Any:
    values = config.to_dict()
    values["num_hidden_layers"] = layers
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:layers]
    return type(config).from_dict(values)


def _tensors(part: Part, wanted: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the wanted tensors, low-rank adapters that were stored beside them added in."""
    for name in sorted(wanted):
        module = strip_name(name).removesuffix(".weight")
        if strip_name(name) in part.names:
            yield name, part.weights[part.names[strip_name(name)]]
        elif f"{module}.base_layer.weight" in part.names:
            yield name, _with_adapter(part, module)


def _with_adapter(part: Part, module: str) -> torch.Tensor:
    base = part.weights[part.names[f"{module}.base_layer.weight"]]
    down = _adapter_half(part, module, "lora_A")  # (rank, in)
    up = _adapter_half(part, module, "lora_B")  # (out, rank)
    file = part.weights.folder / "adapter_config.json"
    alpha = json.loads(file.read_text(encoding="utf-8"))["lora_alpha"] if file.is_file() else _LORA_ALPHA_DEFAULT
    return (base.float() + float(alpha) / down.shape[0] * (up.float() @ down.float())).to(base.dtype)


def _adapter_half(part: Part, module: str, half: str) -> torch.Tensor:
    for name in (f"{module}.{half}.default.weight", f"{module}.{half}.weight"):
        if name in part.names:
            return part.weights[part.names[name]]
    raise ArtifactError(f"{part.role} has a base layer for {module!r} but no {half}", subject=str(part.weights.folder))


__all__ = ["build_causal_lm", "build_decoder"]
