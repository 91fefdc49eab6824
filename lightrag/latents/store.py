"""Stored latents: passages encoded once, of which any ratio is one byte-range read.

Layout of an artifact (names below one folder, or wherever the caller's ``locate`` puts them)::

    latents.json            what made it: see :class:`LatentsHeader`
    {part}.rows             rows of all passages, one behind the other; within a passage in nested order
    {part}.index            safetensors: key (passages, 2) uint64, offset (passages,) int64 in bytes, tokens int32

A passage's rows are in :func:`~lightrag.latents.positions.nested_order`: its first ``k`` rows are what stands for it in
``k`` states, and a finer ratio later reads only the rows in between. Keys are blake3 hashes of passage ids. Parts are
written independently (by many workers) and are only listed together in ``latents.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.latents.positions import nested_order
from lightrag.latents.rows import Encoding, pack_rows, row_bytes
from lightrag.storage.objects import ObjectStore

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
_MERGE_BYTES = 256 * 1024  # Reading so much too much costs less than another request to object storage.
_PARALLEL_READS = 16
HEADER_NAME = "latents.json"
Locate = Callable[[str], str]
"""Turns a name of the layout into the path of its object."""


@dataclass(frozen=True, slots=True)
class LatentsHeader:
    """What made an artifact, and what is in it."""

    fingerprint: str
    """:attr:`PassageEncoder.fingerprint` of the encoder."""
    hidden: int
    encoding: Encoding
    parts: tuple[str, ...]
    passages: int
    tokens: int
    format: int = FORMAT

    def to_json(self) -> bytes:
        """As stored."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> LatentsHeader:
        """Read a stored header.

        Raises:
            ArtifactError: it is not one, or of another format version.
        """
        try:
            content = json.loads(data)
            header = cls(**{**content, "parts": tuple(content["parts"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"not a header of stored latents: {error}") from error
        if header.format != FORMAT:
            raise ArtifactError(f"stored latents have format {header.format}, this version reads {FORMAT}")
        return header


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``[start, stop)`` of a passage, in nested order."""

    chunk_id: str
    start: int
    stop: int


class PartWriter:
    """Collects the passages of one part in memory; a part of 64 MiB to 1 GiB reads well from object storage.

    Example:
        >>> writer = PartWriter("part-0", hidden=4096, encoding="int8")  # doctest: +SKIP
        >>> writer.add("chunk-1", states)  # doctest: +SKIP
        >>> writer.write(store, locate)  # doctest: +SKIP
    """

    def __init__(self, name: str, hidden: int, encoding: Encoding = "int8") -> None:
        self.name = name
        self.encoding: Encoding = encoding
        self._hidden = hidden
        self._blocks: list[bytes] = []
        self._keys: dict[bytes, tuple[int, int]] = {}
        self.size = 0
        """Bytes of rows so far."""

    @property
    def passages(self) -> int:
        """Passages so far."""
        return len(self._keys)

    @property
    def blocks(self) -> Sequence[bytes]:
        """The content of its rows, passage by passage."""
        return self._blocks

    @property
    def tokens(self) -> int:
        """Their tokens."""
        return sum(tokens for _, tokens in self._keys.values())

    def add(self, chunk_id: str, states: Tensor) -> None:
        """Add one passage.

        Args:
            chunk_id: of the passage.
            states: of all its tokens in text order, shape (tokens, hidden).

        Raises:
            UsageError: the passage is there already, or the states have another width.
        """
        key = _key(chunk_id)
        if key in self._keys:
            raise UsageError(f"passage {chunk_id!r} was added twice", subject=chunk_id)
        if states.ndim != 2 or states.shape[1] != self._hidden:
            raise UsageError(f"states of shape {tuple(states.shape)} where (tokens, {self._hidden}) is stored")
        block = pack_rows(states[nested_order(len(states)).copy()], self.encoding)
        self._keys[key] = (self.size, len(states))
        self._blocks.append(block)
        self.size += len(block)

    def write(self, store: ObjectStore, locate: Locate) -> tuple[str, str]:
        """Store rows and index; returns the names of both."""
        names = f"{self.name}.rows", f"{self.name}.index"
        store.put_parts(locate(names[0]), self._blocks)
        store.put(locate(names[1]), self.index())
        return names

    def index(self) -> bytes:
        """The part's index as stored."""
        from safetensors.numpy import save

        keys = np.frombuffer(b"".join(self._keys), dtype="<u8").reshape(-1, 2)
        offsets, tokens = (np.array([entry[field] for entry in self._keys.values()]) for field in (0, 1))
        return save({"key": keys.copy(), "offset": offsets.astype(np.int64), "tokens": tokens.astype(np.int32)})


def write_header(
    store: ObjectStore, locate: Locate, parts: Sequence[PartWriter], fingerprint: str, hidden: int, encoding: Encoding
) -> LatentsHeader:
    """Store the header that makes written parts one artifact; last, since readers start with it."""
    header = LatentsHeader(
        fingerprint,
        hidden,
        encoding,
        tuple(part.name for part in parts),
        sum(part.passages for part in parts),
        sum(part.tokens for part in parts),
    )
    store.put(locate(HEADER_NAME), header.to_json())
    return header


class LatentStore:
    """Reads stored latents. Safe to share between threads; every read waits for storage.

    Keeps 32 bytes of index per passage and no rows; :class:`~lightrag.latents.resident.ResidentLatents` keeps rows.

    Raises:
        ArtifactError: the artifact is damaged, or ``fingerprint`` is given and another encoder made it.
        NotFoundError: there is no artifact.
    """

    def __init__(self, store: ObjectStore, locate: Locate, *, fingerprint: str = "") -> None:
        self._store = store
        self._locate = locate
        self.header = LatentsHeader.from_json(store.get(locate(HEADER_NAME)))
        if fingerprint and fingerprint != self.header.fingerprint:
            raise ArtifactError(
                f"stored latents were made by encoder {self.header.fingerprint}, this one is {fingerprint}; "
                "encode the corpus again or load the encoder that made them"
            )
        self.row_bytes = row_bytes(self.header.hidden, self.header.encoding)
        self._index = _Index.read([store.get(locate(f"{name}.index")) for name in self.header.parts])

    def tokens(self, chunk_id: str) -> int | None:
        """Tokens of a stored passage; ``None`` where it is not stored."""
        entry = self._index.find(chunk_id)
        return entry.tokens if entry else None

    def read(self, requests: Iterable[RowRange]) -> list[memoryview]:
        """Read rows of passages; ranges of one part are fetched together, nearby ones in one request.

        Returns:
            Packed rows per request, in the order of the requests; see :func:`lightrag.latents.rows.unpack_rows`.

        Raises:
            NotFoundError: a passage is not stored.
            UsageError: a passage has fewer rows.
        """
        wanted = list(requests)
        by_part: dict[int, list[tuple[int, int, int]]] = {}
        for number, request in enumerate(wanted):
            entry = self._index.find(request.chunk_id)
            if entry is None:
                raise NotFoundError(f"no latents are stored for passage {request.chunk_id!r}", subject=request.chunk_id)
            if not 0 <= request.start <= request.stop <= entry.tokens:
                raise UsageError(
                    f"passage {request.chunk_id!r} has {entry.tokens} rows, not {request.start} to {request.stop}"
                )
            start = entry.offset + request.start * self.row_bytes
            length = (request.stop - request.start) * self.row_bytes
            by_part.setdefault(entry.part, []).append((number, start, length))
        blocks = [
            (self._locate(f"{self.header.parts[part]}.rows"), block)
            for part, ranges in by_part.items()
            for block in _neighbours(ranges)
        ]
        results: dict[int, memoryview] = {}
        # Each request waits for storage, so they wait together.
        with ThreadPoolExecutor(max(1, min(_PARALLEL_READS, len(blocks)))) as pool:
            for views in pool.map(lambda item: self._read_block(*item), blocks):
                results.update(views)
        return [results.get(number, memoryview(b"")) for number in range(len(wanted))]

    def _read_block(self, path: str, block: Sequence[tuple[int, int, int]]) -> dict[int, memoryview]:
        first = block[0][1]
        data = memoryview(self._store.get_range(path, first, max(start + n for _, start, n in block) - first))
        return {number: data[start - first : start - first + n] for number, start, n in block}


def _neighbours(ranges: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Group (number, start, length) ranges that lie near each other; empty ranges are left out."""
    blocks: list[list[tuple[int, int, int]]] = []
    end = -1
    for item in sorted((item for item in ranges if item[2]), key=lambda item: item[1]):
        if blocks and item[1] - end <= _MERGE_BYTES:
            blocks[-1].append(item)
        else:
            blocks.append([item])
        end = max(end, item[1] + item[2]) if len(blocks[-1]) > 1 else item[1] + item[2]
    return blocks


@dataclass(frozen=True, slots=True)
class _Entry:
    part: int
    offset: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Index:
    """Sorted by key; a million passages take 32 MB."""

    keys: NDArray[np.void]
    part: NDArray[np.int32]
    offset: NDArray[np.int64]
    tokens: NDArray[np.int32]

    @classmethod
    def read(cls, parts: Sequence[bytes]) -> _Index:
        tables = [_load_index(part) for part in parts]
        keys = np.concatenate([np.empty((0, 2), "<u8"), *(table["key"] for table in tables)])
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        part = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table["key"]) for table in tables])
        offset = np.concatenate([np.empty(0, np.int64), *(table["offset"] for table in tables)])
        tokens = np.concatenate([np.empty(0, np.int32), *(table["tokens"] for table in tables)])
        return cls(keys[order], part[order], offset[order], tokens[order])

    def find(self, chunk_id: str) -> _Entry | None:
        high, low = np.frombuffer(_key(chunk_id), dtype="<u8")
        at = int(np.searchsorted(self.keys[:, 0], high))
        while at < len(self.keys) and self.keys[at, 0] == high:
            if self.keys[at, 1] == low:
                return _Entry(int(self.part[at]), int(self.offset[at]), int(self.tokens[at]))
            at += 1
        return None


def _load_index(data: bytes) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        table = load(data)
    except SafetensorError as error:
        raise ArtifactError(f"an index of stored latents is damaged: {error}") from error
    if not {"key", "offset", "tokens"} <= table.keys():
        raise ArtifactError("an index of stored latents lacks its columns")
    return table


def _key(chunk_id: str) -> bytes:
    from blake3 import blake3

    return blake3(chunk_id.encode()).digest(16)


def below(folder: str) -> Locate:
    """Names as paths below one folder."""
    return lambda name: f"{folder}/{name}" if folder else name


__all__ = [
    "HEADER_NAME",
    "LatentStore",
    "LatentsHeader",
    "Locate",
    "PartWriter",
    "RowRange",
    "below",
    "write_header",
]
