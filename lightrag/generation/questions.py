"""Tell what form of answer a question wants: one fact, all matching places, the extreme of them, or an overview.

Works on surface words of a few languages and knows nothing of passages. Where it cannot tell, it says ``lookup``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Form = Literal["lookup", "list", "count", "highest", "lowest", "overview"]

# Whole words or phrases, lower case; the first form that matches wins. Chinese and Japanese are matched anywhere.
_SIGNS: tuple[tuple[Form, str], ...] = (
    (
        "overview",
        r"summari[sz]e|summary|overview|main (?:points|themes|ideas|topics)|key points|what (?:is|are) .{0,40} about|"
        r"zusammenfass\w*|überblick|résum\w+|resum\w+|总结|概括|概述|要約|まとめ",
    ),
    (
        "highest",
        r"highest|peak\w*|largest|biggest|greatest|maximum|most|longest|best|record|top|latest|last|newest|"
        r"höchste\w*|größte\w*|meiste\w*|plus (?:haut|grand|élevé)\w*|más (?:alt|grande)\w*|mayor|最高|最大|最多|最も",
    ),
    (
        "lowest",
        r"lowest|smallest|least|minimum|fewest|shortest|worst|earliest|first|"
        r"niedrigste\w*|kleinste\w*|wenigste\w*|plus (?:bas|petit)\w*|más (?:baj|pequeñ)\w*|menor|最低|最小|最少",
    ),
    ("count", r"how many|how often|number of|count|wie viele|wie oft|combien|cuánt[oa]s|多少|几个|几次|いくつ|何回"),
    (
        "list",
        r"how (?:did|has|have) .{3,80} (?:change|changed|evolve|evolved|develop|developed)|what became of|"
        r"which|list|name (?:all|the|every)|all (?:the|of)|every|each|who (?:all|were)|"
        r"what (?:are|were|\w+s (?:are|were|did|have|had))|welche[nrs]?|alle|quels?|quelles?|"
        r"cuáles|哪些|列出|所有|どの|すべて",
    ),
)

_PATTERNS = tuple((form, re.compile(rf"(?<!\w)(?:{signs})(?!\w)", re.IGNORECASE)) for form, signs in _SIGNS)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_UNSPACED_PATTERNS = tuple((form, re.compile(signs, re.IGNORECASE)) for form, signs in _SIGNS)

_NUMERIC = re.compile(
    r"(?<!\w)(?:how (?:much|many|long|old|far|high|large|big)|wie viel\w*|combien)(?!\w)", re.IGNORECASE
)
_TEMPORAL = re.compile(
    r"(?<!\w)(?:when|what (?:year|date|day|month)|which (?:year|date)|wann|quand|cuándo)(?!\w)", re.IGNORECASE
)
_PERSON = re.compile(r"(?<!\w)(?:who|whom|whose|wer|wem|wen|qui|quién)(?!\w)", re.IGNORECASE)
_PLACE = re.compile(r"(?<!\w)(?:where|what (?:city|town|country|place)|wo|où|dónde)(?!\w)", re.IGNORECASE)

_NUMBER_LIKE = re.compile(r"\d")
_DATE_LIKE = re.compile(r"\b(?:1\d{3}|20\d{2})\b|\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|年")
_NAME_LIKE = re.compile(r"(?<=[a-zà-ÿ,;:)] )[A-ZÀ-Þ][a-zà-ÿ]+")


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """What an answer to a question should look like."""

    form: Form
    wants: Literal["number", "time", "person", "place", "anything"]

    def suits(self, text: str) -> bool:
        """Whether ``text`` holds the kind of thing that is asked for; true where anything may be asked."""
        if self.wants == "number":
            return bool(_NUMBER_LIKE.search(text))
        if self.wants == "time":
            return bool(_DATE_LIKE.search(text))
        if self.wants in ("person", "place"):
            return bool(_NAME_LIKE.search(text)) or bool(_UNSPACED.search(text))
        return True


def question_form(question: str) -> QuestionForm:
    """Classify a question by its words."""
    wants: Literal["number", "time", "person", "place", "anything"] = "anything"
    if _NUMERIC.search(question):
        wants = "number"
    elif _TEMPORAL.search(question):
        wants = "time"
    elif _PERSON.search(question):
        wants = "person"
    elif _PLACE.search(question):
        wants = "place"
    patterns = _UNSPACED_PATTERNS if _UNSPACED.search(question) else _PATTERNS
    for form, pattern in patterns:
        if pattern.search(question):
            return QuestionForm(form, wants)
    return QuestionForm("overview" if not question.strip() else "lookup", wants)


__all__ = ["Form", "QuestionForm", "question_form"]
