"""A Qdrant server: one collection for all scopes, partitioned by a tenant index.

Every request carries the scope as a condition; there is no method without one. A point per scope, which no search can
find, holds the watermark.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.types import Scope
from lightrag.conversation.vectors.base import (
    FLOAT_FIELDS,
    INTEGER_FIELDS,
    KEYWORD_FIELDS,
    Choice,
    Origin,
    PayloadValue,
    StoredVectors,
    VectorDelta,
    VectorHit,
)
from lightrag.conversation.vectors.conditions import client_dialect, to_filter
from lightrag.errors import BackendError, ConfigurationError

_BATCH = 500


class ServerVectorStore:
    """Vectors in one collection of a server, shared by any number of processes."""

    def __init__(self, client: Any, collection: str, origin: Origin) -> None:
        """Use a collection, creating it if need be.

        Args:
            client: a ``qdrant_client.QdrantClient``.
            collection: its name.
            origin: what the vectors are derived from.

        Raises:
            ConfigurationError: the collection holds vectors of another dimension.
            BackendError: the server does not answer.
        """
        self._client = client
        self._collection = collection
        self._origin = origin
        with _failing("the vector store"):
            self._prepare()

    @classmethod
    def connect(cls, collection: str, origin: Origin, **options: Any) -> ServerVectorStore:
        """Connect with the options of ``QdrantClient``: ``url``, ``host``, ``port``, ``api_key``."""
        from qdrant_client import QdrantClient

        with _failing("the vector store"):
            # An outage is reported by the first call as an error; the check would only warn of it, from a thread.
            client = QdrantClient(check_compatibility=False, **options)
        return cls(client, collection, origin)

    def _prepare(self) -> None:
        from qdrant_client import models

        if self._client.collection_exists(self._collection):
            size = self._client.get_collection(self._collection).config.params.vectors.size
            if size != self._origin.dimension:
                raise ConfigurationError(
                    f"collection {self._collection!r} holds vectors of dimension {size}, the embedder makes "
                    f"{self._origin.dimension}: choose another collection_name",
                    subject="collection_name",
                )
            return
        vectors = models.VectorParams(
            size=self._origin.dimension, distance=models.Distance.DOT, datatype=models.Datatype.TURBO8
        )
        # No graph over all tenants: searches are always within one, where the engine builds one per tenant.
        graph = models.HnswConfigDiff(payload_m=16, m=0)
        self._client.create_collection(self._collection, vectors_config=vectors, hnsw_config=graph)
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        self._client.create_payload_index(self._collection, "scope", tenant)
        for names, schema in (
            (INTEGER_FIELDS, models.PayloadSchemaType.INTEGER),
            (KEYWORD_FIELDS, models.PayloadSchemaType.KEYWORD),
            (FLOAT_FIELDS, models.PayloadSchemaType.FLOAT),
        ):
            for name in names:
                self._client.create_payload_index(self._collection, name, schema)

    def watermark(self, scope: Scope) -> int:
        """See :class:`VectorStore`."""
        with _failing(str(scope)):
            found = self._client.retrieve(self._collection, [self._mark_id(scope)], with_payload=True)
        payload = (found[0].payload or {}) if found else {}
        return int(payload.get("revision", 0)) if payload.get("embedder") == self._origin.embedder else 0

    def apply(self, scope: Scope, delta: VectorDelta, watermark: int) -> None:
        """See :class:`VectorStore`."""
        from qdrant_client import models

        with _failing(str(scope)):
            for start in range(0, len(delta.points), _BATCH):
                made = [
                    models.PointStruct(
                        id=self._point_id(scope, point.item),
                        vector=point.vector.tolist(),
                        payload=self._payload(scope, point.item, point.payload),
                    )
                    for point in delta.points[start : start + _BATCH]
                ]
                self._client.upsert(self._collection, made, wait=True)
            for item, payload in delta.payloads.items():
                points = [self._point_id(scope, item)]
                full = self._payload(scope, item, payload)
                self._client.overwrite_payload(self._collection, full, points=points, wait=True)
            if delta.removed:
                ids = [self._point_id(scope, item) for item in delta.removed]
                self._client.delete(self._collection, models.PointIdsList(points=ids), wait=True)
            if watermark > self.watermark(scope):
                unit = [1.0] + [0.0] * (self._origin.dimension - 1)
                payload = {"mark_of": self._partition(scope), "revision": watermark, "embedder": self._origin.embedder}
                mark = models.PointStruct(id=self._mark_id(scope), vector=unit, payload=payload)
                self._client.upsert(self._collection, [mark], wait=True)

    def search(
        self, scope: Scope, vector: NDArray[np.float32], limit: int, choice: Choice | None = None
    ) -> list[VectorHit]:
        """See :class:`VectorStore`."""
        from qdrant_client import models

        # Exact within one user: as in process, and a user's part is small.
        search = models.SearchParams(exact=True)
        with _failing(str(scope)):
            found = self._client.query_points(
                self._collection,
                query=vector.tolist(),
                query_filter=self._filter(scope, choice or Choice()),
                search_params=search,
                limit=limit,
                with_payload=["item"],
            )
        return [VectorHit(int(point.payload["item"]), float(point.score)) for point in found.points]

    def _filter(self, scope: Scope, choice: Choice) -> Any:
        from qdrant_client import models

        must = [self._within(scope)]
        if choice.condition is not None:
            must.append(to_filter(choice.condition, client_dialect()))
        if choice.only is not None:
            must.append(models.HasIdCondition(has_id=[self._point_id(scope, item) for item in choice.only]))
        barred = [models.HasIdCondition(has_id=[self._point_id(scope, item) for item in choice.excluded])]
        return models.Filter(must=must, must_not=barred if choice.excluded else None)

    def present(self, scope: Scope, items: Sequence[int]) -> set[int]:
        """See :class:`VectorStore`."""
        if not items:
            return set()
        ids = [self._point_id(scope, item) for item in items]
        with _failing(str(scope)):
            records = self._client.retrieve(self._collection, ids, with_payload=["item"])
        return {int(record.payload["item"]) for record in records}

    def vectors(self, scope: Scope) -> StoredVectors:
        """See :class:`VectorStore`."""
        from qdrant_client import models

        found: list[tuple[int, Any]] = []
        offset: Any = None
        chosen = models.Filter(must=[self._within(scope)])
        with _failing(str(scope)):
            while True:
                records, offset = self._client.scroll(
                    self._collection, chosen, limit=_BATCH, offset=offset, with_payload=["item"], with_vectors=True
                )
                found += [(int(record.payload["item"]), record.vector) for record in records]
                if offset is None:
                    break
        found.sort(key=lambda pair: pair[0])
        matrix = np.array([vector for _, vector in found], dtype=np.float32).reshape(-1, self._origin.dimension)
        return StoredVectors(np.array([item for item, _ in found], dtype=np.int64), matrix)

    def count(self, scope: Scope) -> int:
        """See :class:`VectorStore`."""
        from qdrant_client import models

        chosen = models.Filter(must=[self._within(scope)])
        with _failing(str(scope)):
            return int(self._client.count(self._collection, chosen, exact=True).count)

    def drop(self, scope: Scope) -> None:
        """See :class:`VectorStore`."""
        from qdrant_client import models

        with _failing(str(scope)):
            self._client.delete(self._collection, models.PointIdsList(points=[self._mark_id(scope)]), wait=True)
            chosen = models.FilterSelector(filter=models.Filter(must=[self._within(scope)]))
            self._client.delete(self._collection, chosen, wait=True)

    def close(self) -> None:
        """See :class:`VectorStore`."""
        self._client.close()

    def _payload(self, scope: Scope, item: int, payload: Mapping[str, PayloadValue]) -> dict[str, PayloadValue]:
        return {**payload, "scope": self._partition(scope), "item": item}

    def _partition(self, scope: Scope) -> str:
        # Several histories may share a server; their users are different people.
        return f"{self._origin.history}/{scope.key}"

    def _within(self, scope: Scope) -> Any:
        from qdrant_client import models

        return models.FieldCondition(key="scope", match=models.MatchValue(value=self._partition(scope)))

    def _point_id(self, scope: Scope, item: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._partition(scope)}/{item}"))

    def _mark_id(self, scope: Scope) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._partition(scope)}/watermark"))


@contextmanager
def _failing(subject: str) -> Iterator[None]:
    from httpx import HTTPError
    from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except (ResponseHandlingException, HTTPError, ConnectionError) as error:
        raise BackendError(f"the Qdrant server did not answer for {subject}: {error}", retryable=True) from error
    except (UnexpectedResponse, ApiException, ValueError) as error:
        raise BackendError(f"the Qdrant server refused the call for {subject}: {error}") from error


__all__ = ["ServerVectorStore"]
