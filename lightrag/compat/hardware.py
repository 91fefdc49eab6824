"""What this machine can do: its device, flash attention, weights of 4 bits. An explicit wish that it cannot fulfil is
refused with the name of what is missing.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightrag.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import nn


def default_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def require_flash_attention(device: str) -> None:
    """Make sure that attention runs in a flash kernel here; PyTorch brings one for CPUs and for recent GPUs.

    Raises:
        ConfigurationError: there is none for this device; the message gives PyTorch's reasons.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with warnings.catch_warnings(record=True) as reasons:
        warnings.simplefilter("always")
        try:
            states = torch.zeros(1, 1, 8, 64, device=device, dtype=dtype)
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                torch.nn.functional.scaled_dot_product_attention(states, states, states, is_causal=True)
        # A PyTorch that was built without CUDA answers with an AssertionError.
        except (RuntimeError, AssertionError) as error:
            said = " ".join(str(reason.message).strip() for reason in reasons) or str(error)
            raise ConfigurationError(
                f"enable_flash_attn=True needs a flash attention kernel, which device {device!r} does not have: {said} "
                "Leave it out, and the best kernel there is will be used",
                subject="enable_flash_attn",
            ) from error


def require_four_bit(device: str) -> None:
    """Make sure that weights can be loaded in 4 bits here.

    Raises:
        ConfigurationError: something is missing; all of it is named.
    """
    missing = [] if device.startswith("cuda") else ["a CUDA GPU"]
    missing += [f"the package {name!r}" for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"load_in_4bit=True needs {' and '.join(missing)}: not found on this machine. Leave it False to load the "
            "weights as they are",
            subject="load_in_4bit",
        )


def four_bit_config() -> Any:
    """How transformers quantises weights while it loads them: NF4, computing in bfloat16."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def quantise_linears(model: nn.Module, device: str) -> None:
    """Replace the linear layers of a loaded model, all but its head, by NF4 ones on ``device``, one after the other."""
    import bitsandbytes  # type: ignore[import-not-found, unused-ignore]  # an optional package
    from torch import nn

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or name == "lm_head":
                continue
            small = bitsandbytes.nn.Linear4bit(
                child.in_features,
                child.out_features,
                bias=child.bias is not None,
                compute_dtype=child.weight.dtype,
                quant_type="nf4",
            )
            small.weight = bitsandbytes.nn.Params4bit(child.weight.data, requires_grad=False, quant_type="nf4")
            small.bias = child.bias
            setattr(parent, name, small.to(device))
    model.to(device)


__all__ = ["default_device", "four_bit_config", "quantise_linears", "require_flash_attention", "require_four_bit"]
