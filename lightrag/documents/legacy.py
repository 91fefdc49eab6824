"""Recognises text in the encodings from before Unicode by what it says, and admits when it cannot.

A wrong encoding decodes without an error more often than not, into other letters. So every candidate's text is read:
it counts only if it is in a language the encoding was made for, and only if no rival makes as much sense.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import NamedTuple

from lightrag.documents.language import Language, detect_language

_WEST = frozenset(["en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "is", "ca", "gl", "eu", "af"])
_CENTRAL = frozenset(["pl", "cs", "sk", "hu", "sl", "hr", "ro", "sq"])
_CYRILLIC = frozenset(["ru", "uk", "be", "bg", "sr", "mk"])

_ENCODINGS: dict[str, tuple[frozenset[str], float]] = {
    # encoding: (languages it was made for, what it loses against one that is met more often)
    "cp1252": (_WEST, 0.0),
    "cp1250": (_CENTRAL, 0.0),
    "cp1251": (_CYRILLIC, 0.0),
    "cp1253": (frozenset(["el"]), 0.0),
    "cp1254": (frozenset(["tr"]), 0.0),
    "cp1255": (frozenset(["he"]), 0.0),
    "cp1256": (frozenset(["ar", "fa", "ur"]), 0.0),
    "cp1257": (frozenset(["et", "lv", "lt"]), 0.0),
    "cp874": (frozenset(["th"]), 0.0),
    "cp932": (frozenset(["ja"]), 0.0),
    "euc_jp": (frozenset(["ja"]), 0.0),
    "gb18030": (frozenset(["zh"]), 0.0),
    "big5hkscs": (frozenset(["zh"]), 0.05),
    "cp949": (frozenset(["ko"]), 0.0),
    "koi8_u": (_CYRILLIC, 0.05),
    "iso8859_2": (_CENTRAL, 0.1),
    "iso8859_5": (_CYRILLIC, 0.1),
    "cp866": (_CYRILLIC, 0.1),
    "mac_cyrillic": (_CYRILLIC, 0.2),
    "mac_roman": (_WEST, 0.2),
    "cp850": (_WEST, 0.2),
    "utf-16-le": (frozenset(["zh", "ja", "ko"]), 0.05),
    "utf-16-be": (frozenset(["zh", "ja", "ko"]), 0.1),
}
_NEEDED = 0.45
"""A text below this makes no sense in any language of its encoding."""
_MARGIN = 0.08
"""Two readings nearer to each other than this cannot be told apart."""


_FEW_LETTERS, _FEW_MARGIN = 24, 0.35
_FOREIGN = re.compile("[^\x00-\x7f]")
_LATIN = re.compile("[A-Za-zÀ-ÖØ-öø-ɏ]")
_ODD = re.compile(
    "(?<=[A-Za-zà-öø-ÿ])[¡-´¶¸-¿ˆ˜‚„†‡‰‹™×÷](?=[a-zà-öø-ÿ])"  # a symbol inside a word
    "|(?<=[a-zà-öø-ÿ])[À-ÖØ-ÞŒŠŽŸ]"  # a capital inside a word
    "|(?<=[A-Z])[ŒŠŽŸ](?=[a-z])"
    "|(?<=[a-z])[‚„]"
    "|[À-ÖØ-öø-ÿŒœŠšŽžŸ](?=\\d)|[À-ÖØ-Þ](?=[A-Z][a-z])"
    "|[\x80-\x9f\ue000-\uf8ff\ufffd]"
)


class Reading(NamedTuple):
    """One way to decode a sample."""

    encoding: str
    text: str
    score: float


def readings(sample: bytes, *, is_cut: bool = False) -> list[Reading]:
    """Return the sensible ways to decode ``sample``, best first; the same text is listed once.

    Args:
        sample: part of a file that starts at a character.
        is_cut: whether it may end within one.
    """
    found: dict[str, Reading] = {}
    for encoding, (languages, handicap) in _ENCODINGS.items():
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(sample, final=not is_cut)
        except UnicodeDecodeError:
            continue
        score = _sense(text, languages) - _mess(text, encoding) - 2 * _odd_letters(text) - handicap
        if score >= _NEEDED and (text not in found or score > found[text].score):
            found[text] = Reading(encoding, text, score)
    return sorted(found.values(), key=lambda reading: -reading.score)


def is_certain(found: list[Reading]) -> bool:
    """Tell whether the best reading stands out; among few letters it must stand alone."""
    if not found:
        return False
    foreign = len(_FOREIGN.findall(found[0].text))
    few = foreign < _FEW_LETTERS and foreign * 2 > len(found[0].text)
    rival = found[1].score if len(found) > 1 else _NEEDED - _MARGIN
    return found[0].score - rival >= (_FEW_MARGIN if few else _MARGIN)


def _mess(text: str, encoding: str) -> float:
    """Share of improbable neighbours: symbols in words, odd capitals, mixed scripts (charset-normalizer's chaos)."""
    from charset_normalizer import from_bytes

    match = from_bytes(
        text.encode(encoding), cp_isolation=[encoding], threshold=1.0, enable_fallback=False, preemptive_behaviour=False
    ).best()
    return match.chaos if match else 1.0


def _odd_letters(text: str) -> float:
    """Share of the characters outside ASCII that stand where none of their kind does in Latin script."""
    return len(_ODD.findall(text)) / max(1, len(_FOREIGN.findall(text)))


def _sense(text: str, languages: frozenset[str]) -> float:
    """Say from 0 to 1 how much like one of ``languages`` a text looks."""
    language: Language = detect_language(text)
    if language.code not in languages:
        return 0.0
    letters = _LATIN.findall(text)
    if letters and len(letters) * 2 > len(text) and sum(not each.isascii() for each in letters) > len(letters) / 3:
        return 0.0  # no language accents every other letter, other scripts misread as Latin do
    if len(_FOREIGN.findall(text)) * 10 < len(text):
        return 0.5 + language.confidence / 2  # the language is certain enough, nearly all of it is ASCII
    usual_case = 0.75 if text.isupper() else 1.0  # small letters of one encoding are capitals of another
    return usual_case * language.confidence * _SPELLING.get(language.code, _any_spelling)(text)


# --- Spelling: what tells a language from random letters of its script ------------------------------------------------

_THAI = re.compile("[\u0e01-\u0e4e]")
_THAI_VOWEL = re.compile("[\u0e30-\u0e3a\u0e40-\u0e4e]")
_THAI_SPELT = re.compile(
    "[\u0e40-\u0e44]?[\u0e01-\u0e2e](?:[\u0e31\u0e33-\u0e3a\u0e47-\u0e4e]{0,3})[\u0e30\u0e32\u0e33\u0e45\u0e46]{0,2}|ๆ|ฯ"
)


def _any_spelling(text: str) -> float:
    return 1.0


def _share(letters: str, usual: str) -> Callable[[str], float]:
    """Return the part of a text's letters of one script that are usual ones, in relation to what is normal."""
    every, common = re.compile(f"[{letters}]"), re.compile(f"[{usual}]")

    def measure(text: str) -> float:
        return min(1.0, len(common.findall(text)) / max(1, len(every.findall(text))) / 0.8)

    return measure


def _thai(text: str) -> float:
    letters = max(1, len(_THAI.findall(text)))
    vowels = len(_THAI_VOWEL.findall(text)) / letters
    return sum(map(len, _THAI_SPELT.findall(text))) / letters * min(1.0, vowels / 0.25)


def _level_one(codec: str, first: int, last: int, free: str = "") -> Callable[[str], float]:
    """Return the part of a text's characters that their national standard ranks as common (its first level)."""
    native = re.compile("[^\x00-\u2fff]")
    kana = re.compile(f"[{free}]") if free else None

    def measure(text: str) -> float:
        characters = native.findall(text)
        common = 0
        for character in characters:
            code = character.encode(codec, "ignore")
            is_common = len(code) == 2 and (first <= code[0] <= last or code[0] in _PUNCTUATION_ROWS)
            common += is_common or bool(kana and kana.match(character))
        return common / max(1, len(characters))

    return measure


_PUNCTUATION_ROWS = (0xA1, 0xA2, 0xA3)
_simplified = _level_one("gb2312", 0xB0, 0xD7)
_traditional = _level_one("big5", 0xA4, 0xC6)
_SPELLING: dict[str, Callable[[str], float]] = {
    "th": _thai,
    "el": _share("\u0386-\u03ce", "αάοόιίεέτσςνηήυύρπκμλ"),
    "he": _share("\u05d0-\u05ea", "יוהלאתרשנבמםד"),
    "ar": _share("\u0621-\u064a", "اأإلينمتروبهةدعفسكقحىج"),
    "ja": _level_one("euc_jp", 0xB0, 0xCF, "ぁ-んァ-ヴー"),
    "zh": lambda text: max(_simplified(text), _traditional(text)),
    "ko": _level_one("euc_kr", 0xB0, 0xC8),
}


__all__ = ["Reading", "is_certain", "readings"]
