"""Structures of the dense index, chosen by the number of vectors, and how each is searched within a filter.

Times are of one core with AVX-512 over 384 numbers a vector: ``python -m tests.benchmarks.index_scale``.

- ``flat`` compares a question with everything. It is exact and costs nothing to build.
- ``hnsw`` walks a graph of neighbours (Malkov and Yashunin 2018). It keeps the vectors as they are and needs no
  training, but building takes longer than everything else in a commit together once there are many vectors.
- ``ivf`` sorts vectors into lists by their nearest centre and looks into the lists nearest to the question (Jegou et
  al. 2011, section 4), with one byte a number. It is trained on a sample and built in shards, which are merged.
  Product quantisation would be four to eight times smaller still; but then similarities, from which evidence is
  computed, are off by several hundredths, and recall@10 stays below 0.95 without the vectors beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, Literal

import numpy as np

from lightrag.models.base import FloatMatrix
from lightrag.retrieval.columns import Mask

IndexKind = Literal["flat", "hnsw", "ivf"]

FLAT_LIMIT: Final = 100_000
"""Vectors up to which every one is looked at: 150 MB, read in about 15 ms."""
HNSW_LIMIT: Final = 300_000
"""Vectors up to which a graph is built: about two minutes and 550 MB; lists take seconds and a fourth of that."""

NEIGHBOURS: Final = 16
"""Of each vector in the graph, twice as many in its lowest layer."""
BUILD_BREADTH: Final = 100
SEARCH_BREADTH: Final = 128
"""Candidates kept while searching the graph; recall@10 is 0.99 and more."""

LISTS_PER_ROOT: Final = 2.0
"""Lists per square root of the vectors: finding the lists then costs about as much as looking into them."""
PROBED_SHARE: Final = 0.06
"""Of the lists, how many are looked into."""
LEAST_PROBED: Final = 32
SAMPLE_PER_LIST: Final = 40
"""Vectors that a list's centre is computed from, FAISS's own lower bound."""
TRAINING_ROUNDS: Final = 10
SHARD: Final = 250_000
"""Vectors of one shard: what is encoded at a time."""

_SEED: Final = 1234


def choose_kind(passages: int) -> IndexKind:
    """The structure for so many vectors."""
    if passages <= FLAT_LIMIT:
        return "flat"
    return "hnsw" if passages <= HNSW_LIMIT else "ivf"


def build_structure(vectors: FloatMatrix, kind: IndexKind) -> Any:
    """Make FAISS's index of unit vectors, shape (passages, dimension)."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if kind == "ivf" and len(vectors):
        lists = train_lists(sample_of(vectors), len(vectors))
        return merge_shards(lists, (fill_shard(lists, part) for part in _parts(vectors)))
    index = _graph(vectors.shape[1]) if kind == "hnsw" else faiss().IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def sample_of(vectors: FloatMatrix) -> FloatMatrix:
    """What the lists of these vectors are trained on: rows from all over them, the same ones every time."""
    wanted = min(len(vectors), SAMPLE_PER_LIST * lists_for(len(vectors)))
    return vectors[np.sort(np.random.default_rng(_SEED).choice(len(vectors), wanted, replace=False))]


def lists_for(passages: int) -> int:
    """Number of lists for so many vectors."""
    return max(1, round(LISTS_PER_ROOT * passages**0.5))


def train_lists(sample: FloatMatrix, passages: int) -> Any:
    """Empty lists for ``passages`` vectors, with centres learned from a sample of them, shape (sample, dimension)."""
    library = faiss()
    lists = min(lists_for(passages), len(sample))
    index = library.index_factory(sample.shape[1], f"IVF{lists},SQ8", library.METRIC_INNER_PRODUCT)
    index.cp.spherical = True  # centres of unit vectors are compared by direction
    index.cp.niter = TRAINING_ROUNDS
    index.cp.seed = _SEED
    index.cp.min_points_per_centroid = 1  # small ones are asked for in tests and are no reason to warn
    index.train(np.ascontiguousarray(sample, dtype=np.float32))
    index.nprobe = min(lists, max(LEAST_PROBED, round(PROBED_SHARE * lists)))
    return index


