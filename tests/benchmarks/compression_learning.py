"""What an encoder learns: accuracy of answers from latents against the compression ratio, evenly and selectively kept.

Run from the project's root (a few minutes on one core)::

    python -m tests.benchmarks.compression_learning --plot curve.png

A tiny language model learns to look facts up in text (:mod:`tests.benchmarks.learning_world`) and is then frozen. Its
two layers become the encoder, which is trained by the library's own loop: fine-tuning on answers together with
distillation from the language model over the raw text, ratios drawn from 1 to 32 at every step. Then it is asked about
registers it has never seen. ``even`` keeps every passage at the same density; ``selective`` spends most of the same
budget on the sentences that share words with the question.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when numerical libraries are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from lightrag.latents.allocation import Shape, allocate
from lightrag.latents.checkpoint import find_part
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.importance import LexicalImportance, Passage
from lightrag.latents.inputs import EncoderInput
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.positions import count_at_ratio
from lightrag.training.finetuning import IGNORED, Example, answer_logits
from lightrag.training.loop import LoopSettings, train
from lightrag.training.tasks import FinetuningSettings, FinetuningTask
from tests.benchmarks.learning_world import (
    World,
    new_language_model,
    raw_logits,
    save_language_model,
    teach_lookup,
    write_register,
)

RATIOS = (1, 2, 4, 8, 16, 32)
DRAWN = (1.0, 2.0, 2.0, 4.0, 4.0, 4.0, 8.0, 8.0, 16.0, 32.0)
"""Ratios in training, the ones that matter more often."""


@dataclass(frozen=True)
class Effort:
    """How much is done."""

    facts: int
    """Sentences of a register."""
    language_model_steps: int
    encoder_steps: int
    batch: int
    questions: int
    """Registers in the test, with one question each."""
    passages: int = 2


FULL = Effort(facts=16, language_model_steps=320, encoder_steps=1000, batch=12, questions=300)
QUICK = Effort(facts=12, language_model_steps=400, encoder_steps=220, batch=10, questions=120)


@dataclass(frozen=True)
class Curve:
    """Shares of questions that are answered right."""

    raw: float
    """From text."""
    untrained: dict[int, float]
    """By ratio, with the language model's layers as they are."""
    even: dict[int, float]
    selective: dict[int, float]


