"""The windowed loss against logits that are computed without it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightrag.errors import UsageError
from lightrag.memory.beacon.loss import IGNORED, LabelledTokens, windowed_loss, windowed_losses
from lightrag.memory.beacon.model import BeaconModel
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint

IDS = [random.Random(3).randrange(3, 160) for _ in range(90)]
"""Two full windows of 32 and 26 tokens more."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_beacon_checkpoint(tmp_path_factory.mktemp("loss"))


def cross_entropy(logits: torch.Tensor, labels: list[int]) -> float:
    targets = torch.tensor([*labels[1:], IGNORED])
    return float(torch.nn.functional.cross_entropy(logits, targets))


@pytest.mark.parametrize("override", [{}, {"beacon_pos": "append"}, {"beacon_ratio": [2, 8]}])
def test_evaluation_loss_is_that_of_the_logits_of_reading(folder: Path, override: dict[str, Any]) -> None:
    model = BeaconModel.load(folder, **override)
    labels = [IGNORED if index % 3 else token for index, token in enumerate(IDS)]
    loss = windowed_loss(model.decoder, model.config, IDS, labels, training=False)
    assert loss.tokens == sum(label != IGNORED for label in labels[1:])
    assert loss.mean.item() == pytest.approx(cross_entropy(model.read(IDS, logits="all").logits, labels), abs=1e-5)


def test_in_training_the_last_window_has_no_beacons(folder: Path) -> None:
    model = BeaconModel.load(folder)
    closed = model.read(IDS[:64], logits="all")
    rest = model.read(IDS[64:], onto=closed.memory, protect=True, logits="all")
    loss = windowed_loss(model.decoder, model.config, IDS, IDS)
    expected = cross_entropy(torch.cat((closed.logits, rest.logits)), IDS)
    assert loss.mean.item() == pytest.approx(expected, abs=1e-5)


def test_with_appended_beacons_the_first_window_does_not_count(folder: Path) -> None:
    model = BeaconModel.load(folder, beacon_pos="append")
    late = [IGNORED] * 33 + IDS[33:]
    everything, later = (windowed_loss(model.decoder, model.config, IDS, labels) for labels in (IDS, late))
    assert everything.tokens == later.tokens == 90 - 32 - 1
    assert everything.total.item() == pytest.approx(later.total.item())


def test_a_generator_makes_samples_differ_and_a_seed_repeats_them(folder: Path) -> None:
    model = BeaconModel.load(folder, ratios=[2, 4, 8, 16])
    ids = IDS * 3

    def losses(seed: int) -> list[float]:
        generator = np.random.default_rng(seed)
        return [windowed_loss(model.decoder, model.config, ids, ids, generator=generator).mean.item() for _ in range(3)]

    assert losses(1) == losses(1)
    assert len(set(losses(1))) == 3


def test_a_sample_needs_as_many_labels_as_tokens(folder: Path) -> None:
    model = BeaconModel.load(folder)
    with pytest.raises(UsageError, match="got 2 for 3"):
        windowed_loss(model.decoder, model.config, [3, 4, 5], [3, 4])


@pytest.mark.parametrize(
    "override", [{}, {"beacon_pos": "append"}, {"beacon_attn": "step-expansion", "beacon_attend_prev": False}]
)
@pytest.mark.parametrize("recompute", [False, True])
def test_samples_computed_together_have_the_losses_and_gradients_of_each_alone(
    folder: Path, override: dict[str, Any], recompute: bool
) -> None:
    model = BeaconModel.load(folder, ratios=[2, 4, 8], **override)
    beacons = [tensor for name, tensor in model.decoder.named_parameters() if "beacon" in name]
    samples = [LabelledTokens(ids, [IGNORED] * 5 + ids[5:]) for ids in (IDS[:70], IDS[::-1], IDS[4:75])]

    def gradients(batches: list[list[LabelledTokens]]) -> tuple[list[float], list[torch.Tensor]]:
        means = torch.cat(
            [
                windowed_losses(
                    model.decoder, model.config, batch, generator=np.random.default_rng(5), recompute=recompute
                ).means
                for batch in batches
            ]
        )
        found = torch.autograd.grad(means.sum(), beacons)
        return means.tolist(), list(found)

    for tensor in beacons:
        tensor.requires_grad_(True)
    together, apart = gradients([samples]), gradients([[sample] for sample in samples])
    assert together[0] == pytest.approx(apart[0], rel=1e-5)
    for left, right in zip(together[1], apart[1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_samples_with_other_numbers_of_windows_are_not_computed_together(folder: Path) -> None:
    model = BeaconModel.load(folder)
    samples = [LabelledTokens(ids, ids) for ids in (IDS[:64], IDS[:65])]
    with pytest.raises(UsageError, match=r"equally many windows of 32 tokens, these have \[2, 3\]"):
        windowed_losses(model.decoder, model.config, samples)
