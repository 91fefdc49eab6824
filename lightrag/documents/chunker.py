"""Cuts documents into chunks that an embedder can read whole, at the best places a text offers.

It knows a tokenizer only through its protocol, and nothing of file formats. Places, best first: headings and pages,
paragraphs, list items and table rows, sentences, clauses, words, characters.
"""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

import lightrag.errors as errors
from lightrag.documents.sections import Part, SectionIndex, split_parts
from lightrag.documents.sentences import trimmed
from lightrag.documents.window import Window
from lightrag.types import Chunk, Document, Span, Tokenizer

MIN_TOKENS = 16
"""Smallest bound: below, a single character with its marks may not fit."""
_CHARS_PER_TOKEN = 16
"""A chunk is never longer than this times its bound: a tokenizer may take a megabyte without spaces for one unknown
word, which an embedder could not read."""
_WINDOW_CHARS = 32_768


class Chunker:
    """Cuts documents into chunks of at most ``max_tokens`` tokens; thread-safe if its tokenizer is.

    Every character that is not white space lies in exactly one chunk, and the bound holds for each chunk's text
    tokenised by itself. Time is linear in the length of the document.

    Example:
        >>> chunks = Chunker(embedder.tokenizer, max_tokens=200).chunks(document)  # doctest: +SKIP

    Raises:
        UsageError: ``max_tokens`` is below :data:`MIN_TOKENS`.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        if max_tokens < MIN_TOKENS:
            raise errors.UsageError(
                f"max_tokens={max_tokens!r} is too small to cut text sensibly: use at least {MIN_TOKENS}",
                subject="max_tokens",
            )
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._max_chars = max_tokens * _CHARS_PER_TOKEN
        self._window_chars = max(_WINDOW_CHARS, 4 * self._max_chars)

    def chunks(self, document: Document) -> list[Chunk]:
        """Cut ``document``; the chunks are in reading order and never overlap."""
        return list(self.iter_chunks(document))

    def iter_chunks(self, document: Document) -> Iterator[Chunk]:
        """Yield the chunks of ``document`` one by one, for texts too large to hold twice."""
        index = SectionIndex(document.sections)
        ordinal = 0
        for part in split_parts(document):
            for span, tokens in self._cut(document.text, part):
                text = document.text[span.start : span.end]
                place = index.place(span, max(span.start, min(part.body, span.end - 1)))
                yield Chunk(
                    chunk_id=_chunk_id(document.document_id, span.start, text),
                    document_id=document.document_id,
                    ordinal=ordinal,
                    text=text,
                    start=span.start,
                    end=span.end,
                    tokens=tokens,
                    title=document.title,
                    source=document.source,
                    page=place.page,
                    heading=place.heading,
                    language=document.language,
                    metadata=document.metadata,
                )
                ordinal += 1

    def _cut(self, text: str, part: Part) -> Iterator[tuple[Span, int]]:
        """Yield the chunks of one part, each with its number of tokens."""
        at = part.start
        while at < part.end:
            end = min(part.end, at + self._window_chars)
            window = Window(text, at, end, part_end=part.end, tokenizer=self._tokenizer)
            # A window is left before its end comes into sight, because what lies behind decides where to cut.
            while at < end and (window.is_last or not self._is_spent(window, at)):
                cut, tokens = self._next_cut(text, window, at, part.body)
                for span in trimmed(text, at, cut):
                    yield span, tokens
                at = cut

    def _is_spent(self, window: Window, at: int) -> bool:
        return window.tokens_after(at) <= 2 * self._max_tokens and window.end - at <= 2 * self._max_chars

    def _next_cut(self, text: str, window: Window, at: int, body: int) -> tuple[int, int]:
        """Return where the chunk that starts at ``at`` ends, and how many tokens its text has by itself."""
        limit, max_chars = self._max_tokens, self._max_chars
        while True:
            cut = window.choose(at, body, limit, max_chars)
            tokens = self._tokenizer.count(text[at:cut].strip())
            if tokens <= self._max_tokens:
                return cut, tokens
            # Some tokenizers split words otherwise when they see less around them: ask for less until it fits.
            excess = tokens - self._max_tokens
            limit = max(1, limit - max(excess, limit // 8))
            max_chars = max(1, min(max_chars, (cut - at) * 7 // 8))


def _chunk_id(document_id: str, start: int, text: str) -> str:
    """Name a chunk by its document, its place and its content; the lengths keep the three apart."""
    place = f"{len(document_id)}:{document_id}:{start}:"
    return blake3((place + text).encode("utf-8", "surrogatepass")).hexdigest(length=16)


__all__ = ["MIN_TOKENS", "Chunker"]
