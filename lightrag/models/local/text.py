"""From tokens that arrive one by one to text that may be shown: whole characters, cut at stop strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer


class TextStream:
    """Decodes the tokens of one completion.

    Text is held back while it may be the beginning of a stop string, or part of a character whose bytes are still
    arriving. All pieces joined, :meth:`finish` included, are the decoded completion up to the first stop string.
    """

    def __init__(self, tokenizer: FastTokenizer, stop: tuple[str, ...] = ()) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(filter(None, stop))
        self._tokens: list[int] = []
        self._decoded = 0
        self._held = ""
        self.stopped = False
        """Whether a stop string has come; what follows is dropped."""

    def push(self, token: int) -> str:
        """Take the next token and return what may be shown now."""
        self._tokens.append(token)
        piece = self._decoder.step(self._tokenizer, token) or ""
        self._decoded += len(piece)
        return self._release(piece)

    def finish(self) -> str:
        """Return what is left once no token follows."""
        if self.stopped:
            return ""
        # Bytes that never became a character are shown as the tokenizer shows them.
        whole: str = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        rest = self._release(whole[self._decoded :])
        held, self._held = self._held, ""
        return rest if self.stopped else rest + held

    def _release(self, piece: str) -> str:
        if self.stopped:
            return ""
        text = self._held + piece
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


__all__ = ["TextStream"]
