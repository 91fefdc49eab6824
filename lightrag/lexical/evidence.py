"""Fits evidence into a budget as text, with any scorer; implements :class:`lightrag.compression.Compressor`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from lightrag.compression import SEPARATOR, Allocation, CompressedContext, label
from lightrag.errors import UsageError
from lightrag.lexical.compressor import TextCompressor
from lightrag.types import ContentPart, Evidence


class EvidenceTextCompressor:
    """Fits evidence into a budget as text; implements :class:`lightrag.compression.Compressor`.

    Every passage is introduced by its number. A passage of which nothing is kept is left out, and a note says so.

    Args:
        texts: how texts are compressed; its tokenizer should be the generator's.
    """

    def __init__(self, texts: TextCompressor) -> None:
        self._texts = texts

    async def compress(self, evidence: Sequence[Evidence], budget: int, query: str) -> CompressedContext:
        """See :class:`lightrag.compression.Compressor`."""
        if budget < 1:
            raise UsageError(f"budget must be at least 1 token, not {budget}")
        if not evidence:
            raise UsageError("there is no evidence to compress")
        return await asyncio.to_thread(self._compress, tuple(evidence), budget, query)

    def _compress(self, evidence: tuple[Evidence, ...], budget: int, query: str) -> CompressedContext:
        count = self._texts.tokenizer.count
        sources = [item.chunk.text for item in evidence]
        whole = _render(dict(enumerate(sources)), range(len(sources)))
        if count("".join(whole)) <= budget:
            lengths = [count(source) for source in sources]
            return self._context(evidence, whole, list(zip(lengths, lengths, strict=True)), range(len(sources)), "raw")
        frames = [count(_heading(number)) for number in range(1, len(sources) + 1)]
        # Numbers may take half of the budget; with less room, worse passages go.
        most = max(n for n in range(len(frames) + 1) if sum(frames[:n]) <= budget // 2)
        chosen = sorted(_ranking(evidence)[: max(1, most)])
        room = max(1, budget - sum(frames[: len(chosen)]))
        compressed = self._texts.compress([sources[index] for index in chosen], target_tokens=room, query=query)
        results = {index: result for index, result in zip(chosen, compressed, strict=True) if result.text}
        kept = list(results)
        texts = {index: result.text for index, result in results.items()}
        parts = _render(texts, kept)
        # Labels and texts are counted together at the end, because tokens can merge across their borders.
        while len(kept) > 1 and count("".join(parts)) > budget:
            kept.remove(min(kept, key=lambda index: evidence[index].score))
            parts = _render(texts, kept)
        if count("".join(parts)) > budget:
            parts = (self._texts.compress([sources[kept[0]]], target_tokens=budget, query=query)[0].text,)
        sizes = [(count(source), results[index].tokens if index in kept else 0) for index, source in enumerate(sources)]
        return self._context(evidence, parts, sizes, kept, "text")

    def _context(
        self,
        evidence: Sequence[Evidence],
        parts: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        kept: Sequence[int],
        kind: str,
    ) -> CompressedContext:
        left_out = len(evidence) - len(kept)
        content: tuple[ContentPart, ...] = tuple(parts)
        reason = "fits as it is" if kind == "raw" else f"chosen by {self._texts.scorer.name}"
        return CompressedContext(
            parts=content,
            kind="raw" if kind == "raw" else "text",
            tokens=self._texts.tokenizer.count("".join(parts)),
            source_tokens=sum(source for source, _ in sizes),
            allocation=tuple(
                Allocation(item.chunk.chunk_id, 0, source, tokens, reason if tokens else "left out: nothing fits")
                for item, (source, tokens) in zip(evidence, sizes, strict=True)
            ),
            evidence=tuple(evidence[index] for index in kept),
            method="raw" if kind == "raw" else self._texts.scorer.name,
            notes=(f"{left_out} of {len(evidence)} passages did not fit the budget",) if left_out else (),
        )


def _heading(number: int) -> str:
    return (SEPARATOR if number > 1 else "") + label(number)


def _render(texts: Mapping[int, str], kept: Sequence[int]) -> tuple[str, ...]:
    return tuple(_heading(number) + texts[index] for number, index in enumerate(kept, 1))


def _ranking(evidence: Sequence[Evidence]) -> list[int]:
    return sorted(range(len(evidence)), key=lambda index: (-evidence[index].score, index))


__all__ = ["EvidenceTextCompressor"]
