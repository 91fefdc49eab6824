"""Reconciliation without a language model: repetitions are merged, plain contradictions go to the later one.

Careful by design: where the rules are not sure, both entries stay.
"""

from __future__ import annotations

import re

from lightrag.conversation.extraction.condense import content_words
from lightrag.conversation.types import MemoryEntry
from lightrag.conversation.update.base import Decision, Later, UpdateCase

SAME = 0.95
"""Cosine from which two texts with the same content words say the same."""
CONTAINED = 0.9
"""Part of the earlier text's content words that a later one must repeat to stand for it."""
_STATE = re.compile(
    r"(?P<slot>\b(?:my|his|her|their|our|\w+'s)\s+(?:(?:new|current|favou?rite|best|own)\s+)?[\w -]{2,40}?\s+"
    r"(?:is|are|was)"
    r"|\b(?:i|he|she|they|we|\w+)\s+(?:now\s+|currently\s+)?(?:live|lives|work|works|study|studies)\s+(?:in|at|for|as)"
    r"|\b(?:i|he|she|they|we)\s*(?:'m|am|is|are)\s+(?:now\s+)?(?:living|working|studying|based)\s+(?:in|at|for|as))\s+"
    r"(?P<value>[^.!?;,]{1,60})",
    re.IGNORECASE,
)
_FILLER = re.compile(r"\b(?:now|currently|actually|new|current|the|a|an|living|lives?|working|works?)\b", re.IGNORECASE)
_VERB = {"live": "live", "work": "work", "stud": "study", "base": "live"}


class RuleReconciler:
    """Decides by words, names, numbers and similarity."""

    async def decide(self, case: UpdateCase) -> Decision:
        """See :class:`Reconciler`."""
        for later in reversed(case.later):
            if _of_same_speaker(case.target, later.entry):
                if says_the_same(case.target, later):
                    return Decision("merge", by=later.entry.entry_id, reason="said again later")
                if contradicts(case.target, later.entry):
                    return Decision("delete", by=later.entry.entry_id, reason="a later statement gives another value")
        return Decision("ignore")


def says_the_same(target: MemoryEntry, later: Later) -> bool:
    """Whether the later entry repeats all that the target says."""
    words, others = set(content_words(target.text)), set(content_words(later.entry.text))
    if not words or _numbers(target.text) - _numbers(later.entry.text):
        return False
    if target.event_time != later.entry.event_time or _negated(target.text) != _negated(later.entry.text):
        return False
    return words == others or (later.similarity >= SAME and len(words & others) >= CONTAINED * len(words))


def contradicts(target: MemoryEntry, later: MemoryEntry) -> bool:
    """Whether both state the same property of the same person, with different values."""
    earlier = dict(_states(target.text))
    return any(slot in earlier and value != earlier[slot] for slot, value in _states(later.text))


def _states(text: str) -> list[tuple[str, str]]:
    found = []
    for match in _STATE.finditer(text):
        slot = " ".join(_FILLER.sub(" ", _normal(match["slot"])).split())
        verb = next((meaning for stem, meaning in _VERB.items() if stem in match["slot"].lower()), "")
        value = " ".join(_FILLER.sub(" ", match["value"].casefold()).split())
        if value:
            found.append((f"{slot} {verb}".strip(), value))
    return found


def _normal(slot: str) -> str:
    return re.sub(r"\b(?:i|he|she|they|we)\b|'m|\b(?:am|is|are|was)\b", " ", slot.casefold())


def _of_same_speaker(one: MemoryEntry, other: MemoryEntry) -> bool:
    return (one.speaker_id or one.speaker) == (other.speaker_id or other.speaker) and one.kind == other.kind


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,:]\d+)*", text))


def _negated(text: str) -> bool:
    return re.search(r"\b(?:no|not|never|none)\b|n['’]t\b", text, re.IGNORECASE) is not None


__all__ = ["CONTAINED", "SAME", "RuleReconciler", "contradicts", "says_the_same"]