def fill_shard(lists: Any, vectors: FloatMatrix) -> Any:
    """Sort some vectors into a copy of empty lists; any process may do it."""
    shard = faiss().clone_index(lists)
    shard.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return shard


def merge_shards(lists: Any, shards: Iterator[Any]) -> Any:
    """Put shards together, numbering their vectors in the order in which they come."""
    whole = faiss().clone_index(lists)
    for shard in shards:
        whole.merge_from(shard, whole.ntotal)
    whole.set_direct_map_type(faiss().DirectMap.Array)  # finds vectors by their row
    return whole


def search_structure(index: Any, questions: FloatMatrix, depth: int, mask: Mask | None) -> tuple[Any, Any]:
    """Scores and rows of the nearest allowed vectors, each of shape (questions, depth); missing rows are -1.

    A filter lets a structure look further, in proportion to what it hides, until it looks at everything: what is
    allowed and near is found however rare it is.
    """
    library = faiss()
    selector, share = None, 1.0
    if mask is not None:
        bits = np.packbits(mask, bitorder="little")  # has to live as long as the search
        selector, share = library.IDSelectorBitmap(bits), float(mask.mean())
    if isinstance(index, library.IndexHNSW):
        breadth = max(SEARCH_BREADTH, depth) / max(share, 1e-9)
        if breadth > index.ntotal * _GRAPH_SHARE:
            index = library.downcast_index(index.storage)
            parameters = library.SearchParameters(sel=selector)
        else:
            parameters = library.SearchParametersHNSW(sel=selector, efSearch=round(breadth))
    elif isinstance(index, library.IndexIVF):
        probed = min(index.nlist, index.nprobe / max(share, 1e-9))
        parameters = library.SearchParametersIVF(sel=selector, nprobe=round(probed))
    else:
        parameters = library.SearchParameters(sel=selector)
    scores, rows = index.search(np.ascontiguousarray(questions, np.float32), depth, params=parameters)
    return scores, rows


_GRAPH_SHARE: Final = 0.01
"""Part of all vectors that a walk may keep as candidates; beyond it, looking at all that is allowed costs less."""


def kind_of(index: Any) -> IndexKind:
    """What a structure is."""
    library = faiss()
    if isinstance(index, library.IndexHNSW):
        return "hnsw"
    return "ivf" if isinstance(index, library.IndexIVF) else "flat"


def bytes_of(index: Any) -> int:
    """Bytes of memory that a structure takes."""
    count = int(index.ntotal)
    match kind_of(index):
        case "hnsw":
            return count * (4 * int(index.d) + 4 * 2 * NEIGHBOURS)
        case "ivf":
            numbers = 8 + 8  # of each vector in its list, and of its place
            return count * (int(index.sa_code_size()) + numbers) + 4 * int(index.nlist) * int(index.d)
        case "flat":
            return count * 4 * int(index.d)


def faiss() -> Any:
    """The library: loaded on first use, and without its type stubs, which describe the C++ side of its calls."""
    return import_module("faiss")


def _graph(dimension: int) -> Any:
    library = faiss()
    index = library.IndexHNSWFlat(dimension, NEIGHBOURS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_BREADTH
    index.hnsw.efSearch = SEARCH_BREADTH
    return index


def _parts(vectors: FloatMatrix) -> Iterator[FloatMatrix]:
    for start in range(0, len(vectors), SHARD):
        yield vectors[start : start + SHARD]


__all__ = [
    "FLAT_LIMIT",
    "HNSW_LIMIT",
    "SHARD",
    "IndexKind",
    "build_structure",
    "bytes_of",
    "choose_kind",
    "fill_shard",
    "kind_of",
    "merge_shards",
    "sample_of",
    "search_structure",
    "train_lists",
]
