"""A tiny beacon model, trained here, answers from memory what it cannot know otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.memory_learning import QUICK, draw, learn


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trained_beacons_remember_registers_that_training_has_not_seen(tmp_path: Path) -> None:
    curve = learn(QUICK, tmp_path)
    assert curve.raw > 0.8
    assert curve.nothing < 0.15
    for ratio in (2, 4):
        assert curve.trained[ratio] > curve.nothing + 0.4
    assert curve.trained[8] > curve.nothing + 0.2
    draw(curve, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").stat().st_size > 1000
