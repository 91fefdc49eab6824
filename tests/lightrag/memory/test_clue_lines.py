"""Clues read from replies, in any language."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightrag.memory.clue_lines import clue_lines, content_units


def test_numbering_quotes_and_repetitions_are_dropped() -> None:
    reply = '1. The mill was sold in 1999.\n- (2) "The mill was sold in 1999"\n3) **Ada Lind left the board.**\n\nok'
    assert clue_lines(reply) == ["The mill was sold in 1999.", "Ada Lind left the board."]


def test_lines_of_scripts_without_spaces_count() -> None:
    assert clue_lines("1、工厂于1999年出售。\n①ตลาดปิดแล้ว\n2. 工場は閉鎖された") == [
        "工厂于1999年出售。",
        "ตลาดปิดแล้ว",
        "工場は閉鎖された",
    ]


def test_numbers_that_belong_to_the_text_stay() -> None:
    assert clue_lines("2016 was the year of the flood\n3.5 million people moved") == [
        "2016 was the year of the flood",
        "3.5 million people moved",
    ]


def test_the_limit_holds() -> None:
    subjects = ["the harbour", "a red bridge", "two dogs", "old maps", "Ada Lind", "summer rain"]
    assert len(clue_lines("\n".join(f"{subject} was seen" for subject in subjects), 4)) == 4


@given(st.text(max_size=300))
def test_any_reply_is_read_without_failing(reply: str) -> None:
    for line in clue_lines(reply):
        assert line in reply
        assert content_units(line) >= 3
