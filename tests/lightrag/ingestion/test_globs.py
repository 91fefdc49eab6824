from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.ingestion.globs import has_wildcard, split_pattern

NAMES = st.text("ab.1", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})
PARTS = st.sampled_from(["*", "**", "?", "a*", "*.1", "[ab]", "[!a]b", "a", "b"])


@pytest.mark.parametrize(
    ("pattern", "base", "hits", "misses"),
    [
        ("docs/*.md", "docs", ["a.md"], ["x/a.md", "a.txt"]),
        ("docs/**/*.md", "docs", ["a.md", "x/a.md", "x/y/a.md"], ["a.txt"]),
        ("/srv/20[12]?/r?port.pdf", "/srv", ["2013/report.pdf"], ["2013/rport.pdf", "2033/report.pdf"]),
        ("**", "", ["a", "a/b"], []),
        ("a/[!x]*", "a", ["yes"], ["xno"]),
        ("a/(b)+*", "a", ["(b)+c"], ["bbc"]),
        ("/*.md", "/", ["a.md"], ["a/b.md"]),
    ],
)
def test_a_glob_matches_what_shells_match(pattern: str, base: str, hits: list[str], misses: list[str]) -> None:
    found = split_pattern(pattern)
    assert found.base == base
    assert [name for name in hits if not found.matches.fullmatch(name)] == []
    assert [name for name in misses if found.matches.fullmatch(name)] == []


def test_a_path_without_wildcards_is_no_glob() -> None:
    assert not has_wildcard("docs/a (1).md")
    assert has_wildcard("docs/*.md")


@settings(deadline=None, max_examples=60)
@given(
    files=st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8),
    parts=st.lists(PARTS, min_size=1, max_size=3),
)
def test_agrees_with_pathlib(
    tmp_path_factory: pytest.TempPathFactory, files: set[tuple[str, ...]], parts: list[str]
) -> None:
    root = tmp_path_factory.mktemp("glob")
    for file in files:
        path = root.joinpath(*file)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x", encoding="utf-8")
    pattern = "/".join(parts)
    if not has_wildcard(pattern) or pattern.endswith("**"):
        return  # pathlib before 3.13 lists only folders for a final **
    found = split_pattern(pattern)
    base = root / found.base
    everything = (
        [path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()] if base.is_dir() else []
    )
    matched = {Path(found.base, name).as_posix() for name in everything if found.matches.fullmatch(name)}
    assert matched == {path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file()}
