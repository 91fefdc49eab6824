"""Training data of beacon models, in the published fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightrag.errors import DataError, UsageError
from lightrag.memory.beacon.loss import IGNORED, LabelledTokens
from lightrag.models.local.rendering import PromptRenderer
from lightrag.training.memory_data import pack_texts, read_samples
from lightrag.training.rows import read_rows
from tests.checkpoints import save_causal_lm

WIDE = {"min_tokens": 1, "max_tokens": 1000}


@pytest.fixture
def renderer(tiny_qwen2: Path) -> PromptRenderer:
    return PromptRenderer(tiny_qwen2, "tiny")


def write(file: Path, *rows: object) -> Path:
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return file


def talk(*contents: str, first: str = "user") -> dict[str, Any]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return {"conversations": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]}


def counted(renderer: PromptRenderer, sample: LabelledTokens) -> str:
    return str(renderer.pretrained.decode([label for label in sample.labels if label != IGNORED]))


class TestTexts:
    def test_short_texts_are_skipped_long_ones_cut_and_only_whole_ones_ended(
        self, renderer: PromptRenderer, tmp_path: Path
    ) -> None:
        texts = ["the", "the pier " * 8, "the bay " * 40]
        file = write(tmp_path / "t.jsonl", *({"text": text} for text in texts))
        whole, cut = read_samples(file, renderer, min_tokens=5, max_tokens=30)
        ids = renderer.tokenizer.ids_of(texts)
        assert list(whole.token_ids) == [*ids[1], renderer.pretrained.eos_token_id]
        assert list(cut.token_ids) == ids[2][:30]
        for sample in (whole, cut):
            assert np.array_equal(sample.labels, sample.token_ids)

    def test_blocks_join_texts_and_lose_only_the_end(self, renderer: PromptRenderer, tmp_path: Path) -> None:
        texts = [f"{word} pier was opened by the mayor" for word in ("first", "second", "third", "fourth")]
        file = write(tmp_path / "t.jsonl", *({"text": text} for text in texts))
        blocks = pack_texts(file, renderer, [8, 13], seed=3)
        end = renderer.pretrained.eos_token_id
        everything = [token for ids in renderer.tokenizer.ids_of(texts) for token in (*ids, end)]
        joined = [int(token) for block in blocks for token in block.token_ids]
        assert joined == everything[: len(joined)]
        assert len(everything) - len(joined) < 13
        assert {len(block.token_ids) for block in blocks} == {8, 13}
        again = pack_texts(file, renderer, [8, 13], seed=3)
        assert [len(block.token_ids) for block in again] == [len(block.token_ids) for block in blocks]

    def test_a_tokenizer_that_opens_texts_opens_samples(self, tmp_path: Path) -> None:
        from tokenizers import processors
        from transformers import AutoTokenizer

        folder = save_causal_lm(tmp_path / "bos")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        start = tokenizer.convert_tokens_to_ids("<|im_start|>")
        tokenizer.bos_token = "<|im_start|>"
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
        )
        tokenizer.save_pretrained(folder)
        [sample] = read_samples(write(tmp_path / "t.jsonl", {"text": "the bay"}), PromptRenderer(folder, "x"), **WIDE)
        assert sample.token_ids[0] == start


class TestConversations:
    def test_only_what_the_assistant_says_counts(self, renderer: PromptRenderer, tmp_path: Path) -> None:
        file = write(tmp_path / "c.jsonl", talk("Who?", " The mayor. ", "When?", "In 1874."))
        [sample] = read_samples(file, renderer, **WIDE)
        assert counted(renderer, sample) == "The mayor.<|im_end|>In 1874.<|im_end|>"
        assert renderer.pretrained.decode(sample.token_ids) == (
            "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nThe mayor.<|im_end|>\n"
            "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\nIn 1874.<|im_end|>"
        )

    def test_turns_before_the_user_and_after_the_last_answer_are_dropped(
        self, renderer: PromptRenderer, tmp_path: Path
    ) -> None:
        file = write(tmp_path / "c.jsonl", talk("Hello.", "Who?", "The mayor.", "Thanks.", first="assistant"))
        [sample] = read_samples(file, renderer, **WIDE)
        text = renderer.pretrained.decode(sample.token_ids)
        assert "Hello" not in text
        assert "Thanks" not in text
        assert counted(renderer, sample) == "The mayor.<|im_end|>"

    def test_what_looks_like_the_end_of_a_turn_is_text(self, renderer: PromptRenderer, tmp_path: Path) -> None:
        file = write(tmp_path / "c.jsonl", talk("Say <|im_end|>", "<|im_end|>"))
        [sample] = read_samples(file, renderer, **WIDE)
        end = renderer.pretrained.eos_token_id
        assert list(sample.token_ids).count(end) == 2
        assert list(sample.labels).count(end) == 1
        assert sample.labels[-1] == end

    def test_without_a_chat_template_the_answer_is_ended_too(self, tmp_path: Path) -> None:
        folder = save_causal_lm(tmp_path / "plain", chat_template=None)
        plain = PromptRenderer(folder, "plain")
        [sample] = read_samples(write(tmp_path / "c.jsonl", talk("Who?", "The mayor.")), plain, **WIDE)
        assert counted(plain, sample) == "The mayor.<|im_end|>"

    def test_those_outside_the_bounds_are_skipped(self, renderer: PromptRenderer, tmp_path: Path) -> None:
        file = write(tmp_path / "c.jsonl", talk("Who?", "The mayor."), talk("Who? " * 30, "The mayor."))
        assert len(read_samples(file, renderer, min_tokens=1, max_tokens=40)) == 1
        assert len(read_samples(file, renderer, min_tokens=41, max_tokens=400)) == 1

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"conversations": "x"}, "'conversations' of type list"),
            (talk("Who?"), "no answer of an assistant"),
            ({"conversations": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}, "no user's"),
            ({"conversations": [{"role": "user", "content": "a"}, "b"]}, "no user's"),
            ({"title": "x"}, "'text' of type str"),
        ],
    )
    def test_bad_rows_are_named(self, row: object, message: str, renderer: PromptRenderer, tmp_path: Path) -> None:
        file = write(tmp_path / "c.jsonl", {"text": "fine"}, row)
        with pytest.raises(DataError, match=f"line 2 .*{message}"):
            read_samples(file, renderer, **WIDE)


class TestRows:
    def test_a_list_in_a_json_file_is_read_like_lines(self, tmp_path: Path) -> None:
        rows = [{"text": str(number)} for number in range(4)]
        (tmp_path / "a.json").write_text("\n " + json.dumps(rows), encoding="utf-8")
        write(tmp_path / "b.json", *rows)
        assert [row.values for row in read_rows(tmp_path / "a.json")] == rows
        assert [row.values for row in read_rows(tmp_path / "b.json")] == rows

    def test_a_sample_is_always_the_same_and_in_order(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl", *({"n": number} for number in range(50)))
        drawn = [row.values["n"] for row in read_rows(f"{file}[7]")]
        assert len(drawn) == 7
        assert drawn == sorted(drawn)
        assert drawn == [row.values["n"] for row in read_rows(f"{file}[7]")]
        with pytest.raises(UsageError, match=r"asks for 51 rows, .* has 50"):
            list(read_rows(f"{file}[51]"))

    def test_lines_end_where_json_says(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": "one\u2028two"}\n{"text": "b"}', encoding="utf-8")
        assert [row.values["text"] for row in read_rows(tmp_path / "a.jsonl")] == ["one\u2028two", "b"]

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"nowhere\.jsonl.* cannot be read"):
            list(read_rows(tmp_path / "nowhere.jsonl"))
