"""Keeps rows of stored latents in memory, and fetches only what a finer ratio adds.

A byte-budgeted cache: least recently used passages go first. It knows nothing of budgets or prompts.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightrag.latents.positions import Positions, nested_order
from lightrag.latents.rows import unpack_rows
from lightrag.latents.store import LatentStore, RowRange

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_ROW_BYTES = 256 * 1024**2


class RowCache:
    """Packed rows of any number of stores within one budget. Safe to share between threads.

    Args:
        max_bytes: of all rows together.
    """

    def __init__(self, max_bytes: int = DEFAULT_ROW_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._owners = itertools.count()

    def new_owner(self) -> int:
        """Number that tells the rows of one store from those of others; never given twice."""
        return next(self._owners)

    def get(self, owner: int, chunk_ids: Sequence[str]) -> dict[str, bytes]:
        """First rows of passages, as many as are here."""
        with self._lock:
            return {chunk_id: self._rows.get((owner, chunk_id), b"") for chunk_id in chunk_ids}

    def put(self, owner: int, rows: Mapping[str, bytes]) -> None:
        """Remember rows, and forget those that were used least recently."""
        with self._lock:
            for chunk_id, data in rows.items():
                kept = self._rows.pop((owner, chunk_id), b"")
                # Another thread may have read further in the meantime.
                self._rows[owner, chunk_id] = data if len(data) >= len(kept) else kept
                self._bytes += len(self._rows[owner, chunk_id]) - len(kept)
            while self._bytes > self._max_bytes and self._rows:
                _, dropped = self._rows.popitem(last=False)
                self._bytes -= len(dropped)


class ResidentLatents:
    """Rows of one store, read on demand. Safe to share between threads.

    Args:
        store: where rows come from.
        max_bytes: packed rows kept in memory; what one call needs is kept until it returns, however much it is.
        cache: keeps them within a budget that several stores share, instead.
    """

    def __init__(
        self, store: LatentStore, *, max_bytes: int = DEFAULT_ROW_BYTES, cache: RowCache | None = None
    ) -> None:
        self.store = store
        self._cache = cache or RowCache(max_bytes)
        self._owner = self._cache.new_owner()
        self.fetched_bytes = 0
        """Read from the store since the start."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder that made them."""
        return self.store.header.fingerprint

    def tokens(self, chunk_id: str) -> int | None:
        """Tokens of a stored passage; ``None`` where it is not stored."""
        return self.store.tokens(chunk_id)

    def states(self, wanted: Sequence[tuple[str, Positions]]) -> list[Tensor]:
        """States of passages at ascending positions, shape (positions, hidden) each.

        Raises:
            NotFoundError: a passage is not stored.
        """
        ranks = [self._ranks(chunk_id, positions) for chunk_id, positions in wanted]
        needs = {
            chunk_id: int(rank.max()) + 1 if len(rank) else 0 for (chunk_id, _), rank in zip(wanted, ranks, strict=True)
        }
        rows = self._fetch(needs)
        header = self.store.header
        results = []
        for (chunk_id, _), rank in zip(wanted, ranks, strict=True):
            table = unpack_rows(rows[chunk_id], header.hidden, header.encoding)
            results.append(table[rank])
        return results

    def _ranks(self, chunk_id: str, positions: Positions) -> Positions:
        tokens = self.store.tokens(chunk_id) or 0
        inverse = np.empty(tokens, dtype=np.int64)
        inverse[nested_order(tokens)] = np.arange(tokens)
        return inverse[positions]

    def _fetch(self, needs: dict[str, int]) -> dict[str, bytes]:
        """The first rows of each passage; only those that are not here yet are read."""
        size = self.store.row_bytes
        have = self._cache.get(self._owner, list(needs))
        missing = [
            RowRange(chunk_id, len(have[chunk_id]) // size, count)
            for chunk_id, count in needs.items()
            if len(have[chunk_id]) < count * size
        ]
        for request, data in zip(missing, self.store.read(missing), strict=True):
            have[request.chunk_id] += bytes(data)
            self.fetched_bytes += len(data)
        self._cache.put(self._owner, have)
        return have


__all__ = ["DEFAULT_ROW_BYTES", "ResidentLatents", "RowCache"]
