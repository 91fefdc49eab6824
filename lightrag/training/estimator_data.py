"""Training data of the token estimator, as it is served: questions with their end, passages with what opens them.

Knows files and tokenizers, no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.training.rows import Row, read_rows
from lightrag.training.tasks import MarkedPassage, RankedPassages


class EstimatorReader:
    """Reads both kinds of samples for one tokenizer.

    Args:
        tokenizer: of the estimator.
        opening: ids in front of every text.
        end_ids: behind every question, see :func:`lightrag.latents.estimator.published_end`.
        max_tokens: longer passages of rankings are cut, published 512.
    """

    def __init__(
        self,
        tokenizer: HuggingFaceTokenizer,
        opening: Sequence[int] = (),
        end_ids: Sequence[int] = (),
        *,
        max_tokens: int = 512,
    ) -> None:
        self._tokenizer = tokenizer
        self._opening = tuple(opening)
        self._end = tuple(end_ids)
        self._max_tokens = max_tokens

    def rankings(self, source: str | Path, *, passages: int = 8) -> list[RankedPassages]:
        """Read rows ``{"query": …, "pos": […], "neg": […]}``: the first positive and as many negatives as are needed.

        Raises:
            DataError: a row has no positive or too few negatives.
        """
        samples = []
        for row in read_rows(source):
            positives, negatives = row.field("pos", list), row.field("neg", list)
            if not positives or len(negatives) < passages - 1:
                raise row.fault(
                    f"needs a positive and {passages - 1} negatives, it has {len(positives)} and {len(negatives)}"
                )
            texts = [str(positives[0]), *map(str, negatives[: passages - 1])]
            rows = [(*self._opening, *ids)[: self._max_tokens] for ids in self._tokenizer.ids_of(texts)]
            samples.append(RankedPassages(self._question(row), tuple(rows)))
        return samples

    def marked(self, source: str | Path) -> list[MarkedPassage]:
        """Read rows ``{"query": …, "passage": …, "gold": [what in the passage answers, word for word]}``.

        Raises:
            DataError: a row lacks a field, or what it marks is not in the passage.
        """
        samples = []
        for row in read_rows(source):
            passage = row.field("passage", str)
            ids = self._tokenizer.ids_of([passage])[0]
            gold = self._gold(row, passage)
            samples.append(MarkedPassage(self._question(row), (*self._opening, *ids), gold))
        return samples

    def _question(self, row: Row) -> tuple[int, ...]:
        return (*self._opening, *self._tokenizer.ids_of([row.field("query", str)])[0], *self._end)

    def _gold(self, row: Row, passage: str) -> tuple[int, ...]:
        spans = self._tokenizer.spans(passage)
        marked: set[int] = set()
        for text in row.field("gold", list):
            start = passage.find(text) if isinstance(text, str) and text else -1
            if start < 0:
                raise row.fault(f"marks {str(text)[:80]!r}, which is not in its passage")
            end = start + len(text)
            marked |= {place for place, span in enumerate(spans) if span.start < end and span.end > start}
        if not marked:
            raise row.fault("marks nothing in its passage")
        return tuple(place + len(self._opening) for place in sorted(marked))


__all__ = ["EstimatorReader"]
