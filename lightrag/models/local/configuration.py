"""What a checkpoint's ``config.json`` says about the model, read without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lightrag.errors import BackendError, ConfigurationError

_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


class CheckpointShape(NamedTuple):
    """Facts about a causal language model."""

    architecture: str
    layers: int
    hidden: int
    """Width of an input embedding."""
    dtype: str
    """Of the saved weights, as torch names it; empty where the configuration does not say."""
    positions: int | None
    """Length of its window; ``None`` where there is no limit by construction."""
    attention_only: bool
    """Every layer is attention; no recurrent state."""
    capped: bool
    """Attention scores are soft-capped (Gemma 2), which only transformers' plain implementation computes."""
    sees_everything: bool
    """No layer looks at a shorter window than the whole."""

    @property
    def takes_memory(self) -> bool:
        """Whether a KV memory can stand in front of a prompt."""
        return self.attention_only and self.sees_everything and not self.capped


def read_shape(folder: Path, name: str) -> CheckpointShape:
    """Read the configuration of the checkpoint in ``folder``.

    Raises:
        BackendError: there is none, or transformers does not know the architecture.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder)).get_text_config()
        layers = int(config.num_hidden_layers)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackendError(
            f"model {name!r} is not a language model that transformers can read: {error}", subject=name
        ) from error
    kinds = set(getattr(config, "layer_types", None) or ())
    positions = getattr(config, "max_position_embeddings", None)
    sliding = getattr(config, "sliding_window", None)
    return CheckpointShape(
        architecture=str(config.model_type),
        layers=layers,
        hidden=getattr(config, "hidden_size", 0),
        dtype=str(getattr(config, "dtype", None) or "").removeprefix("torch."),
        positions=positions,
        attention_only=kinds <= _ATTENTION_LAYERS and not getattr(config, "is_encoder_decoder", False),
        capped=getattr(config, "attn_logit_softcapping", None) is not None,
        sees_everything=kinds <= {"full_attention"} and (bool(kinds) or not sliding or sliding >= (positions or 0)),
    )


def context_window(shape: CheckpointShape, name: str, cap: int | None) -> int:
    """Window of the model, lowered to ``cap``.

    Raises:
        ConfigurationError: neither is known.
    """
    if shape.positions is None and cap is None:
        raise ConfigurationError(f"model {name!r} does not say its window; set generator.context_tokens", subject=name)
    return min(limit for limit in (shape.positions, cap) if limit is not None)


__all__ = ["CheckpointShape", "context_window", "read_shape"]
