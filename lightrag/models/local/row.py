"""One completion under way in a batch, from its prompt to the last piece of text it hands out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from tokenizers import Tokenizer as FastTokenizer

from lightrag.models.base import CompletionDelta, KVMemory, Sampling
from lightrag.models.local.rendering import RenderedPrompt
from lightrag.models.local.sampling import Chooser
from lightrag.models.local.text import TextStream
from lightrag.types import Usage


class Row:
    """A prompt with its own sampling, decoding and stop conditions.

    Args:
        prompt: what is completed.
        memory: what stands in front of it.
        sampling: how.
        tokenizer: decodes what is generated.
        end_tokens: ids that end a completion.
        emit: is given every piece of text, and at last the finish reason with the usage, or the error that ended it;
            called from the thread that computes.
    """

    def __init__(
        self,
        prompt: RenderedPrompt,
        memory: KVMemory | None,
        sampling: Sampling,
        *,
        tokenizer: FastTokenizer,
        end_tokens: frozenset[int],
        emit: Callable[[CompletionDelta | Exception], None],
    ) -> None:
        self.prompt = prompt
        self.memory = memory
        self.chooser = Chooser(sampling)
        self.cached = 0
        """Own tokens whose keys and values are in the cache."""
        self.last = -1
        """The newest token, which is not there yet."""
        self.done = False
        self._sampling = sampling
        self._end_tokens = end_tokens
        self._emit = emit
        self._text = TextStream(tokenizer, sampling.stop)
        self._generated = 0
        self._cancelled = threading.Event()

    @property
    def cells(self) -> int:
        """Positions in front of the prompt."""
        return self.memory.cells if self.memory else 0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the rest any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give up; the row leaves the batch before the next step. Safe from any thread."""
        self._cancelled.set()

    def take(self, token: int) -> None:
        """Accept the next token, hand out its text, and find out whether it was the last."""
        self.last = token
        self._generated += 1
        if token in self._end_tokens:
            self._finish("stop")
            return
        text = self._text.push(token)
        if text:
            self._emit(CompletionDelta(text))
        if self._text.stopped:
            self._finish("stop")
        elif self._generated >= self._sampling.max_tokens:
            self._finish("length")

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.done = True
        self._emit(error)

    def _finish(self, reason: Literal["stop", "length"]) -> None:
        self.done = True
        usage = Usage(self.cells + self.prompt.length, self._generated, self.cells, calls=1)
        rest = self._text.finish()
        # A stop string may be completed by the very last bytes.
        self._emit(CompletionDelta(rest, "stop" if self._text.stopped else reason, usage))


__all__ = ["Row"]
