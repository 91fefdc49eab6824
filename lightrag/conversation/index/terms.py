"""BM25 over rows that mostly were there before: each text is taken apart once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lightrag.retrieval.analysis import Analyzer
from lightrag.retrieval.lexical import LexicalIndex
from lightrag.retrieval.postings import PostingsCollector


class KnownTerms:
    """Remembers the terms of texts from one index to the next. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._language = ""
        self._texts: dict[str, list[int]] = {}
        self._vocabulary: dict[str, int] = {}

    def index(self, texts: Sequence[str], language: str, *, k1: float, b: float) -> LexicalIndex:
        """Index texts of one language (ISO 639-1 code or ``und``), in order."""
        with self._lock:
            if language != self._language:
                self._language, self._texts, self._vocabulary = language, {}, {}
            known, analyzer = self._texts, Analyzer([language])
            numbers = analyzer.term_numbers(language, self._vocabulary)
            # Texts that are gone are forgotten. Their words stay in the vocabulary, where no text has them.
            self._texts = {text: known[text] if text in known else numbers.of(text) for text in texts}
            postings = PostingsCollector()
            for text in texts:
                postings.add(self._texts[text])
            # Later indexes add words; what is given away has as many as it has postings for.
            vocabulary = dict(self._vocabulary)
        return LexicalIndex(analyzer, vocabulary, postings.weigh(len(vocabulary), k1, b), len(texts))


__all__ = ["KnownTerms"]
