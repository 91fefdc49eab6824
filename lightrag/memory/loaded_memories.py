"""Memories that a process keeps loaded: the least recently used ones give way when their bytes exceed a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict

from lightrag.errors import ArtifactError
from lightrag.memory.artifact.loading import load_memory
from lightrag.memory.artifact.places import StorePlace
from lightrag.memory.engine_memory import StoredMemory
from lightrag.memory.kv_memory import KVMemory, ModelIdentity
from lightrag.storage.objects import ObjectStore


class LoadedMemories:
    """Loads on first use; thread-safe, one load at a time.

    Args:
        store: holds the memories.
        model: which model will read them; memories of others are refused.
        budget: bytes to keep; one memory larger than it is used and not kept.
    """

    def __init__(self, store: ObjectStore, model: ModelIdentity, budget: int) -> None:
        self._store, self._model, self._budget = store, model, budget
        self._kept: OrderedDict[str, KVMemory] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def byte_count(self) -> int:
        """Bytes of the memories kept."""
        return sum(memory.byte_count for memory in self._kept.values())

    def get(self, stored: StoredMemory) -> KVMemory:
        """Return a memory, loaded and verified.

        Raises:
            NotFoundError: there is none in the store.
            ArtifactError: it is damaged, another model made it, or it is not the one that was asked for.
        """
        with self._lock:
            memory = self._kept.get(stored.fingerprint)
            if memory is None:
                place = StorePlace(self._store, stored.prefix, paths=stored.paths)
                memory = load_memory(place, model=self._model)
                if (memory.fingerprint, memory.cells) != (stored.fingerprint, stored.cells):
                    raise ArtifactError(
                        f"{stored.prefix!r} holds memory {memory.fingerprint} of {memory.cells} cells, the request "
                        f"means {stored.fingerprint} of {stored.cells}",
                        subject=stored.prefix,
                    )
                self._kept[stored.fingerprint] = memory
            self._kept.move_to_end(stored.fingerprint)
            while self.byte_count > self._budget and self._kept:
                self._kept.popitem(last=False)
            return memory


__all__ = ["LoadedMemories"]
