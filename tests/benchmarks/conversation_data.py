"""Reads the conversation sets that lie beside the project: LoCoMo and REALTALK, one layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[3] / "shared" / "data"
MULTI_HOP, TEMPORAL, OPEN_DOMAIN, SINGLE_HOP, ADVERSARIAL = 1, 2, 3, 4, 5

# Chosen on these; the others are reported apart.
TUNED_ON = frozenset({"26", "30", "42", "Chat_1_Emi_Elise", "Chat_3_Kevin_Paola", "Chat_5_Nicolas_Nebraas"})


@dataclass(frozen=True)
class Turn:
    turn_id: str
    session: int
    speaker: str
    text: str
    time: str

    def message(self) -> dict[str, str]:
        """As ``add_memory`` takes it; every speaker is a user, as in the published protocol."""
        return {"role": "user", "speaker_name": self.speaker, "content": self.text, "time_stamp": self.time}


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    evidence: frozenset[str]
    category: int


@dataclass(frozen=True)
class Dialogue:
    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    """Those that have an answer and evidence in the conversation."""


def load(kind: str) -> list[Dialogue]:
    """``locomo`` or ``realtalk``."""
    return [_dialogue(path) for path in sorted((SHARED / kind).glob("*.json"))]


def _dialogue(path: Path) -> Dialogue:
    raw = json.loads(path.read_text(encoding="utf-8"))
    turns = tuple(_turns(raw))
    known = {turn.turn_id for turn in turns}
    questions = (_question(item, known) for item in raw["qa"])
    return Dialogue(
        path.stem, turns, tuple(each for each in questions if each.evidence and each.category != ADVERSARIAL)
    )


def _turns(raw: dict[str, Any]) -> Iterator[Turn]:
    session = 1
    while f"session_{session}" in raw:
        for item in raw[f"session_{session}"]:
            text = (item.get("text", item.get("clean_text")) or "").strip()
            caption = item.get("blip_caption")
            shown = f" [{caption}]" if isinstance(caption, str) else ""
            time = item.get("date_time") or raw[f"session_{session}_date_time"]
            if text or shown:
                yield Turn(item["dia_id"], session, item["speaker"], f"{text}{shown}".strip(), time)
        session += 1


def _question(item: dict[str, Any], known: set[str]) -> Question:
    named = {turn for entry in item.get("evidence") or [] for turn in re.findall(r"D\d+:\d+", entry)}
    return Question(item["question"], str(item.get("answer", "")), frozenset(named & known), item["category"])
