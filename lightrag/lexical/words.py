"""Groups a model's tokens into words by the conventions of its tokenizer. Knows no scores and no model."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Literal

from lightrag.types import Span

Convention = Literal["wordpiece", "metaspace", "bytes"]
"""How a vocabulary marks where words start: ``##`` on continuations, ``▁`` on beginnings, or a byte-level space."""


_SPACE_MARK = "▁"


def find_convention(vocabulary: Sequence[str]) -> Convention:
    """Tell a vocabulary's convention from its entries."""
    marks = {"wordpiece": "##", "metaspace": "▁", "bytes": "Ġ"}
    counts = {name: sum(token.startswith(mark) for token in vocabulary) for name, mark in marks.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "bytes"  # type: ignore[return-value]  # keys are the three conventions


def group_words(text: str, tokens: Sequence[str], spans: Sequence[Span], convention: Convention) -> list[list[int]]:
    """Group token indices into words.

    A token opens a word where its vocabulary says so, at ASCII punctuation in ``metaspace`` vocabularies (as
    LLMLingua-2 was released), and at every ideograph or kana, which no space separates.

    Args:
        text: the source.
        tokens: as spelt in the vocabulary.
        spans: character range of each token; tokens of empty range belong to the word before.
        convention: of the vocabulary.
    """
    words: list[list[int]] = []
    pending = False  # A lone space mark has just opened a word, whose first character it shares.
    for index, (token, span) in enumerate(zip(tokens, spans, strict=True)):
        if span.start >= span.end or text[span.start : span.end].isspace():
            if words and span.start >= span.end:
                words[-1].append(index)
            continue
        if words and (pending or not _opens(text, token, span, convention)):
            words[-1].append(index)
        else:
            words.append([index])
        pending = token == _SPACE_MARK
    return words


def trim(text: str, span: Span) -> Span:
    """The range without white space at its ends."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)


def _opens(text: str, token: str, span: Span, convention: Convention) -> bool:
    first = trim(text, span).start
    if _unspaced(text[first]) or (first and _unspaced(text[first - 1])):
        return True
    if convention == "wordpiece":
        return not token.startswith("##")
    if convention == "metaspace":
        return token.startswith(_SPACE_MARK) or token in string.punctuation
    return first == 0 or text[first - 1].isspace()


def _unspaced(char: str) -> bool:
    """Ideographs, kana and their punctuation."""
    return "\u3000" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\uffef"


__all__ = ["Convention", "find_convention", "group_words", "trim"]
