"""What a chat turn says once small talk is left out: sentences that state something, in their own words.

Statistics and word lists for English; other languages keep every sentence that is no question. Knows nothing of stores
or models.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lightrag.documents.sentences import split_sentences
from lightrag.retrieval.analysis import stop_words
from lightrag.retrieval.turns import is_question

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHATTER = _words(
    "absolutely agree ah aha alright amazed amazing appreciate aw aww awesome beautiful best bet boy bye catch "
    "chat cheer cheers clearly congrats congratulations cool cute dear def definitely dude epic exactly excellent "
    "excited exciting fab fair fantastic feel feeling fine fun funny girl glad good goodbye gosh great guess guy "
    "haha hahaha hang happy hard hear hello hey hi honestly hope hopefully huge impressive incredible indeed "
    "inspiring interesting joy keep kidding kind know later lmao lol look looking looks lot lots love lovely luck "
    "lucky make makes man mate mean morning nice night oh ok okay omg pleasure please proud really relatable "
    "respect right rock see seems seriously share sharing soon sorry sound sounds stay stuff super support sure "
    "surely sweet take talk thank thankful thanks thing things think thought thrilled thx time today totally "
    "touch truly ty understand understandable unreal usual vibe vibes way welcome well whoa wish woah wonder "
    "wonderful worth wow ya yay yeah yep yes yo yup"
)
"""Words that carry feeling or courtesy, not content."""
_SPEAKS_OF_SELF = _words("i i'm i've i'd i'll im ive my mine me we we're we've our us")
MIN_CONTENT = 2
"""Content words that a sentence needs, one where it speaks of the speaker."""


class Condensed(NamedTuple):
    """The part of a turn that is worth keeping."""

    text: str
    importance: float
    """0 to 1, growing with the number of content words kept."""


def condense(text: str, language: str = "en", participants: frozenset[str] = frozenset()) -> Condensed:
    """Keep the sentences of a turn that state something.

    Args:
        text: one turn.
        language: ISO 639-1.
        participants: casefolded names of who takes part; calling someone by name is no content.

    Returns:
        The kept sentences in order, joined by blanks; empty where the turn is only courtesy or questions.
    """
    kept: list[str] = []
    content = 0
    for span in split_sentences(text):
        sentence = text[span.start : span.end].strip()
        words = content_words(sentence, language, participants)
        if _states_something(sentence, words, language):
            kept.append(sentence)
            content += len(words)
    return Condensed(" ".join(kept), min(1.0, 0.3 + content / 10) if kept else 0.0)


def content_words(sentence: str, language: str = "en", participants: frozenset[str] = frozenset()) -> list[str]:
    """Words of a sentence that carry content, casefolded."""
    words = [word.casefold().replace("’", "'") for word in _WORD.findall(sentence)]
    idle = stop_words(language)
    chatter = _CHATTER if language == "en" else frozenset()
    return [
        word
        for word in words
        if word not in idle and word not in chatter and word not in participants and word.split("'")[0] not in idle
    ]


def _states_something(sentence: str, content: list[str], language: str) -> bool:
    if is_question(sentence):
        return False
    if language != "en":
        return True
    own = any(word.casefold().replace("’", "'") in _SPEAKS_OF_SELF for word in _WORD.findall(sentence))
    return len(content) >= (MIN_CONTENT - 1 if own else MIN_CONTENT)


__all__ = ["MIN_CONTENT", "Condensed", "condense", "content_words"]
