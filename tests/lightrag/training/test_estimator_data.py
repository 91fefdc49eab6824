"""Samples of the token estimator, as it reads questions and passages when it is served."""

from __future__ import annotations

import json
from pathlib import Path

from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.training.estimator_data import EstimatorReader


def test_marked_words_are_found_behind_what_opens_the_passage(tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.open(tiny_qwen2)
    passage = "The pier was opened by the mayor in 1874, at noon."
    row = {"query": "Who?", "passage": passage, "gold": ["the mayor", "1874"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [sample] = EstimatorReader(tokenizer, (1,), (2,)).marked(tmp_path / "t.jsonl")
    assert sample.question == (1, *tokenizer.ids_of(["Who?"])[0], 2)
    assert sample.passage == (1, *tokenizer.ids_of([passage])[0])
    marked = tokenizer.fast.decode([sample.passage[place] for place in sample.gold])
    assert marked.split() == ["the", "mayor", "1874"]


def test_rankings_begin_with_the_positive_and_are_cut(tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.open(tiny_qwen2)
    row = {"query": "Who?", "pos": ["the mayor", "unused"], "neg": ["the bay " * 9, "the ship", "unused"]}
    (tmp_path / "r.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [sample] = EstimatorReader(tokenizer, (1,), (), max_tokens=6).rankings(tmp_path / "r.jsonl", passages=3)
    expected = [(1, *ids)[:6] for ids in tokenizer.ids_of(["the mayor", "the bay " * 9, "the ship"])]
    assert list(sample.passages) == expected
    assert len(sample.passages[1]) == 6
