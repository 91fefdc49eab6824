"""Qdrant's engine in process: one shard in one folder per scope.

Shards are opened on demand and the least recently used ones closed. One process owns a folder; within the process all
users of a folder share one store. The engine's own write-ahead log is off: the history is the log, and the watermark
beside a shard only moves after a flush, so whatever a crash loses is derived again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.types import Scope
from lightrag.conversation.vectors.base import (
    FLOAT_FIELDS,
    INTEGER_FIELDS,
    KEYWORD_FIELDS,
    Choice,
    Origin,
    StoredVectors,
    VectorDelta,
    VectorHit,
)
from lightrag.conversation.vectors.conditions import edge_dialect, to_filter
from lightrag.errors import BackendError, ConfigurationError

OPEN_SHARDS = 64
FLUSH_AFTER = 512
"""Points written before a flush, which takes tens of milliseconds; a crash costs embedding at most these again."""
INDEX_FROM = 1000
"""Items from which a shard gets payload indexes: fourteen take 0.2 s and 0.8 MB, and few items are filtered as fast
without."""
_BATCH = 1000


@dataclass(slots=True)
class _Shard:
    engine: Any
    folder: Path
    flushed: int
    """The watermark on disk."""
    watermark: int
    pending: int = 0
    users: int = 0
    payload_indexed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)


class EdgeVectorStore:
    """Vectors in local folders. Use :meth:`open`; every opener calls :meth:`close` once."""

    _shared: ClassVar[dict[Path, EdgeVectorStore]] = {}
    _registry: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path, origin: Origin, lock: IO[str], open_shards: int = OPEN_SHARDS) -> None:
        self._folder = folder
        self._origin = origin
        self._file = lock
        self._limit = open_shards
        self._openers = 1
        self._lock = threading.RLock()
        self._shards: OrderedDict[str, _Shard] = OrderedDict()

    @classmethod
    def open(cls, path: str | os.PathLike[str], origin: Origin, *, open_shards: int = OPEN_SHARDS) -> EdgeVectorStore:
        """Open a folder, or join the store that this process has opened there.

        Raises:
            ConfigurationError: another process holds the folder, or this process uses it with another history or
                embedder.
        """
        folder = Path(path).expanduser().absolute()
        with cls._registry:
            shared = cls._shared.get(folder)
            if shared is not None:
                if shared._origin != origin:
                    raise ConfigurationError(
                        f"the vectors in {str(folder)!r} are in use with another history or embedder in this process: "
                        "use one history and one embedder per path",
                        subject=str(folder),
                    )
                shared._openers += 1
                return shared
            store = cls(folder, origin, _take(folder), open_shards)
            cls._shared[folder] = store
            return store

    def watermark(self, scope: Scope) -> int:
        """See :class:`VectorStore`."""
        with self._use(scope) as shard:
            return shard.watermark

    def apply(self, scope: Scope, delta: VectorDelta, watermark: int) -> None:
        """See :class:`VectorStore`."""
        import qdrant_edge as qdrant

        change = qdrant.UpdateOperation
        with self._use(scope) as shard, shard.lock, _failing(scope):
            for start in range(0, len(delta.points), _BATCH):
                made = [
                    qdrant.Point(id=point.item, vector=point.vector.tolist(), payload=dict(point.payload))
                    for point in delta.points[start : start + _BATCH]
                ]
                shard.engine.update(change.upsert_points(made))
            for item, payload in delta.payloads.items():
                shard.engine.update(change.overwrite_payload([item], dict(payload)))
            if delta.removed:
                shard.engine.update(change.delete_points(list(delta.removed)))
            if not shard.payload_indexed and shard.engine.info().points_count >= INDEX_FROM:
                for name, schema in _schemas().items():
                    shard.engine.update(change.create_field_index(name, schema))
                shard.payload_indexed = True
            shard.watermark = max(shard.watermark, watermark)
            shard.pending += len(delta.points) + len(delta.payloads) + len(delta.removed)
            if shard.pending >= FLUSH_AFTER:
                self._flush(shard)

    def search(
        self, scope: Scope, vector: NDArray[np.float32], limit: int, choice: Choice | None = None
    ) -> list[VectorHit]:
        """See :class:`VectorStore`."""
        import qdrant_edge as qdrant

        query = qdrant.Query.Nearest(vector.tolist())
        request = qdrant.QueryRequest(limit=limit, query=query, filter=_filter(choice or Choice()))
        with self._use(scope) as shard, _failing(scope):
            found = shard.engine.query(request)
        return [VectorHit(int(point.id), float(point.score)) for point in found]

    def present(self, scope: Scope, items: Sequence[int]) -> set[int]:
        """See :class:`VectorStore`."""
        if not items:
            return set()
        with self._use(scope) as shard, _failing(scope):
            records = shard.engine.retrieve(list(items), with_payload=False, with_vector=False)
        return {int(record.id) for record in records}

    def vectors(self, scope: Scope) -> StoredVectors:
        """See :class:`VectorStore`."""
        import qdrant_edge as qdrant

        items: list[int] = []
        rows: list[Any] = []
        offset: Any = None
        with self._use(scope) as shard, _failing(scope):
            while True:
                request = qdrant.ScrollRequest(offset=offset, limit=_BATCH, with_vector=True, with_payload=False)
                records, offset = shard.engine.scroll(request)
                items += [int(record.id) for record in records]
                rows.append(np.array([record.vector for record in records], dtype=np.float32))
                if offset is None:
                    break
        matrix = np.concatenate([part for part in rows if len(part)] or [np.zeros((0, self._origin.dimension))])
        return StoredVectors(np.array(items, dtype=np.int64), matrix.astype(np.float32, copy=False))

    def count(self, scope: Scope) -> int:
        """See :class:`VectorStore`."""
        with self._use(scope) as shard:
            return int(shard.engine.info().points_count)

    def drop(self, scope: Scope) -> None:
        """See :class:`VectorStore`."""
        with self._lock:
            shard = self._shards.pop(scope.key, None)
            if shard is not None:
                shard.engine.close()
            shutil.rmtree(self._folder_of(scope), ignore_errors=True)

    def close(self) -> None:
        """Flush; the last opener closes the shards and frees the folder for other processes, whatever happens.

        Raises:
            BackendError: something could not be written; it is made again from the history.
        """
        with self._registry:
            self._openers -= 1
            last = self._openers == 0
            if last:
                self._shared.pop(self._folder, None)
        with self._lock, ExitStack() as ending:
            if last:
                ending.callback(self._file.close)
                ending.callback(self._shards.clear)
            for shard in self._shards.values():
                if last:
                    ending.callback(shard.engine.close)
                ending.callback(self._flush, shard)

    # --- Shards -------------------------------------------------------------------------------------------------------

    def _folder_of(self, scope: Scope) -> Path:
        return self._folder / scope.tenant / scope.key

    @contextmanager
    def _use(self, scope: Scope) -> Iterator[_Shard]:
        with self._lock:
            shard = self._shards.get(scope.key)
            if shard is None:
                with _failing(scope):
                    shard = self._shards[scope.key] = self._open_shard(self._folder_of(scope))
            self._shards.move_to_end(scope.key)
            shard.users += 1
            self._evict()
        try:
            yield shard
        finally:
            with self._lock:
                shard.users -= 1

    def _evict(self) -> None:
        idle = [key for key, shard in self._shards.items() if shard.users == 0]
        for key in idle[: max(0, len(self._shards) - self._limit)]:
            shard = self._shards.pop(key)
            self._flush(shard)
            shard.engine.close()

    def _open_shard(self, folder: Path) -> _Shard:
        import qdrant_edge as qdrant

        mark = _read_mark(folder, self._origin)
        if mark:
            engine = qdrant.EdgeShard.load(str(folder / "shard"))
            return _Shard(engine, folder, mark, mark, payload_indexed=bool(engine.info().payload_schema))
        # Never finished, or derived from something else: start again from the history.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        engine = qdrant.EdgeShard.create(str(folder / "shard"), _config(self._origin.dimension))
        return _Shard(engine, folder, 0, 0)

    def _flush(self, shard: _Shard) -> None:
        with shard.lock, _failing(shard.folder):
            if shard.flushed == shard.watermark and not shard.pending:
                return
            shard.engine.flush()
            shard.pending, shard.flushed = 0, shard.watermark
            content = {"revision": shard.flushed, **self._origin._asdict()}
            temporary = shard.folder / "watermark.tmp"
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(shard.folder / "watermark.json")


def _cause(error: Exception) -> str:
    full = "No space left" in str(error)
    return f"{error}; free space, and what is missing is made again" if full else str(error)


def _filter(choice: Choice) -> Any:
    import qdrant_edge as qdrant

    if choice.only is None and not choice.excluded:
        return None if choice.condition is None else to_filter(choice.condition, edge_dialect())
    must = [] if choice.condition is None else [to_filter(choice.condition, edge_dialect())]
    if choice.only is not None:
        must.append(qdrant.HasIdCondition(set(choice.only)))
    barred: list[Any] = [qdrant.HasIdCondition(set(choice.excluded))] if choice.excluded else []
    return qdrant.Filter(must=must, must_not=barred)


def _take(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "owner.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the folder of the vectors {str(folder)!r} cannot be written to: {error.strerror}; set the path of "
            "embedding_retriever to one that can",
            subject=str(folder),
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigurationError(
            f"the vectors in {str(folder)!r} are in use by another process: give this one its own path, or use a "
            "Qdrant server for both (embedding_retriever configs 'url' or 'host')",
            subject=str(folder),
        ) from error
    return lock


def _read_mark(folder: Path, origin: Origin) -> int:
    try:
        content = json.loads((folder / "watermark.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return 0
    known = Origin(content.get("history", ""), content.get("embedder", ""), content.get("dimension", 0))
    return int(content["revision"]) if known == origin else 0


def _config(dimension: int) -> Any:
    import qdrant_edge as qdrant

    # Eight bits per component: scores differ by less than 0.001, at a third of the time and a quarter of the space.
    vectors = qdrant.EdgeVectorParams(
        size=dimension, distance=qdrant.Distance.Dot, datatype=qdrant.VectorStorageDatatype.Turbo8
    )
    return qdrant.EdgeConfig(vectors=vectors, wal_enabled=False, max_search_threads=1)


def _schemas() -> dict[str, Any]:
    import qdrant_edge as qdrant

    integers = {name: qdrant.IntegerIndexParams(lookup=False, range=True) for name in INTEGER_FIELDS}
    keywords = dict.fromkeys(KEYWORD_FIELDS, qdrant.PayloadSchemaType.Keyword)
    floats = dict.fromkeys(FLOAT_FIELDS, qdrant.PayloadSchemaType.Float)
    return {**integers, **keywords, **floats}


@contextmanager
def _failing(place: Scope | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(
            f"the vector store of {place} failed: {_cause(error)}", subject=str(place), retryable=True
        ) from error
    except Exception as error:
        # The engine's binding raises plain Exception for everything; ours pass through.
        if type(error) is not Exception:
            raise
        raise BackendError(
            f"the vector store of {place} failed: {_cause(error)}", subject=str(place), retryable=True
        ) from error


__all__ = ["EdgeVectorStore"]
