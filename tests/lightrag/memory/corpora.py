"""Corpora with KV memories, as the job writes them, made by hand: for tests that need no documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.group_place import GroupPlace
from lightrag.memory.kv_memory import KVMemory
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.groups import GROUP_FILE, DocumentGroup
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId, CorpusVersion


@dataclass(frozen=True)
class Made:
    """One memory of a corpus."""

    key: str
    memory: KVMemory
    routes: Sequence[Sequence[float]] = ()
    language: str = "en"


def write_memory(log: CorpusLog, made: Made) -> tuple[FileEntry, ...]:
    """Write one memory's group; returns its files."""
    place = GroupPlace(log, "memory", made.key)
    save_memory(made.memory, place)
    routes = np.array(made.routes, np.float32).reshape(len(made.routes), -1 if made.routes else 0)
    group = DocumentGroup(made.key, {f"d-{made.key}": "k"}, made.memory.source_tokens, made.language, routes)
    place.write(GROUP_FILE, [group.to_json()])
    return place.entries


def commit_memories(store: ObjectStore, made: Sequence[Made], corpus: str = "harbour") -> CorpusVersion:
    """Commit a version that has these memories and nothing else."""
    log = CorpusLog(store, CorpusId("default", corpus))
    entries = [entry for each in made for entry in write_memory(log, each)]
    return log.commit(log.latest(), add=entries).id
