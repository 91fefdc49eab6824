"""Structures of the dense index, chosen by the number of vectors, and how each is searched within a filter.

Times are of one core with AVX-512 over 384 numbers a vector: ``python -m tests.benchmarks.index_scale``.

- ``flat`` compares a question with everything. It is exact and costs nothing to build.
- ``hnsw`` walks a graph of neighbours (Malkov and Yashunin 2018). It keeps the vectors as they are and needs no
  training, but building takes longer than everything else in a commit together once there are many vectors.
- ``ivf`` sorts vectors into lists by their nearest centre and looks into the lists nearest to the question (Jegou et
  al. 2011, section 4), with one byte a number. It is trained on a sample and built in shards, which are merged.
- ``ivfpq`` has the same lists with product-quantised vectors in them (section 3 there): one byte for four numbers, a
  fourth of the memory. Similarities, from which evidence is computed, would be off by some hundredths; so these only
  find candidates, and what is told of them comes from one byte a number in a file beside the index, which is mapped
  and not held in memory (:mod:`~lightrag.retrieval.vector_codes`).

What four numbers a byte rest on: 20,000 English sentences under the bundled embedder and 500 questions. Similarities
are off by 0.024 (root mean square) and recall@10 is 0.84; with the best of five times as many candidates it is 0.951,
that of ``ivf``, and what is missing then lies in lists that were not looked into. Six numbers a byte need ten
times as many candidates, eight twenty times.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, Literal

import numpy as np

from lightrag.models.base import FloatMatrix
from lightrag.retrieval.columns import Mask

IndexKind = Literal["flat", "hnsw", "ivf", "ivfpq"]
ListKind = Literal["ivf", "ivfpq"]

FLAT_LIMIT: Final = 100_000
"""Vectors up to which every one is looked at: 150 MB, read in about 15 ms."""
HNSW_LIMIT: Final = 300_000
"""Vectors up to which a graph is built: about two minutes and 550 MB; lists take seconds and a fourth of that."""
IVF_LIMIT: Final = 10_000_000
"""Vectors of which one byte a number is held in memory: 4 GB. Beyond, they are product-quantised."""

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
NUMBERS_PER_BYTE: Final = 4
"""Of a product-quantised vector; fewer where the dimension is no multiple."""
CODE_VALUES: Final = 256
"""What a byte of one tells apart."""
SAMPLE_PER_VALUE: Final = 40
"""Vectors that each of these is computed from, again FAISS's own lower bound; 64 find next to nothing more."""
CANDIDATES: Final = 5
"""Times as many as wanted are found by product-quantised vectors, to be compared by better ones."""
LEAST_CANDIDATES: Final = 100
SHARD: Final = 250_000
"""Vectors of one shard: what is encoded at a time."""

_SEED: Final = 1234


def choose_kind(passages: int) -> IndexKind:
    """The structure for so many vectors."""
    if passages <= FLAT_LIMIT:
        return "flat"
    if passages <= HNSW_LIMIT:
        return "hnsw"
    return "ivf" if passages <= IVF_LIMIT else "ivfpq"


def build_structure(vectors: FloatMatrix, kind: IndexKind) -> Any:
    """Make FAISS's index of unit vectors, shape (passages, dimension)."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if (kind == "ivf" or kind == "ivfpq") and len(vectors):
        lists = train_lists(sample_of(vectors, kind), len(vectors), kind)
        return merge_shards(lists, (fill_shard(lists, part) for part in _parts(vectors)))
    index = _graph(vectors.shape[1]) if kind == "hnsw" else faiss().IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def sample_of(vectors: FloatMatrix, kind: ListKind = "ivf") -> FloatMatrix:
    """What lists for these vectors are trained on: rows from all over them, the same ones every time."""
    wanted = SAMPLE_PER_LIST * lists_for(len(vectors))
    if kind == "ivfpq":
        wanted = max(wanted, SAMPLE_PER_VALUE * CODE_VALUES)
    wanted = min(len(vectors), wanted)
    return vectors[np.sort(np.random.default_rng(_SEED).choice(len(vectors), wanted, replace=False))]


def lists_for(passages: int) -> int:
    """Number of lists for so many vectors."""
    return max(1, round(LISTS_PER_ROOT * passages**0.5))


def train_lists(sample: FloatMatrix, passages: int, kind: ListKind = "ivf") -> Any:
    """Empty lists for ``passages`` vectors, with centres learned from a sample of them, shape (sample, dimension).

    GPUs that FAISS sees find the centres; these then differ from those of a CPU in their last digits.
    """
    library = faiss()
    dimension = sample.shape[1]
    lists = min(lists_for(passages), len(sample))
    code = "SQ8" if kind == "ivf" else f"PQ{_code_bytes(dimension)}np"
    index = library.index_factory(dimension, f"IVF{lists},{code}", library.METRIC_INNER_PRODUCT)
    index.cp.spherical = True  # centres of unit vectors are compared by direction
    _set_training(index.cp)
    if kind == "ivfpq":
        _set_training(index.pq.cp)
        index.pq.cp.max_points_per_centroid = SAMPLE_PER_VALUE
        sample = np.resize(sample, (max(len(sample), CODE_VALUES), dimension))  # fewer are repeated
    finder = _on_gpus(library.IndexFlatIP(dimension))  # has to live as long as the training
    index.clustering_index = finder
    index.train(np.ascontiguousarray(sample, dtype=np.float32))
    index.clustering_index = None
    index.nprobe = min(lists, max(LEAST_PROBED, round(PROBED_SHARE * lists)))
    return index


def fill_shard(lists: Any, vectors: FloatMatrix) -> Any:
    """Sort some vectors into a copy of empty lists; any process may do it, and GPUs find the list of each."""
    library = faiss()
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    shard = library.clone_index(lists)
    _, nearest = _on_gpus(shard.quantizer).search(vectors, 1)
    shard.add_core(len(vectors), library.swig_ptr(vectors), None, library.swig_ptr(nearest))
    return shard


def merge_shards(lists: Any, shards: Iterator[Any]) -> Any:
    """Put shards together, numbering their vectors in the order in which they come."""
    whole = faiss().clone_index(lists)
    for shard in shards:
        whole.merge_from(shard, whole.ntotal)
    if kind_of(whole) == "ivf":
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
    if isinstance(index, library.IndexIVFPQ):
        return "ivfpq"
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
        case "ivfpq":
            centres = int(index.nlist) + CODE_VALUES  # of lists, and of all parts of a vector together
            return count * (int(index.code_size) + 8) + 4 * centres * int(index.d)
        case "flat":
            return count * 4 * int(index.d)


def faiss() -> Any:
    """The library: loaded on first use, and without its type stubs, which describe the C++ side of its calls."""
    return import_module("faiss")


def _code_bytes(dimension: int) -> int:
    """Bytes of a product-quantised vector: each stands for equally many numbers, four where the dimension allows."""
    return dimension // max(width for width in range(1, NUMBERS_PER_BYTE + 1) if dimension % width == 0)


def _set_training(rounds: Any) -> None:
    rounds.niter = TRAINING_ROUNDS
    rounds.seed = _SEED
    rounds.min_points_per_centroid = 1  # small ones are asked for in tests and are no reason to warn


def _on_gpus(vectors: Any) -> Any:
    library = faiss()
    return library.index_cpu_to_all_gpus(vectors) if library.get_num_gpus() else vectors


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
    "CANDIDATES",
    "FLAT_LIMIT",
    "HNSW_LIMIT",
    "IVF_LIMIT",
    "LEAST_CANDIDATES",
    "SHARD",
    "IndexKind",
    "ListKind",
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
