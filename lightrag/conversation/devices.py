"""Refuses devices that this machine lacks, with the option that asked for them, before anything is loaded."""

from __future__ import annotations

from typing import Literal

from lightrag.conversation.options import DType
from lightrag.errors import ConfigurationError


def check_device(device: str, option: str) -> str:
    """Return the device, if there is one.

    Raises:
        ConfigurationError: there is no such device.
    """
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigurationError(
                f"{option} asks for device {device!r}, but this machine has no CUDA device: use 'cpu'", subject=option
            )
    return device


def weights_dtype(dtype: DType, device: str) -> Literal["float32", "bfloat16", "float16"]:
    """What ``auto`` stands for on a device: float32 on the CPU, bfloat16 elsewhere."""
    if dtype == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    return dtype


__all__ = ["check_device", "weights_dtype"]
