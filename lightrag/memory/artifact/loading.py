"""Loads a memory: many ranges at once, every part verified before its layer is handed out.

A local file that was verified before and has not changed since is mapped and not hashed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lightrag.errors import ArtifactError
from lightrag.memory.artifact.layout import Place, parse_header, view
from lightrag.memory.artifact.manifest import MANIFEST_NAME, Manifest, StoredFile, parse_manifest
from lightrag.memory.artifact.places import FolderPlace, MemoryPlace
from lightrag.memory.artifact.quantise import Quantised, restore
from lightrag.memory.artifact.verified import VerifiedFiles
from lightrag.memory.kv_memory import KVMemory, LayerCells, ModelIdentity

_THREADS: Final = min(16, 2 * (os.cpu_count() or 1) + 2)
"""Readers: more than cores, because some wait for the disk while others hash."""


def load_memory(
    place: MemoryPlace | str | Path,
    *,
    model: ModelIdentity | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> KVMemory:
    """Load a memory whole.

    Args:
        place: a folder, or an object store's place.
        model: which model is going to use it; ``None`` skips the check.
        device: where to.
        dtype: of the cells; ``None`` keeps the one it was made with.

    Raises:
        NotFoundError: there is no memory.
        ArtifactError: it is damaged, or another model made it; the message says what differs.
    """
    source = FolderPlace(place) if isinstance(place, str | Path) else place
    manifest = read_manifest(source)
    if model is not None:
        manifest.identity.check(model)
    layers = list(stream_layers(source, manifest, device=device, dtype=dtype))
    return manifest.memory(tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers))


def read_manifest(place: MemoryPlace | str | Path) -> Manifest:
    """Read what is known of a memory without its cells.

    Raises:
        NotFoundError: there is no memory.
        ArtifactError: its ``memory.json`` is damaged or of another format version.
    """
    source = FolderPlace(place) if isinstance(place, str | Path) else place
    return parse_manifest(source.read(MANIFEST_NAME), source.label)


def stream_layers(
    place: MemoryPlace,
    manifest: Manifest,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Iterator[LayerCells]:
    """Yield the layers in order, each as soon as its bytes are here and verified.

    Raises:
        ArtifactError: a part is damaged, or tensors are missing or of another shape than the manifest says.
    """
    target, kind = torch.device(device), dtype or manifest.torch_dtype
    expected = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="lightrag-memory") as pool:
        readers = [_FileReader(place, manifest, file, pool) for file in manifest.files]
        for reader in readers:
            if reader.file.layers[0] != expected:
                raise ArtifactError(f"{place.label}: layer {expected} is missing", subject=place.label)
            for layer in range(*reader.file.layers):
                yield _on(target, kind, reader.layer(layer))
            expected = reader.file.layers[1]
    if expected != manifest.layers:
        raise ArtifactError(f"{place.label}: layer {expected} is missing", subject=place.label)


_VERIFIED: Final = VerifiedFiles()


class _FileReader:
    """Fetches the parts of one file into one buffer, in order, from the moment it is made."""

    def __init__(self, place: MemoryPlace, manifest: Manifest, file: StoredFile, pool: ThreadPoolExecutor) -> None:
        self.file = file
        self._manifest, self._label = manifest, f"{place.label}/{file.name}"
        parts = -(-file.size // manifest.part_bytes)
        if parts != len(file.digests):
            raise ArtifactError(f"{self._label}: {len(file.digests)} digests for {parts} parts", subject=self._label)
        self._bytes = place.open(file.name, file.size)
        self._trusted = _VERIFIED.knows(self._bytes.state, file.digests)
        self._parts: list[Future[None]] = [pool.submit(self._fetch, number) for number in range(parts)]
        self._arrived = 0
        self._places: dict[str, Place] = {}

    def layer(self, layer: int) -> tuple[Tensor, Tensor, torch.dtype]:
        """Wait for a layer and return its keys and values as stored or restored."""
        keys, values = self._tensor(f"layers.{layer}.k"), self._tensor(f"layers.{layer}.v")
        if self._manifest.quantisation == "int8":
            dtype = self._manifest.torch_dtype
            keys = restore(Quantised(keys, self._tensor(f"layers.{layer}.k_scale")), dtype)
            values = restore(Quantised(values, self._tensor(f"layers.{layer}.v_scale")), dtype)
        shape = (self._manifest.kv_heads, self._manifest.cells, self._manifest.head_dim)
        if keys.shape != shape or values.shape != shape:
            raise ArtifactError(
                f"{self._label}: layer {layer} has keys {tuple(keys.shape)} and values {tuple(values.shape)}, "
                f"{MANIFEST_NAME} says {shape}",
                subject=self._label,
            )
        return keys, values, keys.dtype

    def _tensor(self, name: str) -> Tensor:
        if not self._places:
            self._places = self._header()
        place = self._places.get(name)
        if place is None:
            raise ArtifactError(f"{self._label} has no tensor {name!r}", subject=self._label)
        self._wait(place.end)
        return view(self._bytes.buffer, place)

    def _header(self) -> dict[str, Place]:
        self._wait(min(8, self.file.size))
        data = self._bytes.buffer.numpy().data
        self._wait(min(8 + int.from_bytes(data[:8], "little"), self.file.size))
        return parse_header(data, self.file.size, self._label)

    def _wait(self, end: int) -> None:
        """Return once all bytes before ``end`` are here."""
        needed = -(-end // self._manifest.part_bytes)
        while self._arrived < needed:
            self._parts[self._arrived].result()
            self._arrived += 1
        if self._arrived == len(self._parts) and not self._trusted and self._bytes.unchanged():
            self._trusted = True
            _VERIFIED.add(self._bytes.state, self.file.digests)

    def _fetch(self, number: int) -> None:
        from blake3 import blake3

        start = number * self._manifest.part_bytes
        end = min(start + self._manifest.part_bytes, self.file.size)
        self._bytes.fetch(start, end)
        if self._trusted:
            return
        if blake3(self._bytes.buffer.numpy().data[start:end]).hexdigest() != self.file.digests[number]:
            raise ArtifactError(f"{self._label} is damaged in bytes {start} to {end}", subject=self._label)


def _on(device: torch.device, dtype: torch.dtype, layer: tuple[Tensor, Tensor, torch.dtype]) -> LayerCells:
    keys, values, stored = layer
    if device.type == "cpu" and dtype == stored:
        return LayerCells(keys, values)
    return LayerCells(keys.to(device, dtype), values.to(device, dtype))


__all__ = ["load_memory", "read_manifest", "stream_layers"]