def learn(effort: Effort, folder: Path, seed: int = 0) -> Curve:
    """Train language model and encoder in ``folder`` and test them."""
    world = World()
    model = new_language_model(seed)
    teach_lookup(model, world, effort.language_model_steps, effort.facts, seed)
    save_language_model(model, world, folder / "lm")
    untrained = LatentEncoder.load(folder / "lm")
    rng = random.Random(seed + 1)
    samples = [
        world.sample(rng.choice([effort.facts // 2, effort.facts]), effort.passages, 8, rng) for _ in range(4000)
    ]
    settings = FinetuningSettings(ratios=DRAWN, random_share=0.1, whole_share=0.5, whole_tokens=6, distillation=0.5)
    task = FinetuningTask(find_part(folder / "lm", "encoder").build(), model, samples, settings)
    loop = LoopSettings(effort.encoder_steps, effort.batch, learning_rate=2e-3, seed=seed, save_every=0)
    train(task, loop, folder / "encoder", on_step=_progress)
    test = Test(world, model, effort, seed + 2)
    trained = LatentEncoder.load(folder / "encoder")
    return Curve(
        test.raw(),
        {ratio: test.accuracy(untrained, ratio, selective=False) for ratio in RATIOS},
        {ratio: test.accuracy(trained, ratio, selective=False) for ratio in RATIOS},
        {ratio: test.accuracy(trained, ratio, selective=True) for ratio in RATIOS},
    )


class Test:
    """Registers that training has not seen, with one question each."""

    def __init__(self, world: World, model: Any, effort: Effort, seed: int) -> None:
        rng = random.Random(seed)
        self._world = world
        self._model = model
        self._registers = [write_register(effort.facts, rng) for _ in range(effort.questions)]
        self._names = [rng.choice(sorted(register.facts)) for register in self._registers]
        self._passages = [register.passages(effort.passages) for register in self._registers]

    def raw(self) -> float:
        """Accuracy from text."""
        from lightrag.training.tasks import Sample, Turn

        samples = [
            Sample((), tuple(map(self._world.ids, passages)), (Turn(self._prompt(name), self._answer(register, name)),))
            for passages, name, register in zip(self._passages, self._names, self._registers, strict=True)
        ]
        with torch.no_grad():
            logits, answers = raw_logits(self._model, samples)
        return float((logits.argmax(-1) == answers).float().mean())

    def accuracy(self, encoder: LatentEncoder, ratio: int, *, selective: bool) -> float:
        """Accuracy from latents at a ratio."""
        passages = PassageEncoder(encoder, self._world.tokenizer)
        examples = [
            self._example(passages, texts, name, register.facts[name], ratio, selective)
            for texts, name, register in zip(self._passages, self._names, self._registers, strict=True)
        ]
        with torch.no_grad():
            logits, answers = answer_logits(encoder.model, self._model, examples)
        return float((logits.argmax(-1) == answers).float().mean())

    def _example(
        self, encoder: PassageEncoder, texts: list[str], name: str, thing: str, ratio: int, selective: bool
    ) -> Example:
        tokenized = encoder.tokenize(texts)
        budget = sum(count_at_ratio(len(item.ids), ratio) for item in tokenized)
        shapes = [Shape(str(number), len(item.ids)) for number, item in enumerate(tokenized)]
        named = [Passage(str(n), text, row) for n, (text, row) in enumerate(zip(texts, tokenized, strict=True))]
        focus = asyncio.run(LexicalImportance().focus(f"? {name}", named)) if selective else ()
        plan = allocate(budget, shapes, focus, focus_share=0.8)
        assert plan.kept == budget
        keep = tuple(tuple(document.positions.tolist()) for document in plan.documents)
        prompt, answer = self._prompt(name), self._world.ids(thing)
        ids = (*[0] * budget, *prompt, *answer)
        labels = (*[IGNORED] * (len(ids) - len(answer)), *answer)
        return Example(ids, labels, 0, tuple(EncoderInput(item.ids) for item in tokenized), keep)

    def _prompt(self, name: str) -> tuple[int, ...]:
        return self._world.ids(f"? {name}")

    def _answer(self, register: Any, name: str) -> tuple[int, ...]:
        return self._world.ids(register.facts[name])


def draw(curve: Curve, file: Path) -> None:
    """Draw accuracy against the ratio."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    axes.axhline(curve.raw, color="0.4", linestyle=":", label="raw text")
    for name, values, style in (
        ("selective", curve.selective, "o-"),
        ("even", curve.even, "s-"),
        ("even, untrained encoder", curve.untrained, "x--"),
    ):
        axes.plot(list(values), list(values.values()), style, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATIOS, [f"{ratio}×" for ratio in RATIOS])
    axes.set(xlabel="compression ratio", ylabel="answers right", ylim=(0, 1.02))
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _progress(step: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"step {step:5}  loss {loss:.3f}", file=sys.stderr, flush=True)


def main() -> int:
    """Train, test, print the table and draw the curve; fails where selective is not ahead or 4× loses most."""
    parser = argparse.ArgumentParser(description="What an encoder learns.")
    parser.add_argument("--plot", type=Path, help="file for the curve (png, svg, pdf)")
    parser.add_argument("--quick", action="store_true", help="the small version, as in the test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        curve = learn(QUICK if options.quick else FULL, Path(folder))
    print(f"raw text {curve.raw:.3f}; {time.perf_counter() - start:.0f} s")
    print(f"{'ratio':>6} {'untrained':>10} {'even':>8} {'selective':>10}")
    for ratio in RATIOS:
        print(f"{ratio:6} {curve.untrained[ratio]:10.3f} {curve.even[ratio]:8.3f} {curve.selective[ratio]:10.3f}")
    if options.plot:
        draw(curve, options.plot)
    ahead = all(curve.selective[ratio] >= curve.even[ratio] for ratio in RATIOS)
    return 0 if ahead and curve.even[4] >= 0.8 * curve.raw else 1


if __name__ == "__main__":
    sys.exit(main())
