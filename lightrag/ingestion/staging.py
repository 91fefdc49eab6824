"""Results that wait for their commit, so that a killed job goes on where it was.

Every batch of documents that has passed a stage is one object, named after the keys of what is in it, and written only
once the stage has succeeded. So an object in staging is a promise kept: whoever finds a document's key there need not
do that stage again, whichever job put it there, and writing one twice changes nothing. What is never taken up again
goes with the next vacuum of the corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from blake3 import blake3

from lightrag.errors import ArtifactError, DataError, NotFoundError
from lightrag.ingestion.group_units import GroupReceipt
from lightrag.ingestion.parquet_rows import open_parquet
from lightrag.ingestion.recipe import StageKeys
from lightrag.ingestion.states import DocumentState, StageName, decode, encode
from lightrag.storage.groups import GroupRole
from lightrag.storage.layout import Layout
from lightrag.storage.objects import ObjectStore
from lightrag.storage.transfer import parallel
from lightrag.types import CorpusId

STAGES: Final[tuple[StageName, ...]] = ("read", "embed", "gist")


class Staged(NamedTuple):
    """Where a document waits, and how far it has come."""

    stage: StageName
    path: str


class Staging:
    """The staging area of one corpus in its object store."""

    def __init__(self, store: ObjectStore, corpus: CorpusId) -> None:
        self._store = store
        self._folder = f"{Layout(corpus).root}/staging"

    def put(self, stage: StageName, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Store a batch that has passed a stage; returns it with the place noted.

        Raises:
            BackendError: the store failed, for example because it is full; nothing is visible.
        """
        keys = "\n".join(getattr(state.keys, stage) for state in states)
        path = f"{self._folder}/{stage}/{blake3(keys.encode()).hexdigest(16)}.parquet"
        states = [replace(state, staged=(*state.staged, path)) for state in states]
        table = encode([replace(state, seconds={}) for state in states])
        sink = pa.BufferOutputStream()
        # Vectors are noise to a compressor and dictionaries never repay themselves for rows that are read once.
        compression = {name: "none" if name == "vectors" else "lz4" for name in table.column_names}
        pq.write_table(table, sink, compression=compression, use_dictionary=False, write_statistics=False)
        self._store.put(path, memoryview(sink.getvalue()).cast("B"))
        return states

    def load(self, path: str, document_ids: frozenset[str] | None = None) -> list[DocumentState]:
        """Read a batch back, or some documents of it.

        Raises:
            NotFoundError: it is not there any more: another job has committed it.
            ArtifactError: it is damaged.
        """
        states = decode(self._whole(path))
        return [state for state in states if document_ids is None or state.document_id in document_ids]

    def rows(
        self, path: str, document_ids: frozenset[str] | None = None, *, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read rows of a batch as they are stored, all or some columns of all or some documents.

        Raises:
            NotFoundError: it is not there any more: another job has committed it.
            ArtifactError: it is damaged.
        """
        if columns is None:
            found = self._whole(path)
        else:
            try:
                with open_parquet(self._store, path) as file:
                    found = file.read(columns=list(columns))
            except (DataError, pa.ArrowException) as error:
                raise ArtifactError(f"staged object {path!r} is damaged: {error}", subject=path) from error
        if document_ids is None:
            return found
        return found.filter(pc.is_in(found["document_id"], value_set=pa.array(document_ids, pa.string())))

    def _whole(self, path: str) -> pa.Table:
        try:
            return pq.read_table(pa.BufferReader(self._store.get(path)))
        except pa.ArrowException as error:
            raise ArtifactError(f"staged object {path!r} is damaged: {error}", subject=path) from error

    def find(self, wanted: Mapping[str, StageKeys]) -> dict[str, Staged]:
        """Tell how far documents have come.

        Args:
            wanted: for every document, the keys that its results have to have.

        Returns:
            Documents that wait in staging, each with the last stage that it has passed.
        """
        found: dict[str, Staged] = {}
        for stage in STAGES:
            for path in self._paths(stage):
                for document_id, key in self._keys(path, stage):
                    if document_id in wanted and getattr(wanted[document_id], stage) == key:
                        found[document_id] = Staged(stage, path)
        return found

    def put_group(self, receipt: GroupReceipt) -> None:
        """Note that a group is encoded, and where its files are.

        Raises:
            BackendError: the store failed.
        """
        self._store.put(self.group_path(receipt.role, receipt.key), receipt.to_json().encode())

    def find_groups(self, role: GroupRole, keys: Collection[str]) -> list[GroupReceipt]:
        """Tell which groups earlier jobs have encoded and not committed."""
        wanted = {self.group_path(role, key) for key in keys}
        paths = [info.path for info in self._store.list(f"{self._folder}/{role}") if info.path in wanted]
        return [receipt for receipt in parallel(self._receipt, paths) if receipt is not None]

    def group_path(self, role: GroupRole, key: str) -> str:
        """Where it is noted that a group is encoded."""
        return f"{self._folder}/{role}/{key}.json"

    def _receipt(self, path: str) -> GroupReceipt | None:
        try:
            return GroupReceipt.from_json(self._store.get(path))
        except (NotFoundError, ValueError, KeyError, TypeError):
            # Another job has committed it just now, or the disk has damaged it: both mean to do it again.
            return None

    def clear(self, paths: Iterable[str]) -> None:
        """Remove what has been committed: batches of documents, notes on groups."""
        self._store.delete(paths)

    def _paths(self, stage: StageName) -> Iterator[str]:
        for info in self._store.list(f"{self._folder}/{stage}"):
            yield info.path

    def _keys(self, path: str, stage: StageName) -> Iterator[tuple[str, str]]:
        try:
            with open_parquet(self._store, path) as file:
                table = file.read(columns=["document_id", f"{stage}_key"])
        except (NotFoundError, DataError):
            # Another job has committed it just now, or the disk has damaged it: both mean to do it again.
            return
        yield from zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)


__all__ = ["STAGES", "Staged", "Staging"]
