"""Splits text of any language into sentences by punctuation, layout and a few abbreviations; no model, linear time.

Limits: an abbreviation it does not know before a capital letter ends a sentence; Thai, which writes no full stops, is
split at spaces into phrases of a sentence's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lightrag.documents.layout import layout_breaks
from lightrag.types import Span

_CLOSERS = "\"'”’»›)\\]}」』）》〉】〗〕］｣"
_OPENERS = re.compile("[\\s\"'“‘„«‹(\\[{「『（《〈【*_¿¡]*")
_STOP = re.compile(
    "(?P<always>[。！？｡。।॥።፧፨။។៕᙮꓿]+)"  # end a sentence whatever follows
    "|(?P<mark>[!?؟۔։‼⁇⁈⁉…]+[.!?؟…]*)"  # end one before white space or an ideograph
    "|(?P<dot>\\.+[!?…]*)"  # end one unless they belong to an abbreviation or number
)
_AFTER_STOP = re.compile(f"[。！？｡!?]*[{_CLOSERS}]*(?:\\[[\\d, –-]{{1,12}}\\])*")
_WORD_BEFORE = re.compile(r"[\w.'’&-]+\Z")
_WORD_AFTER = re.compile(r"[^\W\d_]+")
_IDEOGRAPH = re.compile(r"[\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f]")
_QUOTE_GOES_ON = re.compile("と|って|という|との|、|，|,")
_THAI_SPACE = re.compile(r"(?<=[\u0e01-\u0e4e\d\"”)])[ \u00a0]+(?=[\u0e01-\u0e4e\"“(])")
_THAI_SENTENCE_CHARS = 60


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by what they belong to.
_TITLES = _words(
    "mr mrs ms dr prof sr sra srta st ste mt gen col lt sgt capt cmdr maj rev hon pres gov sen rep mme mlle mm vs cf "
    "viz e.g i.e z.b d.h u.a u.ä s.o s.u bzw ca str hr fr frl dott sig sig.ra avv ing акад г-н г-жа им напр проф тел "
    "ул p.ej ud uds dra doña av approx resp incl excl zzgl inkl vgl evtl ggf"
)
# Belong to the number after them, and are words of their own elsewhere.
_NUMBERED = _words("no nos nr fig figs eq eqs sec ch vol vols p pp ed eds art bd núm pág págs арт гл рис см стр табл")
# May also end a sentence.
_SHORT = _words(
    "etc inc ltd co corp llc plc jr esq al bros dept est univ assn ave blvd rd jan feb mar apr jun jul aug sep sept "
    "oct nov dec mon tue wed thu fri sat sun usw u.s u.k u.n e.u a.m p.m b.c a.d ph.d m.d b.a m.a d.c abs gmbh "
    "т.д т.п т.е др гг руб млн млрд тыс в.в n.v s.a s.l s.p.a"
)
# Words that start a sentence far more often than they continue a name.
_STARTERS = _words(
    "a after all also although an and another any as at because before but by during each for from he her here his how "
    "however i if in it its many more most my no not of on one our she since so some such that the their then there "
    "these they this those thus to under until we what when where which while who with you your "
    "der die das ein eine er sie es wir ich im in am aber und doch dann nach bei für mit le la les il elle ils un une "
    "des ce cette nous en dans pour mais el los las ella ellos este esta pero o os as um uma ele ela mas lo gli i con "
    "он она они оно это в на но и а мы я с по"
)
_AFTER_ORDINAL = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert "
    "jahrhunderts platz rang januari jan feb mrz apr jun jul aug sep sept okt nov dez quartal klasse"
)


def split_sentences(text: str) -> list[Span]:
    """Return the sentences of ``text``: ranges without white space at their ends that hold every other character.

    A heading, a list item and a table row are sentences of their own. A sentence may contain line breaks where a
    paragraph was wrapped.

    Example:
        >>> text = "Dr. Li left. 她走了。她回来了！"
        >>> [text[start:end] for start, end in split_sentences(text)]
        ['Dr. Li left.', '她走了。', '她回来了！']
    """
    return list(iter_sentences(text, 0, len(text)))


def iter_sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the sentences of ``text[start:end]`` with offsets into ``text``."""
    at = start
    for position, _ in layout_breaks(text, start, end):
        yield from _block_sentences(text, at, position)
        at = position
    yield from _block_sentences(text, at, end)


def _block_sentences(text: str, start: int, end: int) -> Iterator[Span]:
    at = start
    for stop in _STOP.finditer(text, start, end):
        if stop.start() < at:
            continue
        after = _AFTER_STOP.match(text, stop.end(), end)
        cut = after.end() if after else stop.end()
        if _ends_sentence(text, stop, start, cut, end):
            yield from _thai_phrases(text, at, cut)
            at = cut
    yield from _thai_phrases(text, at, end)


def _ends_sentence(text: str, stop: re.Match[str], start: int, cut: int, end: int) -> bool:
    """Decide whether the punctuation ``stop``, with its closing quotes up to ``cut``, ends a sentence."""
    if cut >= end:
        return True
    if stop["always"]:
        return not (cut > stop.end() and _QUOTE_GOES_ON.match(text, cut, end))
    if not text[cut].isspace():
        return not stop["dot"] and bool(_IDEOGRAPH.match(text, cut))
    opened = _OPENERS.match(text, cut, end)
    following = opened.end() if opened else cut
    if following < end and text[following].islower():
        return False
    if stop["mark"] or len(stop[0]) > 1:
        return True
    return not _is_abbreviation(text, start, stop.start(), following, end)


def _is_abbreviation(text: str, start: int, dot: int, following: int, end: int) -> bool:
    """Tell whether the full stop at ``dot`` belongs to the word before it."""
    lowest = max(start, dot - 24)
    before = _WORD_BEFORE.search(text[lowest:dot])
    if before is None:
        return False
    word = before[0].lower().lstrip(".'’-&")
    next_word = _WORD_AFTER.match(text, following, min(end, following + 24))
    next_lower = next_word[0].lower() if next_word else ""
    if word.isdigit():
        return _is_ordinal(text, start, lowest + before.start(), word, next_lower)
    if word in _TITLES or (word in _NUMBERED and text[following].isdigit()):
        return True
    is_initial = len(word) == 1 and word.isalpha() and not _IDEOGRAPH.match(word)
    if word in _SHORT or is_initial or re.fullmatch(r"(?:\w\.)+\w", word):
        return next_lower not in _STARTERS
    return False


def _is_ordinal(text: str, start: int, word_start: int, word: str, next_word: str) -> bool:
    """``3. Item`` at the start of a line and ``am 3. Mai`` are not ends of sentences."""
    line_start = max(start, text.rfind("\n", start, word_start) + 1)
    opens_line = not text[line_start:word_start].strip(" \t(#*-")
    return len(word) <= 3 and (opens_line or next_word in _AFTER_ORDINAL)


def _thai_phrases(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield ``text[start:end]`` trimmed, cut at spaces between Thai phrases once a sentence's length is reached."""
    at = start
    for space in _THAI_SPACE.finditer(text, start, end):
        if space.start() - at >= _THAI_SENTENCE_CHARS and end - space.end() >= _THAI_SENTENCE_CHARS // 2:
            yield from trimmed(text, at, space.start())
            at = space.end()
    yield from trimmed(text, at, end)


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the range without white space at its ends, or nothing if nothing else is there."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left < len(piece):
        yield Span(start + left, end - (len(piece) - len(piece.rstrip())))


__all__ = ["iter_sentences", "split_sentences", "trimmed"]
