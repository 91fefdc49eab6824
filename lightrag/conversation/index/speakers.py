"""Who takes part in conversations, by which names they are called, and whom a question is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lightrag.conversation.types import Message

_CALLED = re.compile(
    r"\b(?:hey|hi|hello|morning|thanks|thank you|yo|bye|congrats|yeah),? (?P<greeted>[A-Z]\w+)\b"
    r"|,? (?P<called>[A-Z]\w+)[!?.,]",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
MIN_CALLS = 5
"""How often someone must be called by a name before it counts as theirs."""
_SHARE = 0.3
"""And how often at least, relative to the name they are called most."""
_SELF = frozenset({"i", "me", "my", "mine", "myself"})


@dataclass(frozen=True, slots=True)
class Speakers:
    """Names of everyone who takes part, casefolded, by speaker."""

    names: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Speakers:
        """Learn who speaks and what they call each other; see :class:`Calls`."""
        calls = Calls()
        for message in messages:
            calls.add(message)
        return calls.speakers()

    @property
    def everyone(self) -> frozenset[str]:
        """All names of all speakers."""
        return frozenset().union(*self.names.values())

    def asked_about(self, question: str) -> str | None:
        """The one speaker that a question names; ``None`` where it names none or several."""
        words = {word.casefold() for word in _WORD.findall(question)}
        named = [who for who, names in self.names.items() if names & words]
        return named[0] if len(named) == 1 else None

    def without_names(self, question: str) -> str:
        """The question without speakers' names: whoever calls someone says nothing about them."""
        everyone = self.everyone - _SELF
        kept = [word for word in question.split() if not _bare(word) & everyone]
        return " ".join(kept) or question


class Calls:
    """Counts by which names those who take part call each other, message by message."""

    def __init__(self) -> None:
        self._heard: dict[str, Counter[str]] = {}

    def add(self, message: Message) -> None:
        """Listen to one more message."""
        heard = self._heard.setdefault(message.speaker or message.role, Counter())
        for found in _CALLED.finditer(message.content):
            name = found["greeted"] or found["called"]
            if name[0].isupper():
                heard[name.casefold()] += 1

    def speakers(self) -> Speakers:
        """Who takes part, as far as can be told by now.

        Where two people talk, a name that one of them keeps calling, and the other does not, is the other's.
        """
        calls = self._heard
        names = {who: {part.casefold() for part in _WORD.findall(who)} for who in calls}
        if len(names) == 2:
            one, other = names
            names[other] |= _names_called(calls[one], calls[other])
            names[one] |= _names_called(calls[other], calls[one])
        if "user" in names:
            # With an assistant, the person who asks later is the one who spoke.
            names["user"] |= _SELF
        return Speakers({who: frozenset(called) for who, called in names.items()})


def _bare(word: str) -> set[str]:
    found = _WORD.findall(word)
    return {found[0].casefold()} if found else set()


def _names_called(by: Counter[str], back: Counter[str]) -> set[str]:
    if not by:
        return set()
    most = by.most_common(1)[0][1]
    return {
        name
        for name, count in by.items()
        if count >= MIN_CALLS and count >= _SHARE * most and back[name] < count / MIN_CALLS
    }


__all__ = ["MIN_CALLS", "Calls", "Speakers"]
