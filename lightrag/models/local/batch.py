"""The rows that are generated together: each step gives every row its next token. Rows join and leave in between.

Knows nothing of threads or callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightrag.models.local.attention import Prefix
from lightrag.models.local.cache import TailCache
from lightrag.models.local.decoder import Decoder
from lightrag.models.local.row import Row
from lightrag.models.local.sampling import choose_tokens

PREFILL_TOKENS = 8192
"""Padded prompt positions that are prefilled together."""
PREFILL_COLUMNS = 2048
"""Columns of them in one forward pass; in between, a prompt that nobody waits for any more is dropped."""


class Batch:
    """Rows and their cache."""

    def __init__(self, decoder: Decoder) -> None:
        self.rows: list[Row] = []
        self._decoder = decoder
        self._cache: TailCache | None = None
        self._prefix: Prefix | None = None

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows, and choose their first tokens."""
        for group in _groups(rows):
            cache = self._prefill(group)
            if cache is None:
                continue
            self._drop_finished()
            if self._cache is None:
                self._cache = cache
            else:
                self._cache.join(cache)
            self.rows += group
            self._prefix = self._decoder.prefix([row.memory for row in self.rows])

    @torch.inference_mode()
    def step(self) -> None:
        """Choose the next token of every row that goes on; finished and cancelled rows leave."""
        self._drop_finished()
        if self._cache is None:
            return
        length = self._cache.get_seq_length()
        logits = self._decoder.forward(
            self._tensor([[row.last] for row in self.rows]),
            self._cache,
            self._tensor([length - row.cached for row in self.rows]),
            self._tensor([row.cells for row in self.rows]),
            self._prefix,
        )
        for row in self.rows:
            row.cached += 1
        _hand_out(logits, self.rows)

    def _prefill(self, rows: list[Row]) -> TailCache | None:
        """Read prompts, aligned at their ends; returns nothing if all were cancelled meanwhile."""
        cache = TailCache(self._decoder.layers)
        longest = max(row.prompt.length for row in rows)
        inputs = self._inputs(rows, longest)
        padding = self._tensor([longest - row.prompt.length for row in rows])
        cells = self._tensor([row.cells for row in rows])
        prefix = self._decoder.prefix([row.memory for row in rows])
        for columns in torch.split(inputs, PREFILL_COLUMNS, dim=1):
            if all(row.cancelled for row in rows):
                return None
            logits = self._decoder.forward(columns, cache, padding, cells, prefix)
        for row in rows:
            row.cached = row.prompt.length
        _hand_out(logits, rows)
        return cache

    def _inputs(self, rows: list[Row], longest: int) -> Tensor:
        if any(row.prompt.has_latents for row in rows):
            embedded = torch.zeros(
                len(rows), longest, self._decoder.hidden, dtype=self._decoder.dtype, device=self._decoder.device
            )
            for index, row in enumerate(rows):
                embedded[index, longest - row.prompt.length :] = self._decoder.embed(row.prompt)
            return embedded
        return self._tensor([[0] * (longest - row.prompt.length) + row.prompt.token_ids for row in rows])

    def _drop_finished(self) -> None:
        if self._cache is None:
            return
        kept = [index for index, row in enumerate(self.rows) if not (row.done or row.cancelled)]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if self.rows:
            self._cache.keep(self._tensor(kept), max(row.cached for row in self.rows))
            self._prefix = self._decoder.prefix([row.memory for row in self.rows])
        else:
            self._cache = self._prefix = None

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, device=self._decoder.device)


def _hand_out(logits: Tensor, rows: Sequence[Row]) -> None:
    for row, token in zip(rows, choose_tokens(logits, [row.chooser for row in rows]), strict=True):
        row.take(token)


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Group rows of similar length, so that rows times the longest stays within :data:`PREFILL_TOKENS`."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: row.prompt.length, reverse=True):
        if group and (len(group) + 1) * group[0].prompt.length > PREFILL_TOKENS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


__all__ = ["PREFILL_COLUMNS", "PREFILL_TOKENS", "Batch"]
