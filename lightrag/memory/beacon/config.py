"""What a beacon checkpoint's ``config.json`` says, checked once.

Knows nothing of tensors. The defaults are those of the published configuration classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from lightrag.errors import ConfigurationError
from lightrag.memory.kv_batch import CacheShape
from lightrag.memory.rope import RopeSettings

Projection = Literal["q", "k", "v", "o"]
BeaconPlacement = Literal["interleave", "append"]
BeaconAttention = Literal["full-coverage", "step-expansion"]


class _Architecture(NamedTuple):
    has_bias: bool
    """Of query, key and value projections."""
    positions: int
    """Trained window where ``config.json`` does not say."""


ARCHITECTURES = {"qwen2": _Architecture(True, 32_768), "mistral": _Architecture(False, 131_072)}
"""Supported model types."""

_MIXES = ("step-random", "instance-random", "sequence")


@dataclass(frozen=True, slots=True)
class BeaconConfig:
    """Shape and beacon settings of a model.

    Raises:
        ConfigurationError: from :meth:`from_dict` and :meth:`with_ratios`, if a setting is missing, contradictory or
            not supported.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope: RopeSettings
    tied_embeddings: bool
    window: int
    """Real tokens per window."""
    ratios: tuple[int, ...]
    """Allowed compression ratios; 0 keeps a window raw."""
    ratio_mix: str
    params: frozenset[Projection]
    """Projections that have a beacon version."""
    placement: BeaconPlacement
    attention: BeaconAttention
    attend_prev: bool
    """In step-expansion: whether a beacon sees the beacons before it in its window."""
    sink_size: int
    embed_init: Literal["eos", "bos"]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path, **overrides: Any) -> BeaconConfig:
        """Read ``config.json`` in ``folder``; ``overrides`` replace its fields, for example ``beacon_ratio=[8]``."""
        return cls.from_dict(read_config(folder) | overrides)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> BeaconConfig:
        """Check the fields of a ``config.json``. Beacon fields that are missing take the published defaults."""
        model_type = config.get("model_type")
        if model_type not in ARCHITECTURES:
            raise ConfigurationError(
                f"beacon memories need one of the model types {sorted(ARCHITECTURES)!r}, not {model_type!r}; any other "
                "decoder gives full-context memories",
                subject=str(model_type),
            )
        # A field that is null means what a missing one means.
        given = {name: value for name, value in config.items() if value is not None}
        given.setdefault("max_position_embeddings", ARCHITECTURES[str(model_type)].positions)
        try:
            result = cls._of(given)
            stride = int(given.get("beacon_stride", result.window))
        except KeyError as error:
            raise ConfigurationError(f"config.json lacks {error.args[0]!r}", subject=str(error.args[0])) from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"config.json cannot be understood: {error}") from error
        result._check(stride)
        return result

    @classmethod
    def _of(cls, given: Mapping[str, Any]) -> BeaconConfig:
        heads, hidden = int(given["num_attention_heads"]), int(given["hidden_size"])
        head_dim = int(given.get("head_dim") or hidden // heads)
        eos = given.get("eos_token_id", ())
        return cls(
            model_type=given["model_type"],
            vocab_size=int(given["vocab_size"]),
            hidden_size=hidden,
            intermediate_size=int(given["intermediate_size"]),
            layers=int(given["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(given.get("num_key_value_heads", heads)),
            head_dim=head_dim,
            rms_norm_eps=float(given.get("rms_norm_eps", 1e-6)),
            rope=RopeSettings.from_config(given, head_dim),
            tied_embeddings=bool(given.get("tie_word_embeddings", False)),
            window=int(given.get("beacon_window", 1024)),
            ratios=tuple(int(ratio) for ratio in _listed(given.get("beacon_ratio", (2, 4, 8, 16, 32)))),
            ratio_mix=str(given.get("beacon_ratio_mix", "step-random")),
            params=frozenset(given.get("beacon_param", ())),
            placement=given.get("beacon_pos", "interleave"),
            attention=given.get("beacon_attn", "full-coverage"),
            attend_prev=bool(given.get("beacon_attend_prev", True)),
            sink_size=int(given.get("beacon_sink_size", 0)),
            embed_init=given.get("beacon_embed_init", "eos"),
            bos_token_id=given.get("bos_token_id"),
            eos_token_ids=tuple(int(token) for token in _listed(eos)),
        )

    def with_ratios(self, ratios: int | tuple[int, ...]) -> BeaconConfig:
        """Return a copy with other allowed ratios."""
        changed = replace(self, ratios=(ratios,) if isinstance(ratios, int) else tuple(ratios))
        changed._check(self.window)
        return changed

    @property
    def cache_shape(self) -> CacheShape:
        """What the model's cache looks like."""
        return CacheShape(self.layers, self.kv_heads, self.head_dim)

    @property
    def has_bias(self) -> bool:
        """Whether query, key and value projections have a bias."""
        return ARCHITECTURES[self.model_type].has_bias

    def _check(self, stride: int) -> None:
        problems = []
        if self.window < 1:
            problems.append(f"beacon_window must be positive, got {self.window}")
        if stride != self.window:
            problems.append(
                f"beacon_stride {stride} must equal beacon_window {self.window}: overlapping windows never worked in "
                "the published system, so no checkpoint has them"
            )
        problems += self._ratio_problems()
        if not _is_mix(self.ratio_mix):
            problems.append(f"beacon_ratio_mix must be one of {_MIXES!r} or 'adapt-N', got {self.ratio_mix!r}")
        for name, value, allowed in (
            ("beacon_pos", {self.placement}, get_args(BeaconPlacement)),
            ("beacon_attn", {self.attention}, get_args(BeaconAttention)),
            ("beacon_param", self.params, get_args(Projection)),
            ("beacon_embed_init", {self.embed_init}, ("eos", "bos")),
        ):
            if not value <= set(allowed):
                problems.append(f"{name} may be {allowed!r}, got {sorted(value)!r}")
        if self.placement == "interleave" and self.attention == "step-expansion" and self.attend_prev:
            problems.append("step-expansion with interleaved beacons needs beacon_attend_prev false")
        if self.sink_size < 0:
            problems.append(f"beacon_sink_size must not be negative, got {self.sink_size}")
        if problems:
            raise ConfigurationError("the beacon settings are not valid: " + "; ".join(problems))

    def _ratio_problems(self) -> list[str]:
        """As published, one ratio is taken as it is, and of several only those count that divide the window."""
        said = f"beacon_ratio {list(self.ratios)!r}"
        if not self.ratios or min(self.ratios) < 0:
            return [f"{said} must list ratios, none below 0"]
        if len(self.ratios) > 1 and not any(ratio == 0 or self.window % ratio == 0 for ratio in self.ratios):
            return [f"{said} has no ratio that divides the window of {self.window} tokens"]
        if self.placement == "append" and self.ratios[0] > self.window and len(self.ratios) == 1:
            return [f"{said} leaves no beacon in a window of {self.window} tokens"]
        return []


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _is_mix(name: str) -> bool:
    return name in _MIXES or (name.startswith("adapt-") and name.removeprefix("adapt-").isdecimal())


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's ``config.json``.

    Raises:
        ConfigurationError: there is none, or it is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is not a readable model configuration: {error}", subject=str(path)
        ) from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{str(path)!r} must hold a JSON object", subject=str(path))
    return config


def is_beacon_checkpoint(folder: Path) -> bool:
    """Tell by ``config.json``, never by the folder's name, whether a checkpoint makes beacon memories."""
    return "beacon_window" in read_config(folder)


__all__ = ["BeaconConfig", "is_beacon_checkpoint", "read_config"]
