"""Cut texts to what an embedder reads, for comparisons only: what is stored or quoted is never cut."""

from __future__ import annotations

from collections.abc import Sequence

from lightrag.models.base import Embedder


def within_reach(embedder: Embedder, texts: Sequence[str]) -> list[str]:
    """Return each text, or as much of its head as ``embedder`` reads."""
    limit = embedder.max_tokens
    bounded = []
    for text in texts:
        # A token spans at least one byte, so short texts need no tokenisation.
        spans = embedder.tokenizer.spans(text) if len(text.encode()) > limit else []
        bounded.append(text if len(spans) <= limit else text[: spans[limit - 1].end])
    return bounded


__all__ = ["within_reach"]
