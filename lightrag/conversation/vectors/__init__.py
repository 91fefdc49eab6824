"""Where vectors of memories are kept: Qdrant in process, or a Qdrant server. One interface, the same results."""

from lightrag.conversation.vectors.base import (
    Choice,
    Origin,
    StoredVectors,
    VectorDelta,
    VectorHit,
    VectorPoint,
    VectorStore,
)

__all__ = ["Choice", "Origin", "StoredVectors", "VectorDelta", "VectorHit", "VectorPoint", "VectorStore"]
