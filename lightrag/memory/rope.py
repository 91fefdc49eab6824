"""Rotary positions (RoPE): the scaling variants of the published beacon models, and moving keys to other positions.

Knows nothing of models or memories: numbers in, rotations out. Angles are formed in float32 exactly as the published
code forms them, so that a key moved later equals a key rotated there at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightrag.errors import ConfigurationError

RopeKind = Literal["default", "linear", "dynamic", "yarn", "yarn-t", "yarn-t-logn", "llama3"]

_KINDS: tuple[RopeKind, ...] = ("default", "linear", "dynamic", "yarn", "yarn-t", "yarn-t-logn", "llama3")
_GROWING: frozenset[RopeKind] = frozenset({"dynamic", "yarn", "yarn-t", "yarn-t-logn"})
_YARN: frozenset[RopeKind] = frozenset({"yarn", "yarn-t", "yarn-t-logn"})

_BETA_SLOW, _BETA_FAST = 2, 128
"""Rotations over the trained window between which YaRN blends; the published models do not use the paper's 1 and 32."""


@dataclass(frozen=True, slots=True)
class RopeTable:
    """The frequencies that hold for sequences up to a certain length."""

    inverse_frequencies: Tensor
    """Float32, shape (rotary_dim / 2,)."""
    scale: float = 1.0
    """Multiplies cosines and sines of queries and keys alike."""
    position_divisor: float = 1.0

    def angles(self, positions: Tensor) -> Tensor:
        """Return float32 angles of shape (positions, rotary_dim / 2)."""
        places = positions.to(torch.float32)
        if self.position_divisor != 1.0:
            places = places / self.position_divisor
        return torch.outer(places, self.inverse_frequencies)

    def same_as(self, other: RopeTable) -> bool:
        """Tell whether both give equal rotations at every position."""
        return (
            self.scale == other.scale
            and self.position_divisor == other.position_divisor
            and torch.equal(self.inverse_frequencies, other.inverse_frequencies)
        )


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """A model's position encoding as its ``config.json`` states it."""

    kind: RopeKind
    head_dim: int
    theta: float
    max_positions: int
    factor: float = 1.0
    original_max_positions: int = 8192
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any], head_dim: int) -> RopeSettings:
        """Read ``rope_theta``, ``rope_scaling`` (or the newer ``rope_parameters``) and the trained window.

        Raises:
            ConfigurationError: the kind of scaling is unknown, or its factor is missing or not above zero.
        """
        scaling = dict(config.get("rope_parameters") or {}) | dict(config.get("rope_scaling") or {})
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind not in _KINDS:
            raise ConfigurationError(
                f"rope scaling {kind!r} is not supported for beacon models; known: {list(_KINDS)!r}", subject=str(kind)
            )
        factor = scaling.get("factor", 1.0 if kind == "default" else None)
        if not isinstance(factor, int | float) or factor <= 0:
            raise ConfigurationError(f"rope scaling {kind!r} needs a positive 'factor', got {factor!r}")
        return cls(
            kind=kind,
            head_dim=head_dim,
            theta=float(scaling.get("rope_theta", config.get("rope_theta", 10000.0))),
            max_positions=int(config["max_position_embeddings"]),
            factor=float(factor),
            original_max_positions=int(scaling.get("original_max_position_embeddings", 8192)),
            low_frequency_factor=float(scaling.get("low_freq_factor", 1.0)),
            high_frequency_factor=float(scaling.get("high_freq_factor", 4.0)),
        )

    @property
    def native_length(self) -> int:
        """Longest sequence for which the first table holds; longer ones change it only if :attr:`grows`."""
        return math.ceil(self.max_positions * self.factor) if self.kind in _YARN else self.max_positions

    @property
    def grows(self) -> bool:
        """Whether sequences beyond :attr:`native_length` change the frequencies of *all* positions."""
        return self.kind in _GROWING

    def table(self, length: int, device: torch.device | str = "cpu") -> RopeTable:
        """Return the table that holds once a sequence has reached ``length`` positions."""
        inverse = _inverse_frequencies(self.theta, self.head_dim, device)
        if self.kind == "linear":
            return RopeTable(inverse, position_divisor=self.factor)
        if self.kind == "llama3":
            return RopeTable(self._llama3(inverse))
        if self.kind == "dynamic" and length > self.max_positions:
            stretch = self.factor * length / self.max_positions - (self.factor - 1)
            theta = self.theta * stretch ** (self.head_dim / (self.head_dim - 2))
            return RopeTable(_inverse_frequencies(theta, self.head_dim, device))
        if self.kind in _YARN:
            factor = length / self.max_positions if length > self.native_length else self.factor
            scale = 0.07 * math.log(factor) + 1.0 if self.kind == "yarn" and factor > 1 else 1.0
            return RopeTable(self._yarn(factor, device), scale=scale)
        return RopeTable(inverse)

    def query_temperature(self, positions: Tensor) -> Tensor | None:
        """Return float32 factors for queries, shape (positions,), for the variants that have a temperature."""
        if self.kind not in ("yarn-t", "yarn-t-logn"):
            return None
        places = positions.to(torch.float32) + 1
        if self.kind == "yarn-t":
            temperature = (0.07 * torch.log(places / self.max_positions) + 1) ** 2
        else:
            temperature = torch.log(places) / math.log(self.max_positions)
        return torch.where(positions < self.max_positions, torch.ones_like(temperature), temperature)

    def _yarn(self, factor: float, device: torch.device | str) -> Tensor:
        base = 1 / self.theta ** (torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim)
        low = max(math.floor(self._yarn_dimension(_BETA_FAST)), 0)
        high: float = min(math.ceil(self._yarn_dimension(_BETA_SLOW)), self.head_dim - 1)
        if low == high:
            high += 0.001
        ramp = (torch.arange(self.head_dim // 2, dtype=torch.float32, device=device) - low) / (high - low)
        keep = 1 - ramp.clamp(0, 1)
        return keep * base + (1 - keep) * (base / factor)

    def _yarn_dimension(self, rotations: int) -> float:
        return self.head_dim / 2 * math.log(self.max_positions / (2 * math.pi * rotations)) / math.log(self.theta)

    def _llama3(self, inverse: Tensor) -> Tensor:
        wavelength = 2 * math.pi / inverse
        long = self.original_max_positions / self.low_frequency_factor
        short = self.original_max_positions / self.high_frequency_factor
        smooth = (self.original_max_positions / wavelength - self.low_frequency_factor) / (
            self.high_frequency_factor - self.low_frequency_factor
        )
        blended = (1 - smooth) * inverse / self.factor + smooth * inverse
        scaled = torch.where(wavelength > long, inverse / self.factor, blended)
        return torch.where(wavelength < short, inverse, scaled)


def _inverse_frequencies(theta: float, head_dim: int, device: torch.device | str) -> Tensor:
    return 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim))


