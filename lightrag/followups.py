"""What a follow-up question is about: "And when was that?" is searched for with the questions that it refers back to.

Works on function words and knows nothing of corpora or models. A question that can stand alone is left alone, because
an earlier subject would crowd out its own; where it cannot tell, it leaves the question alone, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lightrag.retrieval.analysis import UNSPACED, stop_words
from lightrag.types import ChatMessage

LONGEST: Final = 600
"""Characters of earlier questions that are searched for with a question: some 150 tokens, which an embedder reads."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SPACELESS = re.compile(rf"[{UNSPACED}]")

# Words that stand for something said before.
_STANDS_IN: Final[dict[str, str]] = {
    "en": "it its he him his she her hers they them their theirs one ones",
    "de": "er ihn ihm sein seine seinen seiner seinem sie ihr ihre ihren ihrer ihrem ihnen es dessen deren davon dafür "
    "damit daran darauf darüber dabei dazu",
    "es": "él ella ello ellos ellas lo le les su sus",
    "fr": "il ils elle elles lui leur leurs son sa ses y en celui celle ceux celles",
    "it": "lui lei egli essa esso loro suo sua suoi sue ne ci",
    "pt": "ele ela eles elas lhe lhes seu sua seus suas dele dela deles delas",
}
# Words that point to something, as often to what follows.
_POINTS: Final[dict[str, str]] = {
    "en": "that this those these there then else",
    "de": "das dies diese dieser dieses dort da damals dann",
    "es": "eso esto ese esa esos esas aquello allí entonces",
    "fr": "ça cela ceci ce cette ces là alors",
    "it": "questo questa questi queste quello quella quelli quelle lì allora",
    "pt": "isso isto esse essa esses essas aquilo ali então",
}
# How a further question about the same begins.
_OPENS: Final[dict[str, str]] = {
    "en": r"and|but|or|also|what about|how about|tell me more|more details|go on",
    "de": r"und|aber|oder|auch|was ist mit|wie steht es mit",
    "es": r"y|e|pero|o|también|qué hay de|qué pasa con",
    "fr": r"et|mais|ou|aussi|qu'en est-il",
    "it": r"e|ed|ma|o|anche|che ne è",
    "pt": r"e|mas|ou|também",
}
_SPACELESS_SIGNS = re.compile(
    r"^(?:那么?|还有|然后|而且|だから|それ|では|じゃあ|그리고|그럼)|[它他她]|呢[？?]?$|这个|那个|这是|那是|それ|これ|あれ|その|彼|그것|그는|그녀"
)
_SPACELESS_LONGEST = 14
"""Characters; a longer question of these scripts says itself what it is about."""

_LANGUAGES: Final = (*_STANDS_IN, "da", "nb", "nl", "ru", "sv", "tr")
"""Those with stop words; of some, only questions without any other word are known."""

# How many words of its own a question may have that is taken to refer back.
_MOST_WITH_STAND_IN = 3
_MOST_OTHERWISE = 2


def refers_back(question: str) -> bool:
    """Whether a question says what it is about only together with what was said before it."""
    text = question.strip().casefold().replace("’", "'")
    if _SPACELESS.search(text):
        return len(text) <= _SPACELESS_LONGEST and bool(_SPACELESS_SIGNS.search(text))
    words = frozenset(re.split(r"[\s']+", " ".join(_WORD.findall(text)))) - {""}
    if not words:
        return False
    known = {language: len(words & stop_words(language)) for language in _LANGUAGES}
    likely = [language for language, number in known.items() if number == max(known.values())]
    # A few words may be of several languages: then all that more is known of have to agree.
    return all(_refers_back(text, words, each) for each in set(_OPENS).intersection(likely) or likely)


def _refers_back(text: str, words: frozenset[str], language: str) -> bool:
    own = len(words - stop_words(language))
    if not own:
        return True
    if own <= _MOST_WITH_STAND_IN and words.intersection(_STANDS_IN.get(language, "").split()):
        return True
    begins = language in _OPENS and re.match(rf"(?:¿\s*)?(?:{_OPENS[language]})\b", text)
    return own <= _MOST_OTHERWISE and bool(begins or words.intersection(_POINTS.get(language, "").split()))


def searched_for(messages: Sequence[ChatMessage]) -> str:
    """The last message of a chat as it is to be searched for.

    Where it refers back, earlier questions of the user go before it: the last one, and those before as far as that
    one refers back itself. Where it does not, this is the message itself.
    """
    *earlier, last = [message.text.strip() for message in messages if message.role == "user" and message.text.strip()]
    found: list[str] = []
    left = LONGEST
    referring = last
    while earlier and left > 0 and refers_back(referring):
        referring = earlier.pop()
        # What a long message asks stands at its end.
        found.insert(0, referring[-left:])
        left -= len(referring)
    return "\n".join([*found, last]) if found else messages[-1].text


__all__ = ["LONGEST", "refers_back", "searched_for"]
