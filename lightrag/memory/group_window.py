"""How much text one memory of a model can hold, and what that costs, from its ``config.json`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lightrag.errors import ConfigurationError
from lightrag.memory.beacon.config import BeaconConfig, is_beacon_checkpoint, read_config

ROOM_TOKENS: Final = 1024
"""Positions left free behind a memory: for the prompts around the text, a question and its answer."""
_SMALLEST_SHARE: Final = 4
"""The room is at most this part of a model's window."""
_WORKING_STATES: Final = 16
"""Hidden states per token and layer pass, about, that exist at once while a model reads."""


def longest_text(folder: Path, *, ratio: int | None = None) -> int:
    """Tokens of the longest text that fits into one memory, beside prompts, question and answer.

    Args:
        folder: checkpoint; with a beacon checkpoint's memories a token takes less than one position.
        ratio: compression ratio of a beacon checkpoint; ``None`` takes its own.

    Raises:
        ConfigurationError: the checkpoint does not say how many positions it has.
    """
    positions = positions_of(folder)
    free = positions - min(ROOM_TOKENS, positions // _SMALLEST_SHARE)
    if not is_beacon_checkpoint(folder):
        return free
    beacon = BeaconConfig.read(folder)
    # Ratio 0 keeps a window as it is; the open window is raw.
    least = min(max(each, 1) for each in ((ratio,) if ratio else beacon.ratios))
    return max(free - beacon.window - beacon.sink_size, 1) * least


def positions_of(folder: Path) -> int:
    """Tokens that a model reads in one go, where it keeps all of them.

    Raises:
        ConfigurationError: the checkpoint does not say.
    """
    config = read_config(folder)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        raise ConfigurationError(
            f"{str(folder / 'config.json')!r} does not say max_position_embeddings: this is not a decoder that can "
            "make memories",
            subject=str(folder),
        )
    layers = config.get("layer_types") or ()
    sliding = config.get("sliding_window")
    used = "sliding_attention" in layers if layers else config.get("use_sliding_window", True)
    return min(positions, sliding) if isinstance(sliding, int) and sliding > 0 and used else positions


def bytes_per_token(folder: Path, item_bytes: int) -> int:
    """Bytes that a token takes while a model reads it: its cells in all layers, and states on their way.

    Args:
        folder: checkpoint.
        item_bytes: of one number of the model.
    """
    config = read_config(folder)
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    width = int(config.get("head_dim") or hidden // heads)
    cells = 2 * int(config["num_hidden_layers"]) * int(config.get("num_key_value_heads") or heads) * width
    return item_bytes * (cells + _WORKING_STATES * hidden)


__all__ = ["ROOM_TOKENS", "bytes_per_token", "longest_text", "positions_of"]
