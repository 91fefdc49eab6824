"""Tells in which language a text is written, offline and always with the same result.

The script decides first (kana is Japanese, Hangul is Korean); where several languages share a script, the n-gram model
of py3langid decides among them. Known limits: a name, a number or a word or two of Latin script is ``und``; Chinese
characters alone count as Chinese, also where a Japanese writer meant them; close relatives (Danish and Norwegian,
Serbian and Croatian, Malay and Indonesian) are told apart only in whole paragraphs; of a text in several languages the
one with the most letters is named.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

UNDETERMINED = "und"
_SAMPLE_CHARS = 8_000
_SAMPLE_PIECES = 8


class Language(NamedTuple):
    """A language and how sure we are."""

    code: str
    """ISO 639-1, or ``und``."""
    confidence: float
    """Between 0 and 1; for ``und``, that of the best guess that was not good enough."""


_SCRIPTS: dict[str, tuple[str, str]] = {
    # script: (its letters, the languages written in it that we tell apart; the first is the usual one)
    "latin": (
        r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
        "en es fr de it pt nl pl ro cs sk sl hr hu sv da no fi is et lv lt tr az uz id ms tl vi ca gl eu sq af sw "
        "cy ga eo mt so ha yo zu xh",
    ),
    "cyrillic": (r"\u0400-\u052f", "ru uk be bg sr mk kk ky mn tg tt"),
    "arabic": (
        r"\u0620-\u064a\u066e-\u06d3\u06fa-\u06fc\u0750-\u077f\u08a0-\u08c9\ufb50-\ufdff\ufe70-\ufefc",
        "ar fa ur ps ku ug",
    ),
    "devanagari": (r"\u0900-\u0963\u0970-\u097f", "hi mr ne sa"),
    "bengali": (r"\u0980-\u09e3", "bn as"),
    "han": (r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f", "zh"),
    "kana": (r"\u3041-\u3096\u30a1-\u30fa\u30fc\uff66-\uff9f", "ja"),
    "hangul": (r"\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3", "ko"),
    "thai": (r"\u0e01-\u0e3a\u0e40-\u0e4e", "th"),
    "greek": (r"\u0370-\u03ff\u1f00-\u1fff", "el"),
    "hebrew": (r"\u05d0-\u05ea", "he"),
    "armenian": (r"\u0531-\u0587", "hy"),
    "georgian": (r"\u10a0-\u10ff", "ka"),
    "lao": (r"\u0e81-\u0edf", "lo"),
    "khmer": (r"\u1780-\u17d3", "km"),
    "burmese": (r"\u1000-\u109f", "my"),
    "amharic": (r"\u1200-\u139f", "am"),
    "tamil": (r"\u0b80-\u0bff", "ta"),
    "telugu": (r"\u0c00-\u0c7f", "te"),
    "kannada": (r"\u0c80-\u0cff", "kn"),
    "malayalam": (r"\u0d00-\u0d7f", "ml"),
    "gujarati": (r"\u0a80-\u0aff", "gu"),
    "gurmukhi": (r"\u0a00-\u0a7f", "pa"),
    "odia": (r"\u0b00-\u0b7f", "or"),
    "sinhala": (r"\u0d80-\u0dff", "si"),
}
_LETTERS = {script: re.compile(f"[{letters}]") for script, (letters, _) in _SCRIPTS.items()}
_LANGUAGES = {script: languages.split() for script, (_, languages) in _SCRIPTS.items()}
LANGUAGES = frozenset(language for languages in _LANGUAGES.values() for language in languages)
"""Every code that :func:`detect_language` can return besides ``und``."""

# How much likelier a text is in a language that much is written in than in a relative that little is written in;
# without it, three words of Russian are Belarusian as often as not.
_PRIOR = dict.fromkeys(LANGUAGES, 1.0)
_PRIOR |= dict.fromkeys(("es", "fr", "de", "it", "pt", "nl", "pl", "ru", "uk", "tr", "vi", "id"), 6.0)
_PRIOR |= dict.fromkeys(("ar", "fa", "hi", "cs", "sv", "hu"), 6.0)
_PRIOR["en"] = 10.0


def detect_language(text: str) -> Language:
    """Name the language of a text or a question; long texts are judged by pieces from all over them."""
    sample = _sample(text)
    counts = {script: len(pattern.findall(sample)) for script, pattern in _LETTERS.items()}
    if counts["kana"] * 10 > counts["han"]:  # Japanese mixes both; Chinese quotes a kana at most
        counts["kana"], counts["han"] = counts["kana"] + counts["han"] if counts["kana"] else 0, 0
    script = max(counts, key=lambda name: (counts[name] * _weight(name), name))
    letters = counts[script]
    if letters == 0:
        return Language(UNDETERMINED, 0.0)
    share = counts[script] * _weight(script) / sum(n * _weight(name) for name, n in counts.items())
    candidates = _LANGUAGES[script]
    if len(candidates) == 1:
        return Language(candidates[0], round(share, 4))
    code, probability = _identify(sample, candidates)
    confidence = round(probability * share, 4)
    if script == "latin":
        return Language(code if confidence >= _needed(sample) else UNDETERMINED, confidence)
    # Another script says so much already that the usual language is a better answer than none.
    return Language(code if probability >= 0.5 or letters >= 40 else candidates[0], confidence)


def _weight(script: str) -> int:
    """What a letter counts: other scripts quote Latin names much more than the other way round."""
    return 1 if script == "latin" else 3


def _needed(sample: str) -> float:
    """Confidence that a text in Latin script must reach: a lone name looks a little like many languages."""
    words = len(re.findall(r"[^\W\d_]{2,}", sample))
    return 0.75 if words < 3 else 0.6 if words < 4 else 0.45 if words < 6 else 0.3


def _identify(sample: str, candidates: list[str]) -> tuple[str, float]:
    scores = dict(_identifier().rank(sample))
    weighted = {language: scores.get(language, 0.0) * _PRIOR[language] for language in candidates}
    total = sum(weighted.values())
    best = max(candidates, key=lambda language: weighted[language])
    return best, weighted[best] / total if total else 0.0


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(sorted(LANGUAGES & set(identifier.labels)))
    return identifier


def _sample(text: str) -> str:
    if len(text) <= _SAMPLE_CHARS:
        return text
    piece = _SAMPLE_CHARS // _SAMPLE_PIECES
    step = (len(text) - piece) // (_SAMPLE_PIECES - 1)
    return "\n".join(text[start : start + piece] for start in range(0, step * _SAMPLE_PIECES, step))


__all__ = ["LANGUAGES", "Language", "detect_language"]