def cosines_and_sines(angles: Tensor, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Turn angles of shape (n, rotary_dim / 2) into two tensors of shape (n, rotary_dim / 2) in ``dtype``."""
    return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first ``2 * cos.shape[-1]`` dimensions of ``states`` in the rotate-half convention.

    Args:
        states: shape (heads, n, head_dim).
        cos: shape (n, rotary_dim / 2).
        sin: like ``cos``.
    """
    half = cos.shape[-1]
    first, second = states[..., :half], states[..., half : 2 * half]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    if 2 * half == states.shape[-1]:
        return turned
    return torch.cat((turned, states[..., 2 * half :]), dim=-1)


def move_keys(keys: Tensor, old: Tensor, new: Tensor, table: RopeTable, new_table: RopeTable | None = None) -> Tensor:
    """Move rotated keys from ``old`` to ``new`` positions, optionally to another table at the same time.

    The rotation is by the difference of the two float32 angles, so the result equals a fresh rotation at ``new`` to
    within the rounding of one multiplication, however large the positions are.

    Args:
        keys: shape (kv_heads, n, head_dim), rotated for ``old`` with ``table``.
        old: integer positions, shape (n,).
        new: integer positions, shape (n,).
        table: what the keys are rotated with now.
        new_table: what they shall be rotated with; ``None`` keeps ``table``.
    """
    target = new_table or table
    difference = target.angles(new).double() - table.angles(old).double()
    scale = target.scale / table.scale
    cos, sin = (difference.cos() * scale).float(), (difference.sin() * scale).float()
    return rotate(keys.float(), cos, sin).to(keys.dtype)


__all__ = ["RopeKind", "RopeSettings", "RopeTable", "cosines_and_sines", "move_keys", "rotate"]
