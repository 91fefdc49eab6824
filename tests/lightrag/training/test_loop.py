"""Training runs: they learn, they go on after an interruption as if nothing had happened, and keep every weight."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.checkpoint import find_part
from lightrag.latents.inputs import Framing
from lightrag.training.distillation import distillation_loss
from lightrag.training.loop import LoopSettings, batch_indices, train
from lightrag.training.tasks import (
    EstimatorTask,
    FinetuningSettings,
    FinetuningTask,
    MarkedPassage,
    PretrainingSettings,
    PretrainingTask,
    RankedPassages,
    Sample,
    Turn,
    compress_sample,
)

LOOP = LoopSettings(6, 2, learning_rate=1e-3, save_every=2)


def decoder(path: Path) -> Any:
    return find_part(path, "encoder").build()


def language_model(path: Path) -> Any:
    return find_part(path, "language_model").build_causal_lm()


def ids(count: int, seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(3, 300) for _ in range(count))


def samples(count: int = 4) -> list[Sample]:
    return [Sample(ids(3, n), (ids(30, n), ids(17, n + 9)), (Turn(ids(4, n), ids(2, n)),)) for n in range(count)]


def finetuning(path: Path, **settings: Any) -> FinetuningTask:
    return FinetuningTask(decoder(path), language_model(path), samples(), FinetuningSettings(**settings))


def pretraining(path: Path) -> PretrainingTask:
    texts = [ids(100, n) for n in range(3)]
    return PretrainingTask(decoder(path), language_model(path), texts, PretrainingSettings(window=32))


def ranking(path: Path) -> EstimatorTask:
    return EstimatorTask(decoder(path), [RankedPassages(ids(5, n), (ids(9, n), ids(9, n + 5))) for n in range(4)])


def marking(path: Path) -> EstimatorTask:
    return EstimatorTask(decoder(path), [MarkedPassage(ids(5, n), ids(20, n), (3, 4)) for n in range(4)])


@pytest.mark.parametrize("make", [finetuning, pretraining, ranking, marking])
def test_every_stage_lowers_its_loss_and_saves_every_weight(make: Any, tiny_llama: Path, tmp_path: Path) -> None:
    task = make(tiny_llama)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    rng = random.Random(1)
    first = float(task.loss(range(task.examples), rng))
    report = train(task, replace(LOOP, steps=20, save_every=0, batch_size=task.examples), tmp_path)
    assert float(task.loss(range(task.examples), random.Random(1))) < first
    assert len(report.losses) == 20
    loaded = find_part(tmp_path, task.role).build()
    changed = 0
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
        changed += not torch.equal(tensor, before[name])
    assert changed == len(before)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tiny_llama: Path, tmp_path: Path) -> None:
    whole = train(finetuning(tiny_llama), LOOP, tmp_path / "whole")

    def stop(step: int, loss: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(finetuning(tiny_llama), LOOP, tmp_path / "cut", on_step=stop)
    resumed = train(finetuning(tiny_llama), LOOP, tmp_path / "cut")
    assert resumed.resumed_at == 4
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-6)
    assert not list((tmp_path / "cut").rglob("*.bin"))
    first, second = (find_part(tmp_path / name, "encoder").build().state_dict() for name in ("whole", "cut"))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name])


def test_another_run_or_a_damaged_checkpoint_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    train(finetuning(tiny_llama), LOOP, tmp_path)
    with pytest.raises(ArtifactError, match=r"learning_rate differ .*was 0\.001 and is 0\.002"):
        train(finetuning(tiny_llama), replace(LOOP, learning_rate=2e-3), tmp_path)
    next(tmp_path.glob("step-*/optimizer.safetensors")).write_bytes(b"broken")
    with pytest.raises(ArtifactError, match="cannot be read"):
        train(finetuning(tiny_llama), LOOP, tmp_path)


def test_distillation_teaches_the_encoder_and_nothing_else(tiny_llama: Path) -> None:
    task = finetuning(tiny_llama, distillation=1.0)
    task.model.requires_grad_(True)
    loss = task.loss([0, 1], random.Random(0))
    assert loss.item() > 0
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    assert all(parameter.grad is not None for parameter in task.model.parameters())


def test_distillation_compares_the_same_answers_over_text_and_over_latents(tiny_llama: Path) -> None:
    encoder, reader, sample = decoder(tiny_llama), language_model(tiny_llama), samples(1)[0]
    example = compress_sample(sample, FinetuningSettings(whole_share=0, random_share=0), random.Random(0))
    raw = [token for passage in sample.passages for token in passage]
    turn = sample.turns[0]
    embed = reader.get_input_embeddings()
    with torch.no_grad():
        text = reader(torch.tensor([[*sample.before, *raw, *turn.prompt, *turn.answer]])).logits[0, -3:-1]
        states = [
            encoder(torch.tensor([item.ids])).last_hidden_state[0, list(row)]
            for item, row in zip(example.inputs, example.keep, strict=True)
        ]
        after = embed(torch.tensor([*turn.prompt, *turn.answer]))
        embeds = torch.cat([embed(torch.tensor(sample.before)), *states, after])
        latents = reader(inputs_embeds=embeds[None]).logits[0, -3:-1]
        loss = distillation_loss(encoder, reader, [example], [raw])
    teacher = text.log_softmax(-1)
    expected = (teacher.exp() * (teacher - latents.log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_ratios_are_drawn_anew_and_positions_ascend() -> None:
    sample = samples(1)[0]
    settings = FinetuningSettings(framing=Framing(max_length=16, bos=1))
    counts = set()
    for seed in range(30):
        example = compress_sample(sample, settings, random.Random(seed))
        counts.add(example.states)
        for item, row in zip(example.inputs, example.keep, strict=True):
            assert list(row) == sorted(set(row))
            assert all(item.head <= at < len(item.ids) for at in row)
        assert example.labels[-2:] == example.ids[-2:]
    assert len(counts) > 3


def test_every_epoch_sees_every_example_in_another_order() -> None:
    drawn = [index for step in range(6) for index in batch_indices(9, 3, step, seed=1)]
    assert sorted(drawn[:9]) == sorted(drawn[9:]) == list(range(9))
    assert drawn[:9] != drawn[9:]


def test_impossible_settings_are_named(tiny_llama: Path) -> None:
    with pytest.raises(UsageError, match="steps"):
        LoopSettings(0)
    with pytest.raises(UsageError, match="random_share"):
        FinetuningSettings(random_share=2)
    model = decoder(tiny_llama)
    with pytest.raises(UsageError, match="no second window"):
        PretrainingTask(model, language_model(tiny_llama), [ids(10, 0)], PretrainingSettings(window=32))
    with pytest.raises(UsageError, match="not on both"):
        EstimatorTask(model, [RankedPassages((1,), ((2,),)), MarkedPassage((1,), (2,), (0,))])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="no examples"):
        train(EstimatorTask(model, []), LOOP)
