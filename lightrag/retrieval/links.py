"""Finding links between passages at ingestion, in time near-linear in the text.

Neighbours need no edges (``LinkGraph.chain`` holds the reading order); this finds mentions and rare shared terms.
Relations and whatever else an application knows come from outside as further links. Passages are only ever read one
after the other, so they may come from a file, as often as they are asked for.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lightrag.documents.sections import HEADING_JOINT
from lightrag.retrieval.analysis import fold
from lightrag.retrieval.lexical import LexicalIndex
from lightrag.retrieval.link_columns import KINDS, LinkColumns
from lightrag.retrieval.names import NameTable, atoms, bare_name, canonical_name
from lightrag.retrieval.shared_terms import RARE, SHARED_NAME_LIMIT, Bonds, SharedTerms, shared_terms
from lightrag.types import Chunk


class Naming(NamedTuple):
    """Names that passages are about."""

    table: NameTable
    written: Mapping[str, str]
    """How each name of the table is written."""


def find_names(chunks: Iterable[Chunk], lexical: LexicalIndex) -> Naming:
    """Collect names from titles and headings.

    A title stands for its document's first passage, and a heading that holds a proper name for the first passage under
    it. Generic headings ("Results", "The weather") name nothing.
    """
    titles: list[tuple[str, int]] = []
    headings: list[tuple[str, int]] = []
    before: Chunk | None = None
    for row, chunk in enumerate(chunks):
        first = before is None or before.document_id != chunk.document_id
        if first and chunk.title:
            titles.append((chunk.title, row))
        if chunk.heading and (first or before is None or before.heading != chunk.heading):
            headings.append((_parts(chunk)[-1], row))
        before = chunk
    ordinary = _ordinary_words(chunks) if headings else frozenset()
    proper = [(name, row) for name, row in headings if any(atom.text not in ordinary for atom in atoms(name))]
    named = [*titles, *proper]
    table = NameTable.build(named, _common_words([name for name, _ in named], lexical))
    return Naming(table, {canonical_name(name): bare_name(name) for name, _ in named})


def mention_links(chunks: Iterable[Chunk], names: Naming) -> LinkColumns:
    """Link a passage to what it mentions by name, and back.

    A passage that is about the name itself does not mention it. A name that many passages mention says little about
    each of them: weights fall with the root of their number.
    """
    rows, targets, codes = array("i"), array("i"), array("i")
    labels: dict[str, int] = {}
    own_name = lru_cache(_REMEMBERED_NAMES)(canonical_name)
    for row, chunk in enumerate(chunks) if names.table.rows else ():
        for mention in names.table.find(chunk.text):
            if mention.name in (own_name(name) for name in (chunk.title, *_parts(chunk)) if name):
                continue
            code = labels.setdefault(names.written[mention.name], len(labels))
            for target in mention.rows:
                rows.append(row)
                targets.append(target)
                codes.append(code)
    sources, mentioned, coded = (np.array(numbers, np.int32) for numbers in (rows, targets, codes))
    weights = np.bincount(mentioned, minlength=1)[mentioned].astype(np.float64) ** -0.5
    kinds = [np.full(len(sources), KINDS.index(kind), np.uint8) for kind in ("mention", "mentioned_by")]
    there = LinkColumns(sources, mentioned, kinds[0], weights, coded, tuple(labels))
    back = LinkColumns(mentioned, sources, kinds[1], weights, coded, tuple(labels))
    return LinkColumns.joined([there, back])


def shared_name_links(chunks: Iterable[Chunk], lexical: LexicalIndex, bonds: Bonds | None = None) -> LinkColumns:
    """Link passages that share rare terms, see :mod:`~lightrag.retrieval.shared_terms`.

    Args:
        chunks: passages.
        lexical: their terms.
        bonds: as in :class:`~lightrag.retrieval.graph.Chain`. In a short document a name belongs to its title, and
            mentions lead there; so weights are scaled by the lesser bond, and links below ``LEAST_BOND`` left out.
    """
    shared = shared_terms(lexical, np.ones(lexical.passages, dtype=np.float32) if bonds is None else bonds)
    used = np.unique(shared.terms)
    words = _spelled(chunks, lexical, shared)
    labels: dict[str, int] = {}
    codes = np.array([labels.setdefault(words[term], len(labels)) for term in used.tolist()], np.int32)
    return LinkColumns(
        shared.sources,
        shared.targets,
        np.full(len(shared.sources), KINDS.index("shared_name"), np.uint8),
        shared.weights,
        codes[np.searchsorted(used, shared.terms)] if len(used) else shared.terms,
        tuple(labels),
    )


_REMEMBERED_NAMES = 4096


def _parts(chunk: Chunk) -> list[str]:
    return chunk.heading.split(HEADING_JOINT)


def _ordinary_words(chunks: Iterable[Chunk]) -> frozenset[str]:
    """Words that are somewhere written with a small letter: those are no proper names."""
    words: set[str] = set()
    for chunk in chunks:
        words.update(_WORD.findall(chunk.text))
    return frozenset(fold(word.casefold()) for word in words if word[0].islower())


_WORD = re.compile(r"\w+")


def _spelled(chunks: Iterable[Chunk], lexical: LexicalIndex, shared: SharedTerms) -> dict[int, str]:
    """How each shared term is written by the passage that shows it, because stems are no words to show; the term itself
    where no single word has it as its stem.
    """
    spelled: dict[int, str] = {}
    if not shared.shown_by:
        return spelled
    by_row: dict[int, list[int]] = {}
    for term, row in shared.shown_by.items():
        by_row.setdefault(row, []).append(term)
    terms = list(lexical.vocabulary)
    stems = lexical.analyzer.passage_terms
    for row, chunk in enumerate(chunks):
        for term in by_row.get(row, ()):
            wanted = terms[term]
            words = (word for word in _WORD.findall(chunk.text) if word[:3].casefold() == wanted[:3])
            spelled[term] = next((word for word in words if stems(word, chunk.language) == [wanted]), wanted)
    return spelled


def _common_words(titles: Sequence[str], lexical: LexicalIndex) -> frozenset[str]:
    """Words of one-word titles that occur in too many passages to be a name."""
    limit = max(RARE.stop, lexical.passages // 50)
    frequency = lexical.document_frequency()
    words = {title.strip() for title in titles if len(title.split()) == 1}
    return frozenset(
        word.casefold() for word in words if sum(int(frequency[term]) for term in lexical.query_terms(word)) > limit
    )


__all__ = ["RARE", "SHARED_NAME_LIMIT", "Naming", "find_names", "mention_links", "shared_name_links"]
