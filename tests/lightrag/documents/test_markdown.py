import time

import pytest

from lightrag.documents import parse_document
from lightrag.types import Document


def read(text: str) -> Document:
    return parse_document(text.encode(), source="a.md")


def test_markup_is_removed_and_what_it_meant_is_kept() -> None:
    parsed = read(
        "Report\n======\n\nSome *text* with a [link][far], `code`,\n![a mill](m.png) and <b>tags</b><br>here.\n\n"
        "- one\n- two\n\n  more\n    1. in\n    2. side\n\n> quoted\n\n| A | B |\n|---|---|\n| 1 | **2** |\n\n"
        "```py\n# no heading\n```\n\n<div><p>raw</p></div>\n\n[far]: https://example.com\n"
    )
    assert parsed.text == (
        "Report\n\nSome text with a link, code,\na mill and tags\nhere.\n\n"
        "- one\n- two\n  more\n  1. in\n  2. side\n\nquoted\n\nA | B\n1 | 2\n\n# no heading\n\nraw"
    )
    assert parsed.title == "Report"


def test_headings_nest_as_sections_with_exact_offsets() -> None:
    parsed = read("# A\n\na\n\n## B *b*\n\nbb\n\n# C\n\nc")
    found = [(s.label, s.level, parsed.text[s.start : s.end].strip()) for s in parsed.sections]
    assert found == [("A", 1, "A\n\na\n\nB b\n\nbb"), ("B b", 2, "B b\n\nbb"), ("C", 1, "C\n\nc")]


def test_front_matter_becomes_title_and_metadata() -> None:
    parsed = read("---\ntitle: Wool\ntags: [a, b]\ndate: 2020-01-02\nnested: {x: 1}\nlang: de\n---\nOk")
    assert (parsed.title, parsed.text, parsed.language) == ("Wool", "Ok", "de")
    assert parsed.metadata == {"tags": ("a", "b"), "date": "2020-01-02"}


@pytest.mark.parametrize("text", ["---\nnot: [yaml\n---\nbody", "---\njust prose\n---\nbody", "---\nbody"])
def test_a_rule_at_the_top_is_no_front_matter(text: str) -> None:
    assert "body" in read(text).text
    assert read(text).metadata == {}


def test_a_long_file_is_read_by_stretches_without_a_seam() -> None:
    part = "## Part {0}\n\nText {0} with [a link][x{0}] and\n\n- item {0}\n\n```\n# code {0}\n\ntext\n```\n\n"
    text = "".join(part.format(number) for number in range(8_000)) + "".join(f"[x{n}]: /u\n" for n in range(8_000))
    parsed = read(text)
    assert [section.label for section in parsed.sections] == [f"Part {number}" for number in range(8_000)]
    assert parsed.text.count("a link and") == 8_000
    assert parsed.text.count("# code ") == 8_000


@pytest.mark.parametrize("text", [">" * 500 + " deep", "".join("  " * n + f"- item{n}\n" for n in range(120))])
def test_what_nests_too_deep_for_the_parser_is_not_lost(text: str) -> None:
    parsed = read(text + "\n\nafter")
    assert parsed.text.split()[-1] == "after"
    assert "deep" in parsed.text or "item119" in parsed.text


@pytest.mark.parametrize("unit", ["[", "*a ", "`a ", "![[", "<a ", "_a __a ", "[a](b", "**a *b ", "\\", "word "])
def test_time_is_bounded_for_degenerate_lines(unit: str) -> None:
    began = time.process_time()
    read(unit * (40_000 // len(unit)))
    assert time.process_time() - began < 60
