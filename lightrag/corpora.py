"""Corpus versions in memory: loaded from storage when first needed, kept within a byte budget, shared by all requests.

Knows how a version's files become one searchable value; knows nothing of what is asked of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lightrag.errors import NotFoundError
from lightrag.retrieval.index import CorpusIndex
from lightrag.retrieval.vector_codes import CODES_FILE
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.objects import ObjectStore
from lightrag.storage.residency import Key, Loaded, Residency
from lightrag.storage.tables import gists_from_table, read_table
from lightrag.storage.transfer import parallel
from lightrag.types import CorpusVersion, Gist


@dataclass(frozen=True, slots=True)
class LoadedCorpus:
    """One version of a corpus, ready to be searched and recalled from. Immutable."""

    version: CorpusVersion
    index: CorpusIndex
    gists: tuple[Gist, ...]
    """All levels; empty where the corpus was ingested without."""
    language: str
    """Language of most chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.index.nbytes + sum(2 * len(gist.text) + 400 for gist in self.gists)


class Corpora:
    """Leases loaded corpus versions.

    Args:
        store: where the corpora are.
        budget_bytes: memory that loaded versions may take together.
        share: of that, what a tenant may fill at the cost of others.
    """

    def __init__(self, store: ObjectStore, *, budget_bytes: int, share: float = 1.0) -> None:
        self._store = store
        self._residency: Residency[LoadedCorpus] = Residency(
            self._load, capacity=budget_bytes, tenant_quota=max(1, int(share * budget_bytes))
        )

    @property
    def residency(self) -> Residency[LoadedCorpus]:
        """What is loaded, for metrics."""
        return self._residency

    @asynccontextmanager
    async def lease(self, version: CorpusVersion) -> AsyncIterator[LoadedCorpus]:
        """Hold a version in memory; it is loaded once, however many requests wait for it.

        Raises:
            NotFoundError: the version does not exist, or was never indexed.
            ArtifactError: a file of it is damaged.
        """
        async with self._residency.lease(_key(version)) as corpus:
            yield corpus

    async def hold(self, version: CorpusVersion) -> None:
        """Load a version before anybody needs it. Raises as :meth:`lease`."""
        async with self.lease(version):
            pass

    @asynccontextmanager
    async def index(self, version: CorpusVersion) -> AsyncIterator[CorpusIndex]:
        """Hold a version's index in memory. Raises as :meth:`lease`."""
        async with self._residency.lease(_key(version)) as corpus:
            yield corpus.index

    async def _load(self, key: Key) -> Loaded[LoadedCorpus]:
        corpus, _, version = key.name.rpartition("@")
        loaded = await asyncio.to_thread(load_corpus, self._store, CorpusVersion(key.tenant, corpus, int(version)))
        return Loaded(loaded, loaded.nbytes)


def _key(version: CorpusVersion) -> Key:
    return Key(version.tenant, f"{version.corpus}@{version.version}")


def load_corpus(store: ObjectStore, version: CorpusVersion) -> LoadedCorpus:
    """Read a version from storage into memory, every byte verified. Raises as :meth:`Corpora.lease`."""
    log = CorpusLog(store, version.corpus_id)
    commit = log.read(version.version)
    entries = log.files(commit, "index")
    if not entries:
        raise NotFoundError(f"{version} has no index: ingest documents into it", subject=str(version))
    index = _load_index(log, entries)
    gists = tuple(gist for entry in log.files(commit, "gists") for gist in gists_from_table(read_table(log, entry)))
    languages = Counter(chunk.language for chunk in index.chunks)
    language = languages.most_common(1)[0][0] if languages else "und"
    return LoadedCorpus(version, index, gists, language)


def _load_index(log: CorpusLog, entries: Sequence[FileEntry]) -> CorpusIndex:
    # Names are ``{index id}/{file}``; a version has one index.
    named = {entry.name.rsplit("/", 1)[-1]: entry for entry in entries}
    beside = named.pop(CODES_FILE, None)
    files = dict(zip(named, parallel(log.read_file, named.values()), strict=True))
    if beside is None:
        return CorpusIndex.load(files)
    with TemporaryDirectory(prefix="lightrag-codes-") as folder:
        codes = Path(folder) / CODES_FILE
        log.fetch_to(beside, codes)
        return CorpusIndex.load(files, codes)


__all__ = ["Corpora", "LoadedCorpus", "load_corpus"]
