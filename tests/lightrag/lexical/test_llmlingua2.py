from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightrag.errors import ArtifactError, LimitError
from lightrag.lexical import Forcing, LLMLingua2, TextCompressor
from lightrag.lexical.words import find_convention
from lightrag.types import Span

from .checkpoints import TEXT, save_token_classifier

LONG = " ".join(f"{TEXT} Entry {number} follows." for number in range(12))


@pytest.fixture(scope="module", params=["bert", "xlm-roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The released package tells the two kinds apart by these words in the path.
    name = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}[request.param]
    return save_token_classifier(tmp_path_factory.mktemp("llmlingua") / name, request.param)


class LetterCount:
    """Counts a token per three characters of a word: the same measure for both implementations."""

    fingerprint = "letters"

    def count(self, text: str) -> int:
        return sum(-(-len(word.lstrip("▁")) // 3) for word in text.split())

    def spans(self, text: str) -> list[Span]:
        raise NotImplementedError


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import llmlingua.prompt_compressor as module

    class Counter:
        def encode(self, text: str) -> list[int]:
            return [0] * LetterCount().count(text)

    # The package downloads GPT-3.5's vocabulary to weigh words; ours is told to weigh by the same measure.
    monkeypatch.setattr(module.tiktoken, "encoding_for_model", lambda _: Counter())
    return module.PromptCompressor(str(folder), device_map="cpu", use_llmlingua2=True)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.8])
def test_words_kept_are_those_of_the_released_package(folder: Path, package: Any, rate: float) -> None:
    # The package makes a word of its own of a lone space mark; such words are left out of the comparison's text.
    text = " ".join(word for word in TEXT.split() if package.tokenizer.tokenize(word)[0] != "▁")
    result = package.compress_prompt_llmlingua2([text], rate=rate, return_word_label=True)
    labelled = [item.rsplit(" ", 1) for item in result["fn_labeled_original_prompt"].split("\t\t|\t\t")]
    expected = [word for word, kept in labelled if kept == "1" and word not in {"", "▁"}]
    ours = TextCompressor(LLMLingua2(folder, compat="llmlingua"), LetterCount()).compress([text], rate=rate)[0]
    kept = [text[start:end] for start, end in ours.kept]
    assert kept == expected
    if "xlm" in str(folder):
        assert ours.text.split() == result["compressed_prompt"].split()


def test_digits_and_forced_words_are_always_kept(folder: Path) -> None:
    scorer = LLMLingua2(folder)
    options = Forcing(("Marta", "?"), digits=True)
    ours = TextCompressor(scorer, LetterCount(), force=options).compress([TEXT], rate=0.3)[0]
    kept = {TEXT[start:end] for start, end in ours.kept}
    assert {"1871", "3", "200", "1911", "1840", "1912"} <= {word.strip("(%.") for word in kept}
    assert ours.text.count("Marta") == 2
    assert "?" in ours.text


def test_probabilities_do_not_depend_on_what_else_is_in_the_batch(folder: Path) -> None:
    scorer = LLMLingua2(folder)
    texts = [TEXT, "Short.", "", "One two three four.", TEXT[100:300]]
    for alone, together in zip([scorer.read([text])[0] for text in texts], scorer.read(texts), strict=True):
        np.testing.assert_allclose(alone.probabilities, together.probabilities, atol=1e-5)
        assert alone.spans == together.spans


def test_long_texts_are_read_in_windows_that_end_at_sentences(folder: Path) -> None:
    reading = LLMLingua2(folder).read([LONG])[0]
    assert len(reading.tokens) > 512
    assert max(reading.windows) >= 1
    for number, group in itertools.groupby(range(len(reading.tokens)), key=lambda index: reading.windows[index]):
        members = list(group)
        assert len(members) <= 510
        if number < max(reading.windows):
            assert reading.tokens[members[-1]] == "."


def test_words_cover_everything_but_white_space_in_any_script(folder: Path) -> None:
    text = "Ünïcode “quotes”, 港口办公室保存着记录。 🙂 emoji\tand\nlines\u00a0too"
    units = LLMLingua2(folder).score([text])[0]
    covered = {at for unit in units for at in range(unit.start, unit.end)}
    assert {at for at, char in enumerate(text) if not char.isspace()} <= covered
    assert all(a.end <= b.start for a, b in itertools.pairwise(units))


def test_attention_comes_from_the_pass_that_scores_the_words(folder: Path) -> None:
    scorer = LLMLingua2(folder)
    texts = [TEXT[:90], TEXT[90:200], "And then?"]
    joint = scorer.read_together(texts, layers=[1, 2])
    assert joint.attention.shape[0] == joint.attention.shape[1] == sum(len(r.tokens) for r in joint.readings) + 2
    np.testing.assert_allclose(joint.attention.sum(1), 1, atol=1e-4)
    assert joint.ranges[0][0] == 1
    assert joint.ranges[-1][1] == joint.attention.shape[0] - 1
    alone = scorer.read_together(texts[:1], layers=[1]).readings[0]
    np.testing.assert_allclose(alone.probabilities, scorer.read(texts[:1])[0].probabilities, atol=1e-5)
    with pytest.raises(LimitError, match="one pass"):
        scorer.read_together([LONG], layers=[1])


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    three = save_token_classifier(tmp_path / "three", "bert", num_labels=3)
    with pytest.raises(ArtifactError, match="3 labels"):
        LLMLingua2(three).read(["text"])


def test_conventions_are_told_from_the_vocabulary() -> None:
    assert find_convention(["▁the", "▁a", "b"]) == "metaspace"
    assert find_convention(["##ing", "the"]) == "wordpiece"
    assert find_convention(["Ġthe", "b"]) == "bytes"
