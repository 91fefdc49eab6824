"""How an inference engine in another process is told which stored memory a prompt stands behind.

Knows nothing of any engine. What goes over is small JSON: a path below a root that only the engine's own configuration
sets, so a request can never make an engine read anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lightrag.errors import ConfigurationError, UsageError
from lightrag.memory.artifact.manifest import Manifest

_KEY: Final = "lightrag_memory"


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """A memory in the engine's object store; satisfies :class:`~lightrag.models.base.EngineMemory`."""

    prefix: str
    """Its folder below the engine's root."""
    cells: int
    fingerprint: str
    """Of its content; see :class:`~lightrag.memory.artifact.manifest.Manifest`."""
    owner: str
    """``tenant/corpus@version``; separates prefix caches."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Object path of each file where they are not below ``prefix``, as in a corpus version."""

    @classmethod
    def of(cls, manifest: Manifest, prefix: str, *, owner: str, paths: Mapping[str, str] | None = None) -> StoredMemory:
        """Describe a stored memory by its manifest."""
        return cls(prefix, manifest.cells, manifest.fingerprint, owner, dict(paths or {}))

    @property
    def cache_salt(self) -> str:
        """Differs for every tenant, corpus version and memory, so placeholder tokens never meet in a prefix cache."""
        return f"{self.owner}#{self.fingerprint}"

    @property
    def kv_transfer_params(self) -> dict[str, Any]:
        """What the connector needs, as JSON values."""
        place = {"prefix": self.prefix, "cells": self.cells, "fingerprint": self.fingerprint, "owner": self.owner}
        return {_KEY: place | {"paths": dict(self.paths)}}

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None) -> StoredMemory | None:
        """Read what :attr:`kv_transfer_params` wrote; ``None`` where a request has no memory.

        Raises:
            UsageError: the description is not one.
        """
        place = (params or {}).get(_KEY)
        if place is None:
            return None
        try:
            memory = cls(
                str(place["prefix"]),
                int(place["cells"]),
                str(place["fingerprint"]),
                str(place["owner"]),
                {str(name): str(path) for name, path in place.get("paths", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"kv_transfer_params do not describe a memory: {place!r}") from error
        for path in (memory.prefix, *memory.paths.values()):
            if path.startswith("/") or ".." in path.split("/"):
                raise UsageError(f"memory path {path!r} must stay below the engine's root", subject=path)
        return memory


def heads_of_rank(kv_heads: int, rank: int, ranks: int) -> slice:
    """Return which key-value heads a tensor-parallel rank holds: its share, or a replica where ranks outnumber heads.

    Raises:
        ConfigurationError: the heads cannot be divided over the ranks.
    """
    if kv_heads % ranks and ranks % kv_heads:
        raise ConfigurationError(f"{kv_heads} key-value heads cannot be divided over {ranks} tensor-parallel ranks")
    share = max(kv_heads // ranks, 1)
    first = rank * share if kv_heads >= ranks else rank // (ranks // kv_heads)
    return slice(first, first + share)


__all__ = ["StoredMemory", "heads_of_rank"]
