"""A tiny encoder, trained here, keeps what a question needs: the small version of the learning benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.compression_learning import QUICK, draw, learn


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_selective_compression_beats_even_compression_on_unseen_questions(tmp_path: Path) -> None:
    curve = learn(QUICK, tmp_path)
    assert curve.raw > 0.9
    assert curve.selective[4] > 0.8 * curve.raw
    for ratio in (4, 8):
        assert curve.selective[ratio] > curve.even[ratio] + 0.2
    assert curve.even[2] > curve.untrained[2] + 0.2
    draw(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
