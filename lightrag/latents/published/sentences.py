"""Where the sentences of encoder inputs begin, and their order of importance, as FlexRAG determines both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.latents.published.flexrag import SentenceImportance, group_sentences

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, special tokens added and read, as a ``transformers`` tokenizer called with a text."""
Decode = Callable[[Sequence[int]], str]
"""Text of token ids, special tokens written out."""


def sentence_boundaries(
    inputs: Sequence[Sequence[int]], sentences: Sequence[Sequence[str]], encode: Encode, decode: Decode
) -> tuple[tuple[int, int], ...]:
    """First position of every sentence, as (input, position); each input ends with an extra entry of its length.

    A sentence begins at the first token in which the text up to it and the text up to the one before differ.

    Args:
        inputs: ids of the encoder inputs.
        sentences: the sentences of each input's decoded text, in order.
        encode: of the language model's tokenizer.
        decode: of the same.

    Raises:
        UsageError: a sentence does not stand in its input's text.
    """
    boundaries: list[tuple[int, int]] = []
    for number, (ids, row) in enumerate(zip(inputs, sentences, strict=True)):
        text = decode(ids)
        deviation = len(encode(text)) - len(ids)
        prefixes = [encode(text[:end]) for end in _ends(text, row)]
        starts = [_first_difference(before, after) - deviation for before, after in pairwise(prefixes)]
        boundaries += [(number, 0), *((number, start) for start in starts), (number, len(ids))]
    return tuple(boundaries)


def rank_sentences(
    boundaries: Sequence[tuple[int, int]], vectors: NDArray[np.float32], question: NDArray[np.float32]
) -> SentenceImportance:
    """Order sentences by the cosine of their unit vectors and the question's.

    Args:
        boundaries: from :func:`sentence_boundaries`.
        vectors: of all sentences in order, shape (sentences, dimension).
        question: shape (dimension,).
    """
    groups = group_sentences(boundaries)
    ids = [sentence for group in groups for sentence in group]
    order = np.argsort(-(vectors @ question), kind="stable")
    return SentenceImportance(tuple(boundaries), tuple(ids[index] for index in order), groups)


def _ends(text: str, sentences: Sequence[str]) -> list[int]:
    ends, at = [], 0
    for sentence in sentences:
        start = text.find(sentence, at)
        if start < 0:
            raise UsageError(f"sentence {sentence!r} does not stand in the input's text behind position {at}")
        at = start + len(sentence)
        ends.append(at)
    return ends


def _first_difference(before: Sequence[int], after: Sequence[int]) -> int:
    length = min(len(before), len(after))
    return next((index for index in range(length) if before[index] != after[index]), length)


__all__ = ["Decode", "Encode", "rank_sentences", "sentence_boundaries"]
