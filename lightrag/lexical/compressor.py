"""Compresses texts with any scorer, to a rate or to a number of tokens.

What a word or sentence is worth is the scorer's business; how much is kept, what is forced and how the rest is put
together again is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightrag.errors import UsageError
from lightrag.lexical.relevance import rate_sentences
from lightrag.lexical.selection import (
    assemble,
    drop_repeats,
    fit,
    force_units,
    select_by_rate,
    select_by_tokens,
    spans,
)
from lightrag.lexical.units import CompressedText, Scorer, Unit
from lightrag.types import Tokenizer


@dataclass(frozen=True, slots=True)
class Forcing:
    """What is kept whatever it scores."""

    strings: tuple[str, ...] = ()
    """Words, punctuation or white space such as a line break; found as whole words."""
    digits: bool = False
    """Keep every word that holds a digit."""
    collapse: bool = False
    """Of forced units that come to stand next to an equal one, keep the first only."""


class TextCompressor:
    """Makes texts shorter. Safe to share between threads if the scorer is.

    Example:
        >>> from lightrag.lexical import StatisticalScorer
        >>> compressor = TextCompressor(StatisticalScorer())
        >>> text = "Ada Lovelace wrote the first program. It was a nice day. Lunch was served."
        >>> compressor.compress([text], target_tokens=16, query="Who wrote the program?")[0].text
        'Ada Lovelace wrote the first program.'

    Args:
        scorer: what words are worth.
        tokenizer: in whose tokens targets are given, usually the generator's; ``None``: the scorer's own.
        force: what is always kept.
        query_weight: 0 to 1: how far a word's score is raised towards the best by its sentence's relevance to the
            query. For scorers that are not query-aware themselves.
    """

    def __init__(
        self,
        scorer: Scorer,
        tokenizer: Tokenizer | None = None,
        *,
        force: Forcing | None = None,
        query_weight: float = 0.0,
    ) -> None:
        if not 0 <= query_weight <= 1:
            raise UsageError(f"query_weight must lie between 0 and 1, not {query_weight}")
        self.scorer = scorer
        self.tokenizer = tokenizer or scorer.tokenizer
        self._own_tokens = tokenizer is None or tokenizer.fingerprint == scorer.tokenizer.fingerprint
        self._force = force or Forcing()
        self._query_weight = query_weight

    def compress(
        self,
        texts: Sequence[str],
        *,
        rate: float | None = None,
        target_tokens: int | None = None,
        query: str = "",
        per_text: bool = False,
    ) -> list[CompressedText]:
        """Compress texts in one batch.

        Args:
            texts: sources; an empty one stays empty.
            rate: share of each text's tokens to keep, above 0, at most 1; the threshold is LLMLingua-2's.
            target_tokens: most tokens that all results may have together; the best units of all texts share it.
            query: what the texts are read for.
            per_text: ``target_tokens`` is for each text by itself.

        Raises:
            UsageError: not exactly one of ``rate`` and ``target_tokens`` is given, or it is out of range.
        """
        if (rate is None) == (target_tokens is None):
            raise UsageError("give either rate or target_tokens")
        if target_tokens is not None and target_tokens < 0:
            raise UsageError(f"target_tokens must not be negative, not {target_tokens}")
        scored = self._scored(texts, query)
        prepared = [
            force_units(text, units, self._force.strings, digits=self._force.digits)
            for text, units in zip(texts, scored, strict=True)
        ]
        prepared = [(self._measured(text, units), own) for text, (units, own) in zip(texts, prepared, strict=True)]
        if rate is not None:
            chosen = [select_by_rate(units, rate, forced) for units, forced in prepared]
            return [self._finish(*item) for item in zip(texts, prepared, chosen, strict=True)]
        target = target_tokens or 0
        if per_text:
            return [self._to_target([text], [item], target)[0] for text, item in zip(texts, prepared, strict=True)]
        return self._to_target(texts, prepared, target)

    def _scored(self, texts: Sequence[str], query: str) -> list[list[Unit]]:
        rows = self.scorer.score(texts, query)
        if not self._query_weight or not query.strip():
            return rows
        top = max((unit.score for row in rows for unit in row), default=0.0)
        rated = rate_sentences(texts, query)
        raised = []
        for row, sentences in zip(rows, rated, strict=True):
            relevance = _at([sentence.span for sentence in sentences], [item.relevance for item in sentences], row)
            raised.append(
                [
                    replace(unit, score=unit.score + self._query_weight * value * max(0.0, top - unit.score))
                    for unit, value in zip(row, relevance, strict=True)
                ]
            )
        return raised

    def _to_target(
        self, texts: Sequence[str], prepared: Sequence[tuple[list[Unit], set[int]]], target: int
    ) -> list[CompressedText]:
        measured = [units for units, _ in prepared]
        pool = [unit for row in measured for unit in row]
        offsets = [0]
        for row in measured:
            offsets.append(offsets[-1] + len(row))
        forced = {start + index for start, (_, own) in zip(offsets, prepared, strict=False) for index in own}
        kept = select_by_tokens(pool, target, forced)
        if pool and target and not kept:
            return self._cut_best(texts, measured, target)
        results, left = [], target
        for text, row, (_, own), start in zip(texts, measured, prepared, offsets, strict=False):
            mine = [index - start for index in kept if start <= index < start + len(row)]
            results.append(self._finish(text, (row, own), mine, left))
            left -= results[-1].tokens
        return results

    def _cut_best(self, texts: Sequence[str], rows: Sequence[Sequence[Unit]], target: int) -> list[CompressedText]:
        """Where not even one unit fits, keep the beginning of the best one."""
        owner, best = max(
            ((number, unit) for number, row in enumerate(rows) for unit in row), key=lambda pair: pair[1].score
        )
        source = texts[owner][best.start : best.end]
        tokens = self.tokenizer.spans(source)
        pieces = [Unit(best.start + start, best.start + end, best.score, 1) for start, end in tokens if end > start]
        kept = list(range(min(target, len(pieces))))
        while kept and self.tokenizer.count(assemble(texts[owner], pieces, kept)) > target:
            kept.pop()
        return [
            self._finish(text, (pieces, set()), kept)
            if number == owner
            else CompressedText("", (), 0, self.tokenizer.count(text))
            for number, text in enumerate(texts)
        ]

    def _measured(self, text: str, units: Sequence[Unit]) -> list[Unit]:
        if self._own_tokens:
            return list(units)
        # With the white space before it, since that is how most tokenizers see a word in running text.
        return [
            replace(
                unit, tokens=max(1, self.tokenizer.count((" " if unit.start else "") + text[unit.start : unit.end]))
            )
            for unit in units
        ]

    def _finish(
        self, text: str, prepared: tuple[Sequence[Unit], set[int]], kept: Sequence[int], limit: int | None = None
    ) -> CompressedText:
        units, forced = prepared
        size = self.tokenizer.count(text)
        everything = bool(units) and len(kept) == len(units) and not self._force.collapse
        if everything and (limit is None or size <= limit):
            return CompressedText(text, spans(units, kept), size, size)
        if self._force.collapse:
            kept = drop_repeats(text, units, kept, forced)
        if limit is not None:
            kept = fit(text, units, kept, limit, self.tokenizer.count, forced)
        result = assemble(text, units, kept)
        return CompressedText(result, spans(units, kept), self.tokenizer.count(result), size)


def _at(sentences: Sequence[tuple[int, int]], values: Sequence[float], units: Sequence[Unit]) -> list[float]:
    """The value of the sentence in which each unit starts; both are in text order."""
    result, index = [], 0
    for unit in units:
        while index < len(sentences) and sentences[index][1] <= unit.start:
            index += 1
        inside = index < len(sentences) and sentences[index][0] <= unit.start
        result.append(values[index] if inside else 0.0)
    return result


__all__ = ["Forcing", "TextCompressor"]
