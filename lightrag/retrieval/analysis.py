"""From text to index terms, in any script: words with stems, or character n-grams where no spaces separate words.

It does not know about weights or passages. Stop words are dropped when passages are indexed; a question needs no stop
list, because a term that is not in the vocabulary scores nothing.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Final

ANALYSIS_VERSION = "1"
"""Raised whenever equal texts may get other terms; stored with every index."""

STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian",
    "ne": "nepali", "nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Snowball algorithm per ISO 639-1 code. Other spaced languages keep whole words."""

_HAN_KANA_HANGUL = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff"
)
_SOUTH_EAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = _HAN_KANA_HANGUL + _SOUTH_EAST_ASIAN
"""Ranges for a character class: scripts that are cut into n-grams instead of words."""
_ASCII_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+", re.ASCII)
"""What the pattern for all scripts finds in a text that has no other letters."""
_POSSESSIVE = re.compile(r"['’]s\b", re.IGNORECASE)

_STOP_LISTS = {
    "da": "DANISH", "de": "GERMAN", "en": "EN_PLUS", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN",
    "nb": "NORWEGIAN", "nl": "DUTCH", "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH",
    "tr": "TURKISH",
}  # fmt: skip


REMEMBERED_WORDS: Final = 65_536
"""Per language and thread: about 10 MB, and nearly every word of a text in one of the languages with a stemmer."""


NUMBERED_WORDS: Final = 500_000
"""Words whose numbers are remembered while passages are indexed: about 50 MB."""
STOPPED: Final = -1
"""Stands for a stop word among the numbers of terms."""


class Analyzer:
    """Turns texts of the given languages into terms. Safe to share between threads.

    A passage is stemmed by its own language. A question is stemmed by every language of the corpus, because its own
    language is hard to tell from a few words: a stem that no passage has does no harm.
    """

    def __init__(self, languages: Iterable[str] = ("en",)) -> None:
        self.languages = tuple(sorted(set(languages) - {"und"})) or ("en",)
        self._local = threading.local()

    def passage_terms(self, text: str, language: str = "und") -> list[str]:
        """Index terms of a passage in order, stop words of its language left out."""
        language = language if language in self.languages else self.languages[0]
        stops = stop_words(language)
        stem = self._stemmer(language)
        return [term if is_gram else stem(term) for term, is_gram in _pieces(text) if term not in stops]

    def term_numbers(self, language: str, vocabulary: dict[str, int]) -> TermNumbers:
        """Number the terms of many passages of one language, see :class:`TermNumbers`."""
        return TermNumbers(self, language if language in self.languages else self.languages[0], vocabulary)

    def query_terms(self, text: str) -> list[str]:
        """Terms of a question in order; a word whose stem differs between languages gives one term per stem."""
        stemmers = [self._stemmer(language) for language in self.languages]
        terms: list[str] = []
        for term, is_gram in _pieces(text):
            terms.extend([term] if is_gram else dict.fromkeys(stem(term) for stem in stemmers))
        return terms

    def _stemmer(self, language: str) -> Callable[[str], str]:
        # A Snowball stemmer keeps state between calls, so each thread has its own.
        stemmers: dict[str, Callable[[str], str]] = self._local.__dict__
        if language not in stemmers:
            stemmers[language] = _new_stemmer(language)
        return stemmers[language]


class TermNumbers:
    """Numbers of the terms of passages in one language: :meth:`Analyzer.passage_terms`, several times faster.

    Most words of a text have been seen before, so most are one lookup each. Belongs to one thread.

    Args:
        analyzer: says what a term is.
        language: one of the analyzer's.
        vocabulary: number of each term known so far; new terms are added to it in the order in which they come.
    """

    def __init__(self, analyzer: Analyzer, language: str, vocabulary: dict[str, int]) -> None:
        self._analyzer = analyzer
        self._language = language
        self._vocabulary = vocabulary
        self._words = _WordNumbers(analyzer._stemmer(language), stop_words(language), vocabulary)

    def of(self, text: str) -> list[int]:
        """Numbers of the terms of a passage in order; among them ``STOPPED`` for words that are none."""
        if text.isascii():
            words = _ASCII_WORD.findall(_POSSESSIVE.sub("", text.lower()))
            if len(self._words) > NUMBERED_WORDS:
                self._words.clear()
            return [*map(self._words.__getitem__, words)]
        terms = self._analyzer.passage_terms(text, self._language)
        return [self._vocabulary.setdefault(term, len(self._vocabulary)) for term in terms]


class _WordNumbers(dict[str, int]):
    """Numbers by word, found out when a word is first seen."""

    def __init__(self, stem: Callable[[str], str], stops: frozenset[str], vocabulary: dict[str, int]) -> None:
        super().__init__()
        self._stem = stem
        self._stops = stops
        self._vocabulary = vocabulary

    def __missing__(self, word: str) -> int:
        number = (
            STOPPED if word in self._stops else self._vocabulary.setdefault(self._stem(word), len(self._vocabulary))
        )
        self[word] = number
        return number


def _new_stemmer(language: str) -> Callable[[str], str]:
    """From word to term. Few words make most of a text, so that most are found among those seen before."""
    if language not in STEMMERS:
        return fold
    import Stemmer

    stem = Stemmer.Stemmer(STEMMERS[language]).stemWord
    return lru_cache(REMEMBERED_WORDS)(lambda word: fold(stem(word)))


@cache
def stop_words(language: str) -> frozenset[str]:
    """Stop words of a language, empty where there is no list."""
    if language not in _STOP_LISTS:
        return frozenset()
    from bm25s import stopwords

    words: Iterable[str] = getattr(stopwords, f"STOPWORDS_{_STOP_LISTS[language]}")
    # Lists hold contractions in one piece ("don't"); the text is cut at apostrophes, so their parts are stop words too.
    return frozenset(part for word in words for part in re.split(r"['’]", word.casefold()) if part)


def fold(term: str) -> str:
    """Drop accents from Latin and Greek letters; other scripts keep their marks, which carry meaning there."""
    if term.isascii():
        return term
    decomposed = unicodedata.normalize("NFD", term)
    if not ("a" <= decomposed[0] <= "z" or "α" <= decomposed[0] <= "ω"):
        return term
    return "".join(char for char in decomposed if not "\u0300" <= char <= "\u036f")


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Lower-case words, numbers and identifiers, and n-grams of unspaced scripts (marked true)."""
    text = unicodedata.normalize("NFKC", text).casefold()
    for match in _pattern().finditer(_POSSESSIVE.sub("", text)):
        piece = match.group()
        if match.lastgroup is None:
            yield piece, False
        else:
            yield from ((gram, True) for gram in _grams(piece, 2 if match.lastgroup == "cjk" else 3))


def _grams(run: str, size: int) -> list[str]:
    return [run[i : i + size] for i in range(len(run) - size + 1)] or [run]


@cache
def _pattern() -> re.Pattern[str]:
    marks = "".join(
        char for char in map(chr, range(0x300, 0x1C00)) if unicodedata.category(char).startswith("M")
    )  # \w leaves them out, yet Indic and Arabic words contain them
    word = rf"(?:(?![{UNSPACED}])[^\W_]|[{marks}])"
    return re.compile(rf"\d+(?:[.,]\d+)+|(?P<cjk>[{_HAN_KANA_HANGUL}]+)|(?P<sea>[{_SOUTH_EAST_ASIAN}]+)|{word}+")


__all__ = ["ANALYSIS_VERSION", "STEMMERS", "STOPPED", "UNSPACED", "Analyzer", "TermNumbers", "fold", "stop_words"]
