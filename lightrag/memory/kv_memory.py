"""The value that a KV memory is: keys and values per layer, whose model made them, and where reading may go on.

Knows nothing of how memories are computed, stored or asked. A memory never changes: appending makes a new one, and any
number of questions in any number of threads may share one.
"""

from __future__ import annotations

import uuid
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightrag.errors import ArtifactError, UsageError
from lightrag.memory.rope import RopeTable

MemoryKind = Literal["full", "gist", "beacon"]


class LayerCells(NamedTuple):
    """One layer of a memory; both tensors have shape (kv_heads, cells, head_dim)."""

    keys: Tensor
    """Rotated for positions 0…cells-1."""
    values: Tensor


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a memory, in parts, so that an error can say what differs."""

    architecture: str
    config_hash: str
    """Of the settings that change what the cells mean."""
    weights_id: str
    """Of the weight files' headers and samples of their content."""
    tokenizer_hash: str = ""
    """Empty where there is no tokenizer, which then matches any."""

    @property
    def fingerprint(self) -> str:
        """All parts as one string."""
        return f"{self.architecture}:{self.config_hash}:{self.weights_id}:{self.tokenizer_hash}"

    def differences(self, other: ModelIdentity) -> list[str]:
        """Name every part in which the two differ, with both values."""
        return [
            f"{label} {mine!r} != {theirs!r}"
            for label, mine, theirs in (
                ("architecture", self.architecture, other.architecture),
                ("configuration", self.config_hash, other.config_hash),
                ("weights", self.weights_id, other.weights_id),
                ("tokenizer", self.tokenizer_hash, other.tokenizer_hash),
            )
            if mine != theirs and not (label == "tokenizer" and not (mine and theirs))
        ]

    def check(self, user: ModelIdentity) -> None:
        """Make sure that the memory of this model may be used by the model ``user``.

        Raises:
            ArtifactError: they are not the same model; the message lists what differs.
        """
        differences = self.differences(user)
        if differences:
            raise ArtifactError(
                f"this memory was made by another model ({'; '.join(differences)}, memory first): load the model that "
                "made it, or memorise the text again",
                subject=self.fingerprint,
            )


@dataclass(frozen=True, slots=True)
class RopeState:
    """How the keys of a memory are rotated."""

    inverse_frequencies: tuple[float, ...]
    """One per pair of rotated dimensions; empty where the model's keys cannot be moved."""
    scale: float = 1.0
    position_divisor: float = 1.0
    length: int = 0
    """Longest sequence so far, for scalings whose frequencies grow with it."""

    def table(self, device: torch.device | str = "cpu") -> RopeTable:
        """Return the frequencies as tensors.

        Raises:
            UsageError: the keys of this model cannot be moved.
        """
        if not self.inverse_frequencies:
            raise UsageError("the keys of this model's memories cannot be moved to other positions")
        return RopeTable(torch.tensor(self.inverse_frequencies, device=device), self.scale, self.position_divisor)


def rope_state(table: RopeTable, length: int = 0) -> RopeState:
    """Note down a table for a memory."""
    return RopeState(tuple(table.inverse_frequencies.tolist()), table.scale, table.position_divisor, length)


@dataclass(frozen=True, slots=True)
class BeaconState:
    """Where the reading of a beacon memory stopped, so that it can go on exactly."""

    flags: bytes = b""
    """One per cell of the open window, the last ones of the memory: 0 raw, 1 beacon, 2 kept for good."""
    tokens: int = 0
    """Real tokens in the open window."""
    remainder: int = 0
    """Real tokens since the last beacon; it outlives a window where the ratio does not divide it."""
    ratio: int = -1
    """Of the open window; -1 before the first."""
    windows: int = 0
    """Ratios chosen so far."""
    sticky_ratio: int = -1
    """For policies that choose once per sequence; -1 before."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """One document's range of cells in a memory."""

    document_id: str
    start: int
    cells: int
    source_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class KVMemory:
    """An immutable KV memory.

    Raises:
        ArtifactError: the tensors do not fit together.
    """

    kind: MemoryKind
    model: ModelIdentity
    keys: tuple[Tensor, ...]
    """One per layer, shape (kv_heads, cells, head_dim), rotated for positions 0…cells-1."""
    values: tuple[Tensor, ...]
    """Like ``keys``, not rotated."""
    rope: RopeState
    _: KW_ONLY
    source_tokens: int
    """Tokens that were read."""
    beacon: BeaconState | None = None
    """Only for kind ``beacon``."""
    token_ids: tuple[int, ...] = ()
    """The tokens that were read, where kept: for memories whose cells are tokens."""
    parts: tuple[MemoryPart, ...] = ()
    """The documents it was composed of, in order; empty for a memory of one text."""
    fingerprint: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Equal fingerprints mean equal keys and values. New memories get a unique one, stored ones keep theirs."""

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.values) or not self.keys:
            raise ArtifactError(
                f"a memory needs as many keys as values: {len(self.keys)} and {len(self.values)} layers"
            )
        shape = self.keys[0].shape
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            if keys.shape != shape or values.shape != shape or len(shape) != 3:
                raise ArtifactError(
                    f"layer {layer} of the memory has keys {tuple(keys.shape)} and values {tuple(values.shape)}; "
                    f"all must be {tuple(shape)}, (kv_heads, cells, head_dim)"
                )

    def __repr__(self) -> str:
        return (
            f"KVMemory({self.kind}, {self.cells} cells of {self.source_tokens} tokens, {len(self.keys)} layers, "
            f"{self.byte_count / 2**20:.1f} MiB)"
        )

    @property
    def cells(self) -> int:
        """Cells per layer: how many positions the memory takes in a prompt."""
        return self.keys[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.keys[0].dtype

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.keys[0].device

    @property
    def byte_count(self) -> int:
        """Bytes of all keys and values."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.keys, *self.values))

    @property
    def open_cells(self) -> int:
        """Cells at the end that belong to a window which is not full yet."""
        return len(self.beacon.flags) if self.beacon else 0

    def layers(self) -> list[LayerCells]:
        """Return the layers, first to last; the tensors themselves, not copies."""
        return [LayerCells(*pair) for pair in zip(self.keys, self.values, strict=True)]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> KVMemory:
        """Return this memory on another device or in another dtype; itself where nothing changes."""
        target, kind = torch.device(device), dtype or self.dtype
        if target == self.device and kind == self.dtype:
            return self
        return replace(
            self,
            keys=tuple(tensor.to(target, kind) for tensor in self.keys),
            values=tuple(tensor.to(target, kind) for tensor in self.values),
            fingerprint=self.fingerprint if kind == self.dtype else uuid.uuid4().hex,
        )


__all__ = [
    "BeaconState",
    "KVMemory",
    "LayerCells",
    "MemoryKind",
    "MemoryPart",
    "ModelIdentity",
    "RopeState",
    "rope_state",
]
