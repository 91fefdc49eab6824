"""Small corpora that the tests of retrieval share, written for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import numpy as np

from lightrag.models import HashingEmbedder
from lightrag.models.base import Embedder
from lightrag.retrieval.index import CorpusIndex, build_index, search_text
from lightrag.types import Chunk, CorpusVersion, MetadataValue

VERSION = CorpusVersion("default", "lakes", 1)

LAKES = {
    "Lake Orra": "Lake Orra lies in the north. Its only outflow is the river Selm, which leaves it near Tolvik.",
    "Selm": "The Selm is a river. It passes three mills and reaches the sea at Port Brannoch.",
    "Port Brannoch": "Port Brannoch is a harbour town. Its lighthouse was built by Ada Lindqvist.",
    "Ada Lindqvist": "Ada Lindqvist was an engineer who also drew maps of the northern coast.",
    "Bread": "Bread is baked from flour, water and salt. Sourdough needs a day to rise.",
    "Bicycles": "A bicycle has two wheels. Cleaning the chain every month keeps it quiet.",
}


def chunk(
    identity: str,
    text: str,
    *,
    document: str = "",
    ordinal: int = 0,
    title: str = "",
    language: str = "en",
    metadata: dict[str, MetadataValue] | None = None,
) -> Chunk:
    """A chunk whose length is its number of words."""
    return Chunk(
        identity,
        document or identity,
        ordinal,
        text,
        0,
        len(text),
        tokens=len(text.split()),
        title=title,
        source=f"{document or identity}.txt",
        language=language,
        metadata=metadata or {},
    )


def lakes() -> list[Chunk]:
    """Six one-passage documents, four of which lead to each other by name."""
    return [
        chunk(f"c{number}", text, title=title, metadata={"year": 2000 + number})
        for number, (title, text) in enumerate(LAKES.items())
    ]


def index_of(chunks: Sequence[Chunk], embedder: Embedder | None = None, **options: object) -> CorpusIndex:
    """Index chunks with hashed words as vectors."""
    embedder = embedder or HashingEmbedder()
    # In a thread of its own, so that asynchronous tests can call it too.
    with ThreadPoolExecutor(1) as pool:
        vectors = pool.submit(lambda: asyncio.run(embedder.embed([search_text(one) for one in chunks]))).result()
    return build_index(
        chunks,
        np.reshape(vectors, (len(chunks), embedder.dimension)),
        embedder=embedder.fingerprint,
        languages=embedder.languages,
        **options,  # type: ignore[arg-type]  # passed through as given by a test
    )


def leasing(index: CorpusIndex) -> Callable[[CorpusVersion], AbstractAsyncContextManager[CorpusIndex]]:
    """A provider that leases this index for every version."""

    @asynccontextmanager
    async def lease(_: CorpusVersion) -> AsyncIterator[CorpusIndex]:
        yield index

    return lease
