from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightrag.errors import DataError
from lightrag.models.local.rendering import PromptRenderer
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.training.data import read_questions, read_texts


def write(file: Path, *rows: object) -> Path:
    file.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_texts_within_the_bounds_are_read(tiny_qwen2: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", {"text": "a b c"}, {"text": "the pier " * 20}, {"text": "x " * 500})
    tokenizer = HuggingFaceTokenizer.open(tiny_qwen2)
    [ids] = read_texts(file, tokenizer, min_tokens=8, max_tokens=200, bos=1)
    assert ids == (1, *tokenizer.ids_of(["the pier " * 20])[0])


def test_questions_become_the_prompt_that_is_served(tiny_qwen2: Path, tmp_path: Path) -> None:
    row = {
        "query": "Who opened it?",
        "key": ["The pier.", "It was opened by the mayor.", "No."],
        "answers": ["the mayor"],
    }
    renderer = PromptRenderer(tiny_qwen2, "tiny")
    [sample] = read_questions(
        write(tmp_path / "q.jsonl", row), renderer, passages=2, template="Read {context} {question}"
    )
    decode = renderer.pretrained.decode
    assert decode(sample.before) == "<|im_start|>user\nRead "
    assert [decode(ids) for ids in sample.passages] == row["key"][:2]
    assert decode(sample.turns[0].prompt) == " Who opened it?<|im_end|>\n<|im_start|>assistant\n"
    assert decode(sample.turns[0].answer) == "the mayor<|im_end|>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"key": "x"}', "'key'"),
        ('{"key": [], "answers": ["a"]}', "no passage"),
    ],
)
def test_bad_lines_are_named(content: str, message: str, tiny_qwen2: Path, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"line 1 .*{message}"):
        read_questions(file, PromptRenderer(tiny_qwen2, "tiny"))
