"""What ``memory.json`` says about a stored memory.

It knows nothing of tensors' bytes. Unknown fields and other format versions are refused: a reader that guesses would
answer from cells it misunderstands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Literal, get_args

import pydantic
import torch
from pydantic import BaseModel, ConfigDict, Field

from lightrag.errors import ArtifactError
from lightrag.memory.kv_memory import BeaconState, KVMemory, MemoryKind, MemoryPart, ModelIdentity, RopeState

FORMAT_VERSION = 1
MANIFEST_NAME = "memory.json"

Quantisation = Literal["none", "int8"]
DTypeName = Literal["float32", "bfloat16", "float16"]
Count = Annotated[int, Field(ge=0)]


class Stored(BaseModel):
    """Base of everything in ``memory.json``."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class StoredModel(Stored):
    """The model that made the memory."""

    architecture: str
    config_hash: str
    weights_id: str
    tokenizer_hash: str


class StoredRope(Stored):
    """How keys are rotated; see :class:`~lightrag.memory.kv_memory.RopeState`."""

    inverse_frequencies: list[float]
    scale: float
    position_divisor: float
    length: Count


class StoredBeacon(Stored):
    """Resumable state of a beacon memory; see :class:`~lightrag.memory.kv_memory.BeaconState`."""

    flags: Annotated[str, Field(pattern="^[012]*$")]
    """One digit per cell of the open window."""
    tokens: Count
    remainder: Count
    ratio: int
    windows: Count
    sticky_ratio: int


class StoredPart(Stored):
    """One document's range of cells."""

    document_id: str
    start: Count
    cells: Count
    source_tokens: Count


class StoredFile(Stored):
    """One safetensors file and the digest of each of its parts."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    size: Count
    layers: tuple[Count, Count]
    """First layer in it, and the one after the last."""
    digests: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    """blake3 of every part."""


class Manifest(Stored):
    """All of ``memory.json``."""

    format: int
    kind: MemoryKind
    model: StoredModel
    rope: StoredRope
    layers: Annotated[int, Field(gt=0)]
    kv_heads: Annotated[int, Field(gt=0)]
    head_dim: Annotated[int, Field(gt=0)]
    cells: Count
    source_tokens: Count
    dtype: DTypeName
    """Of the cells once loaded."""
    quantisation: Quantisation
    beacon: StoredBeacon | None
    token_ids: list[int]
    parts: list[StoredPart]
    fingerprint: str
    part_bytes: Annotated[int, Field(gt=0)]
    files: list[StoredFile]

    @property
    def identity(self) -> ModelIdentity:
        """The model that made the memory."""
        return ModelIdentity(**self.model.model_dump())

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the cells once loaded."""
        return DTYPES[self.dtype]

    def memory(self, keys: tuple[torch.Tensor, ...], values: tuple[torch.Tensor, ...]) -> KVMemory:
        """Put the loaded tensors back into a memory."""
        beacon = self.beacon
        return KVMemory(
            kind=self.kind,
            model=self.identity,
            keys=keys,
            values=values,
            rope=RopeState(**self.rope.model_dump() | {"inverse_frequencies": tuple(self.rope.inverse_frequencies)}),
            source_tokens=self.source_tokens,
            beacon=None
            if beacon is None
            else BeaconState(**beacon.model_dump() | {"flags": bytes(int(flag) for flag in beacon.flags)}),
            token_ids=tuple(self.token_ids),
            parts=tuple(MemoryPart(**part.model_dump()) for part in self.parts),
            fingerprint=self.fingerprint,
        )


DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(DTypeName)}


def describe_memory(
    memory: KVMemory, files: list[StoredFile], *, quantisation: Quantisation, part_bytes: int, fingerprint: str
) -> Manifest:
    """Write down everything about a memory but its tensors.

    Raises:
        ArtifactError: its dtype cannot be stored.
    """
    name = str(memory.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ArtifactError(f"memories of dtype {name!r} cannot be stored; convert to one of {sorted(DTYPES)!r}")
    state = memory.beacon
    return Manifest(
        format=FORMAT_VERSION,
        kind=memory.kind,
        model=StoredModel(**asdict(memory.model)),
        rope=StoredRope(**asdict(memory.rope) | {"inverse_frequencies": list(memory.rope.inverse_frequencies)}),
        layers=len(memory.keys),
        kv_heads=memory.keys[0].shape[0],
        head_dim=memory.keys[0].shape[2],
        cells=memory.cells,
        source_tokens=memory.source_tokens,
        dtype=name,  # type: ignore[arg-type]  # checked against the names above
        quantisation=quantisation,
        beacon=None
        if state is None
        else StoredBeacon(**asdict(state) | {"flags": "".join(str(flag) for flag in state.flags)}),
        token_ids=list(memory.token_ids),
        parts=[StoredPart(**asdict(part)) for part in memory.parts],
        fingerprint=fingerprint,
        part_bytes=part_bytes,
        files=files,
    )


def parse_manifest(data: bytes, subject: str) -> Manifest:
    """Read ``memory.json``.

    Raises:
        ArtifactError: it is damaged, or of a format version that this library does not read.
    """
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise ArtifactError(f"{subject}: {MANIFEST_NAME} is not JSON: {error}", subject=subject) from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{subject}: memory format {version!r} cannot be read here, only {FORMAT_VERSION}: memorise again, "
            "or use the library version that wrote it",
            subject=subject,
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ArtifactError(f"{subject}: {MANIFEST_NAME} is not valid: {problems}", subject=subject) from error
    contradictions = list(_contradictions(manifest))
    if contradictions:
        raise ArtifactError(
            f"{subject}: {MANIFEST_NAME} was changed after it was written: {'; '.join(contradictions)}", subject=subject
        )
    return manifest


def fingerprint_of(model: ModelIdentity, files: Iterable[StoredFile]) -> str:
    """Name the cells that a model made: equal for equal keys and values."""
    from blake3 import blake3

    total = blake3(model.fingerprint.encode())
    for file in files:
        total.update("".join(file.digests).encode())
    return total.hexdigest(16)


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What cannot all be true of one memory; answers over it would be wrong without anybody noticing."""
    if manifest.fingerprint != fingerprint_of(manifest.identity, manifest.files):
        yield "its fingerprint is not that of its model and files"
    beacon = manifest.beacon
    if (manifest.kind == "full" and beacon is not None) or (manifest.kind == "beacon" and beacon is None):
        yield f"a {manifest.kind} memory {'with' if beacon else 'without'} the state of a beacon memory"
    if beacon is not None and not beacon.tokens <= len(beacon.flags) <= manifest.cells:
        yield f"an open window of {beacon.tokens} tokens and {len(beacon.flags)} cells, of {manifest.cells} in all"
    if any(part.start + part.cells > manifest.cells for part in manifest.parts):
        yield f"documents beyond the last of {manifest.cells} cells"
    if 2 * len(manifest.rope.inverse_frequencies) > manifest.head_dim:
        yield f"{len(manifest.rope.inverse_frequencies)} frequencies for heads of {manifest.head_dim} dimensions"


__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "Manifest",
    "Quantisation",
    "StoredFile",
    "describe_memory",
    "fingerprint_of",
    "parse_manifest",
]
