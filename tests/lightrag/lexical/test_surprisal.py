from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lightrag.lexical import SurprisalScorer, TextCompressor

TEXT = "In the first winter the ice closed the bay for forty days, and the council voted to build a longer pier."


def test_surprisal_belongs_to_the_token_itself(tiny_qwen2: Path) -> None:
    scorer = SurprisalScorer(tiny_qwen2)
    ids = scorer.tokenizer.ids_of([TEXT])[0]
    model = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    with torch.inference_mode():
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [-logs[index - 1, ids[index]].item() / np.log(2) for index in range(1, len(ids))]
    np.testing.assert_allclose(scorer.surprisal(ids)[1:], expected, rtol=1e-4)
    assert scorer.surprisal(ids)[0] == pytest.approx(max(expected), rel=1e-4)


def test_windows_cover_every_token_once_and_read_their_overlap(tiny_qwen2: Path) -> None:
    whole, windowed = SurprisalScorer(tiny_qwen2), SurprisalScorer(tiny_qwen2, window=16, overlap=6)
    ids = whole.tokenizer.ids_of([TEXT * 2])[0]
    values = windowed.surprisal(ids)
    assert len(values) == len(ids)
    np.testing.assert_allclose(values[1:16], whole.surprisal(ids)[1:16], rtol=1e-4)
    again = SurprisalScorer(tiny_qwen2).surprisal(ids[10:26])
    np.testing.assert_allclose(values[16:26], again[6:], rtol=1e-4)


def test_words_stay_whole_and_the_first_is_kept(tiny_qwen2: Path) -> None:
    result = TextCompressor(SurprisalScorer(tiny_qwen2)).compress([TEXT], rate=0.4)[0]
    assert set(result.text.split()) <= set(TEXT.split())
    assert result.text.startswith("In")
    assert 0 < result.rate < 0.6


def test_empty_and_single_word_texts_are_fine(tiny_qwen2: Path) -> None:
    compressor = TextCompressor(SurprisalScorer(tiny_qwen2))
    results = compressor.compress(["", "   ", "word"], rate=0.5)
    assert [item.text for item in results[:2]] == ["", ""]
