"""The thread that owns a model: requests of any number of callers wait in one queue and are computed together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from lightrag.errors import BackendError, LightRAGError, UsageError
from lightrag.models.local.batch import Batch
from lightrag.models.local.decoder import Decoder
from lightrag.models.local.row import Row


class Engine:
    """Generates for all submitted rows, up to ``batch_size`` at once; the others wait their turn.

    A request that arrives while others are being generated joins them at the next token.
    """

    def __init__(self, decoder: Decoder, name: str, batch_size: int) -> None:
        self._decoder = decoder
        self._name = name
        self._batch_size = batch_size
        self._arrivals: queue.SimpleQueue[Sequence[Row] | None] = queue.SimpleQueue()
        self._accepting = True
        self._gate = threading.Lock()
        """Held while something is put into the queue, so that nothing comes behind the end mark."""
        self._waiting: list[Row] = []
        self._open = True
        self._thread = threading.Thread(target=self._run, name=f"lightrag-{name}", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Row]) -> None:
        """Have rows generated; they report for themselves.

        Raises:
            UsageError: the engine was closed.
        """
        with self._gate:
            if not self._accepting:
                raise UsageError(f"model {self._name!r} is closed; open a new one", subject=self._name)
            self._arrivals.put(rows)

    def close(self) -> None:
        """Fail what is waiting or under way and end the thread."""
        with self._gate:
            self._accepting = False
            self._arrivals.put(None)
        self._thread.join()

    def _run(self) -> None:
        batch = Batch(self._decoder)
        while self._open:
            self._receive(block=not (batch.rows or self._waiting))
            self._admit(batch)
            try:
                batch.step()
            except Exception as error:  # whatever the model raises must reach the callers, not end the thread
                self._fail(batch.rows, error)
                batch = Batch(self._decoder)
        self._fail([*batch.rows, *self._waiting], BackendError(f"model {self._name!r} was closed", subject=self._name))

    def _admit(self, batch: Batch) -> None:
        room = self._batch_size - len(batch.rows)
        admitted, self._waiting = self._waiting[:room], self._waiting[room:]
        try:
            batch.admit(admitted)
        except Exception as error:  # as above; the rows that are under way do not suffer from a prompt that fails
            self._fail(admitted, error)

    def _receive(self, *, block: bool) -> None:
        while True:
            try:
                rows = self._arrivals.get(block=block)
            except queue.Empty:
                break
            if rows is None:
                self._open = False
                break
            self._waiting += rows
            block = False
        self._waiting = [row for row in self._waiting if not row.cancelled]

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        for row in rows:
            if not row.done:
                row.fail(self._explained(error))

    def _explained(self, error: Exception) -> LightRAGError:
        import torch

        if isinstance(error, LightRAGError):
            return error
        cure = ""
        if isinstance(error, torch.OutOfMemoryError):
            cure = "; lower the batch size or shorten prompts"
        failure = BackendError(f"model {self._name!r} failed: {error}{cure}", subject=self._name, retryable=bool(cure))
        failure.__cause__ = error
        return failure


__all__ = ["Engine"]
