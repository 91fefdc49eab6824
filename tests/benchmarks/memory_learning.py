"""What a beacon model learns: answers from memory alone, against the compression ratio.

Run from the project's root (a few minutes on one core)::

    python -m tests.benchmarks.memory_learning --plot curve.svg

A tiny Qwen2 learns to look facts up in text (:mod:`tests.benchmarks.learning_world`) and is then frozen. Its beacons
are trained by the library's own loop: registers in windows, questions behind them, a ratio drawn for every window. Then
it memorises registers that it has never seen and is asked about them; of the text nothing but the memory is left.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when numerical libraries are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from lightrag.memory.beacon.loss import IGNORED, LabelledTokens
from lightrag.memory.beacon.model import BeaconModel
from lightrag.training.beacons import BeaconTask, BeaconTrainee
from lightrag.training.loop import LoopSettings, train
from tests.benchmarks.learning_world import World, new_language_model, save_language_model, teach_lookup

WINDOW = 32


@dataclass(frozen=True)
class Effort:
    """How much is done."""

    language_model_steps: int
    beacon_steps: int
    ratios: tuple[int, ...]
    """Drawn in training."""
    asked: tuple[int, ...]
    """Ratios in the test."""
    questions: int
    """Registers in the test, with one question each."""
    facts: int = 8
    """Sentences of a register."""
    batch: int = 32


FULL = Effort(400, 800, (2, 4, 8, 16, 32), (2, 4, 8, 16, 32), 500)
QUICK = Effort(400, 260, (2, 4, 8), (2, 4, 8), 200)


@dataclass(frozen=True)
class Curve:
    """Shares of questions that are answered right."""

    raw: float
    """With the register as text in front of the question."""
    nothing: float
    """With neither text nor memory."""
    untrained: dict[int, float]
    """From memory by ratio, with beacons that are copies of the ordinary weights."""
    trained: dict[int, float]
    """From memory by ratio."""


def learn(effort: Effort, folder: Path, seed: int = 0) -> Curve:
    """Train language model and beacons in ``folder`` and test them."""
    world = World(fillers=0.8)
    model = new_language_model(seed, "qwen2", num_hidden_layers=3, eos_token_id=world.ids(".")[0], bos_token_id=None)
    teach_lookup(model, world, effort.language_model_steps, effort.facts, seed)
    save_language_model(model, world, folder / "lm")
    trainee = BeaconTrainee.load(
        folder / "lm",
        beacon_window=WINDOW,
        beacon_ratio=list(effort.ratios),
        beacon_param=["q", "k", "v"],
    )
    rng = random.Random(seed + 1)
    samples = [
        training_sample(world, rng.choice([effort.facts // 2, effort.facts]), rng)
        for _ in range(min(4000, effort.batch * effort.beacon_steps))
    ]
    loop = LoopSettings(effort.beacon_steps, effort.batch, learning_rate=5e-3, seed=seed, save_every=0)
    train(BeaconTask(trainee, samples), loop, folder / "run", on_step=_progress)
    test = Test(world, effort, seed + 2)
    plain = BeaconModel.load(folder / "lm", beacon_window=WINDOW, beacon_ratio=[2], beacon_param=["q", "k", "v"])
    trained = BeaconModel.load(folder / "run" / "memory_model")
    return Curve(
        test.from_text(plain),
        test.from_nothing(plain),
        {ratio: test.from_memory(plain, ratio) for ratio in effort.asked},
        {ratio: test.from_memory(trained, ratio) for ratio in effort.asked},
    )


def register_ids(world: World, facts: int, rng: random.Random) -> tuple[list[int], list[tuple[list[int], int]]]:
    """A register that ends where a window ends, so that all of it is compressed, and its questions with answers."""
    sample = world.sample(facts, 1, facts, rng)
    ids = [token for passage in sample.passages for token in passage]
    ids += list(world.ids(".")) * (-len(ids) % WINDOW)
    return ids, [(list(turn.prompt), turn.answer[0]) for turn in sample.turns]


def training_sample(world: World, facts: int, rng: random.Random) -> LabelledTokens:
    """A register with questions behind it, of which the answers count."""
    ids, questions = register_ids(world, facts, rng)
    labels = [IGNORED] * len(ids)
    for prompt, answer in questions:
        ids += [*prompt, answer]
        labels += [*[IGNORED] * len(prompt), answer]
    return LabelledTokens(ids, labels)


class Test:
    """Registers that training has not seen, with one question each."""

    def __init__(self, world: World, effort: Effort, seed: int) -> None:
        rng = random.Random(seed)
        registers = [register_ids(world, effort.facts, rng) for _ in range(effort.questions)]
        self._texts = [ids for ids, _ in registers]
        self._prompts = [questions[0][0] for _, questions in registers]
        self._answers = [questions[0][1] for _, questions in registers]

    def from_text(self, model: BeaconModel) -> float:
        """Accuracy where text and question are read together, nothing compressed."""
        return self._asked(model, [None] * len(self._texts), self._texts)

    def from_nothing(self, model: BeaconModel) -> float:
        """Accuracy of guessing."""
        return self._asked(model, [None] * len(self._texts), [[]] * len(self._texts))

    def from_memory(self, model: BeaconModel, ratio: int) -> float:
        """Accuracy where the text was memorised before."""
        chosen = model.with_ratios(ratio)
        memories = chosen.memorise_batch(self._texts)
        assert all(memory.cells == len(text) // ratio for memory, text in zip(memories, self._texts, strict=True))
        return self._asked(chosen, memories, [[]] * len(self._texts))

    def _asked(self, model: BeaconModel, memories: Sequence[Any], before: Sequence[list[int]]) -> float:
        sequences = [[*text, *prompt] for text, prompt in zip(before, self._prompts, strict=True)]
        readings = model.read_batch(sequences, onto=memories, protect=True, logits="last")
        right = [
            int(reading.logits[-1].argmax()) == answer for reading, answer in zip(readings, self._answers, strict=True)
        ]
        return sum(right) / len(right)


def draw(curve: Curve, file: Path) -> None:
    """Draw accuracy against the ratio."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    axes.axhline(curve.raw, color="0.4", linestyle=":", label="raw text")
    axes.axhline(curve.nothing, color="0.4", linestyle="--", label="neither text nor memory")
    axes.plot(list(curve.trained), list(curve.trained.values()), "o-", label="memory")
    axes.plot(list(curve.untrained), list(curve.untrained.values()), "x--", label="memory, untrained beacons")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(curve.trained), [f"{ratio}×" for ratio in curve.trained])
    axes.set(xlabel="tokens per memory cell", ylabel="answers right", ylim=(0, 1.02))
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _progress(step: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"step {step:5}  loss {loss:.3f}", file=sys.stderr, flush=True)


def main() -> int:
    """Train, test, print the table and draw the curve; fails where memory at 2, 4 or 8 does not help clearly."""
    parser = argparse.ArgumentParser(description="What a beacon model learns.")
    parser.add_argument("--plot", type=Path, help="file for the curve (png, svg, pdf)")
    parser.add_argument("--quick", action="store_true", help="the small version, as in the test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        curve = learn(QUICK if options.quick else FULL, Path(folder), options.seed)
    print(f"raw text {curve.raw:.3f}, nothing {curve.nothing:.3f}; {time.perf_counter() - start:.0f} s")
    print(f"{'ratio':>6} {'untrained':>10} {'memory':>8}")
    for ratio, share in curve.trained.items():
        print(f"{ratio:6} {curve.untrained[ratio]:10.3f} {share:8.3f}")
    if options.plot:
        draw(curve, options.plot)
    return 0 if all(curve.trained[ratio] > curve.nothing + 0.2 for ratio in (2, 4, 8)) else 1


if __name__ == "__main__":
    sys.exit(main())
