"""What text compression without a model keeps of the evidence, at several ratios.

Run from the project's root, with a folder of HotpotQA questions as in the official distractor file::

    python -m tests.benchmarks.compression_quality PATH/questions.json

Each question's ten passages are compressed together. ``answer`` is the share of questions whose answer string is still
there (of those where it was), ``facts`` the share of supporting sentences that are kept whole. ``first`` keeps the
beginning of every passage, the usual alternative.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from lightrag.lexical import StatisticalScorer, TextCompressor
from lightrag.models.tokenization import EstimatingTokenizer

Compress = Callable[[Sequence[str], int, str], list[str]]


def statistics(unit: str, relevance_weight: float = 0.8) -> Compress:
    """Our default, by sentences or words."""
    compressor = TextCompressor(StatisticalScorer(unit, relevance_weight=relevance_weight))  # type: ignore[arg-type]  # one of its values

    def run(texts: Sequence[str], target: int, question: str) -> list[str]:
        return [item.text for item in compressor.compress(texts, target_tokens=target, query=question)]

    return run


def first(texts: Sequence[str], target: int, question: str) -> list[str]:
    """The beginning of every passage."""
    tokenizer = EstimatingTokenizer()
    share = target // len(texts)
    return [text[: spans[min(share, len(spans)) - 1].end] if (spans := tokenizer.spans(text)) else "" for text in texts]


def measure(questions: Sequence[dict[str, Any]], compress: Compress, ratio: float) -> tuple[float, float]:
    """Shares of answers and of supporting sentences that are left."""
    count = EstimatingTokenizer().count
    answers = kept_answers = facts = kept_facts = 0
    for item in questions:
        texts = ["".join(sentences) for _, sentences in item["context"]]
        left = compress(texts, int(sum(map(count, texts)) / ratio), item["question"])
        if item["answer"] in " ".join(texts):
            answers += 1
            kept_answers += item["answer"] in " ".join(left)
        passages = {title: (sentences, text) for (title, sentences), text in zip(item["context"], left, strict=True)}
        for title, number in item["supporting_facts"]:
            sentences, text = passages[title]
            if number < len(sentences):
                facts += 1
                kept_facts += sentences[number].strip() in text
    return kept_answers / max(1, answers), kept_facts / max(1, facts)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What text compression keeps.")
    parser.add_argument("questions", type=Path)
    questions = json.loads(parser.parse_args().questions.read_text(encoding="utf-8"))
    methods = {"sentences": statistics("sentence"), "words": statistics("word"), "first": first}
    print(f"{'method':12} {'ratio':>6} {'answer':>8} {'facts':>8}")
    for name, compress in methods.items():
        for ratio in (2, 4, 8):
            answer, facts = measure(questions, compress, ratio)
            print(f"{name:12} {ratio:6} {answer:8.3f} {facts:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
