"""What running models costs: the bundled embedder, and questions over one shared KV memory.

Run from the project's root::

    python -m tests.benchmarks.model_speed                  # about one minute on one core

Embedding: passages of 5 to 150 words of an invented vocabulary, against plain ``SentenceTransformer.encode`` with its
own batch size. Generation: eight questions of one length, 32 new tokens each, over one memory in a random 4-layer model
of width 512, against the same model with transformers' dynamic cache holding a copy of the memory per question. Figures
are CPU seconds on one thread, the least of several runs taken in turn; outputs must be equal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Read when numerical libraries are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from lightrag.models import SentenceTransformerEmbedder, TransformersLanguageModel
from lightrag.models.base import Prompt, Sampling
from lightrag.models.files import quiet_loading, resolve_model
from tests.checkpoints import TRAINING_TEXT, save_causal_lm

QUESTIONS, NEW_TOKENS, LAYERS, KV_HEADS, HEAD_DIM = 8, 32, 4, 2, 64


class Figure(NamedTuple):
    """One line of the report."""

    name: str
    ours: float
    reference: float
    promise: float
    """How many times as fast as the reference we mean to be."""

    @property
    def ratio(self) -> float:
        """Times as fast as the reference."""
        return self.reference / self.ours


def least_seconds(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of the fastest run of each, the runs taken in turn so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):  # the first warms up
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def embedding_figure(repeats: int) -> Figure:
    """Tokens per second do not matter here, the ratio does; both are given the same passages."""
    from sentence_transformers import SentenceTransformer

    random = np.random.default_rng(0)
    words = [word for word in TRAINING_TEXT.split() if word.isascii()]
    passages = [" ".join(random.choice(words, size=random.integers(5, 150))) for _ in range(200)]
    ours, halved = SentenceTransformerEmbedder(), SentenceTransformerEmbedder(dtype="bfloat16")
    with quiet_loading():
        reference = SentenceTransformer(str(resolve_model(ours.name)), device="cpu")
    expected = reference.encode(passages, normalize_embeddings=True)
    if not np.allclose(ours.encode(passages), expected, atol=1e-5):
        raise SystemExit("the vectors differ from those of sentence-transformers")
    near = float((halved.encode(passages) * expected).sum(axis=1).min())
    seconds = least_seconds(
        {
            "ours": lambda: ours.encode(passages),
            "bfloat16": lambda: halved.encode(passages),
            "reference": lambda: reference.encode(passages),
        },
        repeats,
    )
    tokens = sum(ours.tokenizer.counts(passages))
    speeds = {name: tokens / spent for name, spent in seconds.items()}
    print(
        f"embedding: {speeds['ours']:,.0f} tokens per CPU second, reference {speeds['reference']:,.0f}, "
        f"in bfloat16 {speeds['bfloat16']:,.0f} with a cosine of at least {near:.5f}"
    )
    return Figure("embed 200 passages", seconds["ours"], seconds["reference"], 1.0)


class RandomMemory:
    """A memory of random states; what it holds does not change what it costs."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.fingerprint = f"random-{cells}"
        generator = torch.Generator().manual_seed(cells)
        self._layers = [
            (states[0], states[1])
            for states in torch.randn(LAYERS, 2, KV_HEADS, cells, HEAD_DIM, generator=generator).mul(0.3)
        ]

    def layers(self) -> list[tuple[Any, Any]]:
        """Keys and values of each layer."""
        return self._layers


def copied_reference(folder: Path) -> Callable[[RandomMemory, list[list[int]]], list[list[int]]]:
    """Greedy decoding with one copy of the memory per question, concatenated anew at every token."""
    from transformers import AutoModelForCausalLM, DynamicCache

    with quiet_loading():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def run(memory: RandomMemory, ids: list[list[int]]) -> list[list[int]]:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(memory.layers()):
            cache.update(keys.repeat(len(ids), 1, 1, 1), values.repeat(len(ids), 1, 1, 1), layer)
        inputs, tokens = torch.tensor(ids), []
        with torch.no_grad():
            for _ in range(NEW_TOKENS):
                logits = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
                inputs = logits[:, -1].argmax(-1)[:, None]
                tokens.append(inputs)
        return torch.cat(tokens, dim=1).tolist()

    return run


def memory_figures(repeats: int) -> list[Figure]:
    """Eight questions over one memory of growing size."""
    figures = []
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        checkpoint = save_causal_lm(
            Path(folder),
            "qwen2",
            hidden_size=KV_HEADS * 4 * HEAD_DIM,
            num_hidden_layers=LAYERS,
            num_attention_heads=KV_HEADS * 4,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=65536,
        )
        model = TransformersLanguageModel(str(checkpoint))
        reference = copied_reference(checkpoint)
        sampling = Sampling(max_tokens=NEW_TOKENS)
        for cells, promise in ((2048, 1.5), (8192, 4.0)):
            memory = RandomMemory(cells)
            texts = [f"Question {index}: when was the pier opened?" for index in range(QUESTIONS)]
            prompts = [Prompt(Prompt.of(text).messages, memory) for text in texts]
            ids = [model.renderer.render(prompt).token_ids for prompt in prompts]

            def ours(prompts: list[Prompt] = prompts) -> list[str]:
                return [completion.text for completion in runner.run(model.complete(prompts, sampling))]

            def copied(memory: RandomMemory = memory, ids: list[list[int]] = ids) -> list[str]:
                return [model.tokenizer.fast.decode(each) for each in reference(memory, ids)]

            if ours() != copied():
                raise SystemExit(f"the answers over {cells} cells differ from the reference")
            seconds = least_seconds({"ours": ours, "reference": copied}, repeats)
            figures.append(Figure(f"8 questions over {cells:,} cells", seconds["ours"], seconds["reference"], promise))
        runner.run(model.close())
    return figures


def main() -> int:
    """Print the table; the exit status says whether every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each figure, of which the fastest counts")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    figures = [embedding_figure(repeats), *memory_figures(repeats)]
    print(f"{'':<32}{'ours s':>10}{'ref s':>10}{'times':>8}{'promise':>9}")
    for figure in figures:
        row = (
            f"{figure.name:<32}{figure.ours:>10.2f}{figure.reference:>10.2f}{figure.ratio:>8.2f}{figure.promise:>9.1f}"
        )
        print(row if figure.ratio >= figure.promise else f"{row}  missed")
    return int(any(figure.ratio < figure.promise for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
