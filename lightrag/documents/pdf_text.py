"""Repairs what setting a text in lines and pages did to it.

Page numbers amid the text, hyphens at line ends, sentences cut by a page's end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

_BROKEN_WORD = re.compile(r"([^\W\d_]+)[-\u2010]\n([^\W\d_]+)([^\w\s]*)[ \n]?")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_TRAILING_SPACE = re.compile(r"[^\S\n]+(?=\n|\Z)")
_ENDED = re.compile("[.!?…:。！？．؟۔।॥][\"'”’»)\\]」』）》]*\\Z")
_PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p\.|s\.)?\W*(\d{1,5})(?:\s*(?:/|of|von)\s*\d{1,5})?\W*", re.IGNORECASE)
_FEWEST_NUMBERED_PAGES = 3
_YEARS = range(1500, 2100)
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def clean_pages(pages: Sequence[str]) -> list[str]:
    """Return the pages without their numbers, without spaces at line ends, and with divided words joined.

    A word that was hyphenated at a line end is joined where the document spells it so elsewhere, its hyphen kept where
    the document does that; without such evidence two small letters around the hyphen speak for a division.
    """
    stripped = _without_page_numbers([_TRAILING_SPACE.sub("", page).strip("\n") for page in pages])
    if not any(_BROKEN_WORD.search(page) for page in stripped):
        return stripped
    known = {word.lower() for page in stripped for word in _WORD.findall(page)}
    join = _joiner(known)
    return [_BROKEN_WORD.sub(join, page) for page in stripped]


def _without_page_numbers(pages: Sequence[str]) -> list[str]:
    """Drop the first or last line of every page that numbers it, where most pages have one and they count up."""
    result = list(pages)
    for edge in (0, -1):
        lines = [page.split("\n")[edge] for page in result]
        numbers = [_PAGE_NUMBER.fullmatch(line) for line in lines]
        # A number that counts up with the pages stands at the same distance from the page's index everywhere. Years
        # do so too where every page is about one, and those are headings.
        distances = Counter(int(n[1]) - index for index, n in enumerate(numbers) if n and int(n[1]) not in _YEARS)
        distance, count = distances.most_common(1)[0] if distances else (0, 0)
        if count < max(_FEWEST_NUMBERED_PAGES, sum(map(bool, result)) / 2):
            continue
        for index, number in enumerate(numbers):
            if number and int(number[1]) - index == distance:
                kept = result[index].split("\n")
                del kept[edge]
                result[index] = "\n".join(kept).strip("\n")
    return result


def _joiner(known: set[str]) -> Callable[[re.Match[str]], str]:
    def join(broken: re.Match[str]) -> str:
        first, second, punctuation = broken.groups()
        whole, hyphenated = first + second, f"{first}-{second}"
        is_divided = whole.lower() in known or (
            hyphenated.lower() not in known and first[-1].islower() and second[0].islower()
        )
        # The line end moves behind the word, so that lines stay about as long as they were.
        return f"{whole if is_divided else hyphenated}{punctuation}\n"

    return join


def continues(before: str, after: str) -> bool:
    """Tell whether the first words of a page go on with the last sentence of the page before."""
    before, after = before.rstrip(), after.lstrip()
    if not before or not after or _ENDED.search(before[-8:]):
        return False
    return after[0].islower() or bool(_IDEOGRAPH.match(after) and _IDEOGRAPH.match(before[-1]))


__all__ = ["clean_pages", "continues"]
