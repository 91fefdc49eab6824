"""Linear layers of models that only infer on a processor, with weights laid out once for oneDNN.

PyTorch multiplies single-precision matrices with MKL, which leaves the widest instructions of other makers' processors
unused and sorts the weights anew at every call. oneDNN, which PyTorch carries too, does neither: on a Zen 5 an encoder
runs twice as fast, with results that differ in the last bits (``python -m tests.benchmarks.model_speed``).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from lightrag.errors import UsageError

_ONEDNN: Final[Any] = torch.backends.mkldnn
# What torch.compile itself calls; torch.utils.mkldnn, meant for all, copies every input and output.
_LINEAR: Final[Any] = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_PACK: Final[Any] = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)


class PackedLinear(nn.Module):
    """A linear layer for inference, through which nothing can be learned. Its state is that of the layer it was."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("weight", _PACK(layer.weight.detach()), persistent=False)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of shape (…, in_features) to outputs of shape (…, out_features).

        Raises:
            UsageError: gradients are wanted, which would be wrong.
        """
        if inputs.requires_grad and torch.is_grad_enabled():
            raise UsageError("this model was loaded for inference, so nothing can be learned through it")
        result: Tensor = _LINEAR(inputs, self.weight, self.bias, "none", [], "")
        return result

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight.to_dense()


def pack_linear_layers(model: nn.Module) -> None:
    """Replace the linear layers of a model that stays where it is and learns nothing.

    Left as they are: layers on other devices or of another precision, which PyTorch runs well; weights that another
    module uses too; subclasses, which adapters and quantisation are; and everything where PyTorch has no oneDNN.
    """
    if not _ONEDNN.is_available() or _LINEAR is None or _PACK is None:
        return
    uses = Counter(weight.data_ptr() for module in model.modules() for weight in module.parameters(recurse=False))
    places: dict[int, list[str]] = {}
    for path, layer in model.named_modules(remove_duplicate=False):
        if path and type(layer) is nn.Linear and uses[layer.weight.data_ptr()] == 1 and _packable(layer.weight):
            places.setdefault(id(layer), []).append(path)
    # One after the other and none held, so that a large model never lies in memory twice.
    for paths in places.values():
        packed = PackedLinear(cast("nn.Linear", model.get_submodule(paths[0])))
        for path in paths:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, packed)


def _packable(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


__all__ = ["PackedLinear", "pack_linear_layers"]
