"""Beacon models in training: only beacons change, runs go on exactly, and what is written is a published checkpoint."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightrag.errors import ArtifactError, ConfigurationError, UsageError
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.loss import IGNORED, LabelledTokens
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.memory_model import load_memory_model
from lightrag.training.beacons import BeaconTask, BeaconTrainee
from lightrag.training.loop import LoopSettings, train, validate
from lightrag.training.metrics import read_metrics
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint

LOOP = LoopSettings(6, 4, learning_rate=1e-3, save_every=2, parts=2)
BEACONS = {"beacon_window": 16, "beacon_ratio": [2, 4, 8], "beacon_param": ["q", "k", "v"]}


def samples(count: int = 9, least: int = 20, seed: int = 0) -> list[LabelledTokens]:
    """Of two, three and four windows of 16 tokens; half of the tokens count."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        ids = np.array([rng.randrange(3, 150) for _ in range(least + 16 * (number % 3))], np.int32)
        made.append(LabelledTokens(ids, np.where(np.arange(len(ids)) % 2, ids, IGNORED)))
    return made


def task(folder: Path, **options: Any) -> BeaconTask:
    return BeaconTask(BeaconTrainee.load(folder, **BEACONS), samples(), **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without beacons."""
    return save_beacon_checkpoint(tmp_path_factory.mktemp("base"), params="")


class TestModels:
    @pytest.mark.parametrize("architecture", ["qwen2", "mistral"])
    def test_an_ordinary_decoder_becomes_a_memory_model(self, architecture: str, tmp_path: Path) -> None:
        plain = save_causal_lm(tmp_path / "plain", architecture)
        trainee = BeaconTrainee.load(plain, **BEACONS)
        state = trainee.model.state_dict()
        for name, parameter in trainee.parameters.items():
            if "proj" in name:
                assert torch.equal(parameter, state[name.replace("beacon_", "")]), name
        report = train(BeaconTask(trainee, samples()), LOOP, tmp_path / "run")
        model = load_memory_model(tmp_path / "run" / "memory_model")
        assert isinstance(model, BeaconModel)
        assert report.model_folder == tmp_path / "run" / "memory_model"
        assert (model.config.window, model.config.ratios) == (16, (2, 4, 8))
        trained, original = model.decoder.state_dict(), BeaconTrainee.load(plain, **BEACONS).model.state_dict()
        for name, tensor in trainee.model.state_dict().items():
            assert torch.equal(tensor, trained[name]), name
            # The last layer's beacon queries feed nothing that is ever read.
            if name != "model.layers.1.self_attn.beacon_q_proj.weight" and "q_proj.bias" not in name:
                assert torch.equal(tensor, original[name]) == ("beacon" not in name), name

    def test_every_checkpoint_can_be_loaded_and_makes_memories(self, base: Path, tmp_path: Path) -> None:
        train(task(base), replace(LOOP, steps=5), tmp_path)
        [checkpoint] = tmp_path.glob("step-*")
        assert checkpoint.name == "step-00000004"
        for folder in (checkpoint / "memory_model", tmp_path / "memory_model"):
            memory = BeaconModel.load(folder, ratios=4).memorise(list(range(3, 35)))
            assert memory.cells == 8
        assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]

    def test_a_trained_model_can_be_trained_further(self, base: Path, tmp_path: Path) -> None:
        train(task(base), replace(LOOP, steps=2), tmp_path / "first")
        again = BeaconTrainee.load(tmp_path / "first" / "memory_model", beacon_ratio=[2, 4])
        train(BeaconTask(again, samples(seed=1)), replace(LOOP, steps=2), tmp_path / "second")
        model = BeaconModel.load(tmp_path / "second" / "memory_model")
        assert model.config.ratios == (2, 4)
        written = json.loads((tmp_path / "second/memory_model/config.json").read_text())
        assert written["beacon_param"] == ["q", "k", "v"]
        assert BeaconConfig.from_dict(written) == model.config

    def test_weights_in_other_formats_come_along(self, base: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        old = tmp_path / "old"
        old.mkdir()
        torch.save(load_file(base / "model.safetensors"), old / "pytorch_model.bin")
        (old / "config.json").write_bytes((base / "config.json").read_bytes())
        train(task(old), replace(LOOP, steps=1), tmp_path / "run")
        loaded = BeaconModel.load(tmp_path / "run/memory_model").decoder.state_dict()
        assert torch.equal(loaded["lm_head.weight"], load_file(base / "model.safetensors")["lm_head.weight"])

    def test_ordinary_weights_may_be_bfloat16_while_beacons_are_not(self, base: Path) -> None:
        settings = replace(LOOP, steps=2, save_every=0, precision="bfloat16")
        trainee = BeaconTrainee.load(base, dtype=torch.bfloat16, **BEACONS)
        assert {parameter.dtype for parameter in trainee.parameters.values()} == {torch.float32}
        rounded = train(BeaconTask(trainee, samples()), settings).losses
        exact = train(task(base), replace(settings, precision="float32")).losses
        assert rounded == pytest.approx(exact, rel=0.1)
        again = BeaconTrainee.load(base, dtype=torch.bfloat16, **BEACONS)
        assert validate(BeaconTask(again, samples()), settings) == pytest.approx(validate(task(base), LOOP), rel=0.1)

    def test_what_cannot_be_trained_is_refused_by_name(self, base: Path, tiny_llama: Path) -> None:
        with pytest.raises(UsageError, match="beacon_param"):
            BeaconTrainee.load(base)
        with pytest.raises(ConfigurationError, match="llama"):
            BeaconTrainee.load(tiny_llama, **BEACONS)
        with pytest.raises(UsageError, match="sample 0 has 16 tokens and so no second window of 16"):
            BeaconTask(BeaconTrainee.load(base, **BEACONS), samples(least=16))


class TestRuns:
    def test_a_run_lowers_the_loss_on_what_it_trains_on(self, base: Path) -> None:
        work = task(base)
        before = float(work.loss([0, 3, 6], random.Random(1)))
        train(work, LoopSettings(40, 3, learning_rate=5e-3, save_every=0))
        assert float(work.loss([0, 3, 6], random.Random(1))) < 0.9 * before

    def test_batches_hold_samples_with_equally_many_windows(self, base: Path) -> None:
        work = task(base)
        assert [len(group) for group in work.groups] == [3, 3, 3]
        assert [{len(samples()[number].token_ids) for number in group} for group in work.groups] == [{20}, {36}, {52}]

    def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(self, base: Path, tmp_path: Path) -> None:
        settings = replace(LOOP, validate_every=3)
        held_out = samples(3, seed=7)

        def run(folder: Path, stop: int = -1) -> Any:
            def on_step(step: int, loss: float) -> None:
                if step == stop:
                    raise KeyboardInterrupt

            work = task(base)
            return train(work, settings, folder, validation=BeaconTask(work.trainee, held_out), on_step=on_step)

        whole = run(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", stop=4)
        # Killed while a line was written.
        with (tmp_path / "cut/metrics.jsonl").open("a") as file:
            file.write('{"step": 5, "lo')
        resumed = run(tmp_path / "cut")
        assert resumed.resumed_at == 4
        assert resumed.losses == pytest.approx(whole.losses, rel=1e-6)
        first, second = (BeaconModel.load(tmp_path / name / "memory_model").decoder for name in ("whole", "cut"))
        for name, tensor in first.state_dict().items():
            torch.testing.assert_close(tensor, second.state_dict()[name], rtol=1e-5, atol=1e-6)
        rows = read_metrics(tmp_path / "cut")
        assert [row["step"] for row in rows if "loss" in row] == list(range(6))
        assert [row["step"] for row in rows if "validation_loss" in row] == [2, 5]

    def test_recomputing_windows_changes_nothing(self, base: Path) -> None:
        settings = replace(LOOP, steps=3, save_every=0)
        plain, recomputed = (train(task(base, recompute=value), settings).losses for value in (False, True))
        assert recomputed == pytest.approx(plain, rel=1e-5)

    def test_other_data_or_another_model_need_another_folder(self, base: Path, tmp_path: Path) -> None:
        train(task(base), LOOP, tmp_path / "run")
        other = BeaconTask(BeaconTrainee.load(base, **BEACONS), samples(seed=3))
        with pytest.raises(ArtifactError, match="data differ"):
            train(other, LOOP, tmp_path / "run")
        with pytest.raises(ArtifactError, match="model differ"):
            train(task(save_beacon_checkpoint(tmp_path / "other")), LOOP, tmp_path / "run")

    def test_validation_repeats_itself_and_trains_nothing(self, base: Path) -> None:
        work = task(base)
        state = {name: tensor.clone() for name, tensor in work.trainee.model.state_dict().items()}
        assert validate(work, LOOP) == validate(work, LOOP)
        assert all(torch.equal(tensor, work.trainee.model.state_dict()[name]) for name, tensor in state.items())
        with pytest.raises(UsageError, match="validate_every"):
            train(work, LOOP, validation=work)
