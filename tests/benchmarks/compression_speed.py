"""What compression costs: latents cached and online, packed against padded, query-time importance, LLMLingua-2.

Run from the project's root::

    python -m tests.benchmarks.compression_speed            # about two minutes on one core

All models are random and of one shape per table: a 32-layer decoder of width 512 for latents (1,024 context tokens and
64 others), a 6-layer BERT of width 256 for text. Figures are CPU seconds on one thread, the least of several runs;
for latents also as shares of the prefill of the raw prompt. The last column is what is promised.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when numerical libraries are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.estimator import TokenEstimator
from lightrag.latents.inputs import EncoderInput
from lightrag.latents.positions import count_at_ratio, kept_positions
from lightrag.latents.resident import ResidentLatents
from lightrag.latents.store import LatentStore, PartWriter, below, write_header
from lightrag.lexical import LLMLingua2, TextCompressor
from lightrag.storage.objects import open_object_store
from tests.lightrag.lexical.checkpoints import TEXT, save_token_classifier

CONTEXT, FIXED, VOCABULARY, WIDTH, LAYERS = 1024, 64, 1000, 512, 32


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    name: str
    seconds: float
    share: float | None
    promise: str
    kept: bool


def least_seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest run."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def make_decoder(layers: int) -> Any:
    """A random Llama with head; equal seeds give equal layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=1376,
        num_hidden_layers=layers,
        num_attention_heads=8,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def prefill(model: Any, embeds: torch.Tensor) -> torch.Tensor:
    """Logits of the last position, with the cache that decoding needs."""
    with torch.inference_mode():
        return model(inputs_embeds=embeds[None], use_cache=True, logits_to_keep=1).logits[0, -1]


def latent_figures(repeats: int) -> list[Figure]:
    """Prefill and encoding as shares of the raw prompt's prefill."""
    model, encoder = make_decoder(LAYERS), LatentEncoder(make_decoder(8).model)
    ids = torch.randint(0, VOCABULARY, (CONTEXT + FIXED,), generator=torch.Generator().manual_seed(1))
    embeds = model.get_input_embeddings()(ids).detach()
    head, tail = embeds[: FIXED // 2], embeds[-FIXED // 2 :]
    context = EncoderInput(tuple(ids[FIXED // 2 : -FIXED // 2].tolist()))
    raw = least_seconds(lambda: prefill(model, embeds), repeats)
    figures = [Figure("raw prefill", raw, 1.0, "", True)]
    positions = {ratio: kept_positions(CONTEXT, count_at_ratio(CONTEXT, ratio)) for ratio in (2, 4, 8, 16)}
    with tempfile.TemporaryDirectory() as folder:
        store = open_object_store(Path(folder).as_uri())
        writer = PartWriter("part", WIDTH, "int8")
        writer.add("passage", encoder.encode([context])[0])
        writer.write(store, below("latents"))
        write_header(store, below("latents"), [writer], "", WIDTH, "int8")
        stored = LatentStore(store, below("latents"))

        def cached(ratio: int) -> torch.Tensor:
            # A new cache each time: every run reads its rows from the store.
            [states] = ResidentLatents(stored).states([("passage", positions[ratio])])
            return prefill(model, torch.cat([head, states, tail]))

        def online(ratio: int) -> torch.Tensor:
            [states] = encoder.encode([context], [positions[ratio].tolist()])
            return prefill(model, torch.cat([head, states, tail]))

        for name, work, limits in (("cached", cached, {8: 0.2}), ("online", online, {8: 0.4})):
            for ratio in positions:
                seconds = least_seconds(lambda work=work, ratio=ratio: work(ratio), repeats)  # type: ignore[misc]
                limit = limits.get(ratio)
                promise = f"<= {limit:.2f}" if limit else ""
                figures.append(
                    Figure(f"{name} {ratio}x", seconds, seconds / raw, promise, not limit or seconds / raw <= limit)
                )
    return [*figures, *importance_figures(raw, ids, repeats)]


def importance_figures(raw: float, ids: torch.Tensor, repeats: int) -> list[Figure]:
    """A question's encoding and its product with passage vectors that were computed offline."""
    estimator = TokenEstimator(make_decoder(LAYERS).model, end_ids=[2])
    vectors = estimator.token_vectors([ids[:CONTEXT].tolist()])[0]
    figures = []
    for encoding in ("int8", "sign"):
        store = open_object_store("memory://")
        writer = PartWriter("part", WIDTH, encoding)  # type: ignore[arg-type]  # one of its values
        writer.add("passage", vectors)
        writer.write(store, below("v"))
        write_header(store, below("v"), [writer], "", WIDTH, encoding)  # type: ignore[arg-type]
        resident = ResidentLatents(LatentStore(store, below("v")))
        question = estimator.query_ids(list(range(3, 13)))

        def score(resident: ResidentLatents = resident, question: tuple[int, ...] = question) -> None:
            [table] = resident.states([("passage", np.arange(CONTEXT))])
            estimator.scores(estimator.query_vector(question), table)

        seconds = least_seconds(score, repeats)
        share = seconds / raw
        figures.append(Figure(f"token importance, offline {encoding}", seconds, share, "<= 0.02", share <= 0.02))
    return figures


def packing_figures(repeats: int) -> list[Figure]:
    """Eight inputs of 64 to 1,024 tokens: packed, and padded and run row by row as the published code does."""
    model = make_decoder(8).model
    encoder = LatentEncoder(model)
    lengths = [64, 64, 96, 128, 160, 224, 288, 1024]
    rows = [torch.randint(0, VOCABULARY, (length,)) for length in lengths]
    inputs = [EncoderInput(tuple(row.tolist())) for row in rows]

    def padded() -> None:
        with torch.inference_mode():
            for row in rows:
                gap = max(lengths) - len(row)
                ids = torch.cat([torch.zeros(gap, dtype=torch.long), row])[None]
                mask = torch.cat([torch.zeros(gap, dtype=torch.long), torch.ones_like(row)])[None]
                model(input_ids=ids, attention_mask=mask, use_cache=False)

    slow, fast = least_seconds(padded, repeats), least_seconds(lambda: encoder.encode(inputs), repeats)
    return [
        Figure("8 ragged inputs, padded row by row", slow, None, "", True),
        Figure(f"8 ragged inputs, packed ({slow / fast:.1f} times faster)", fast, None, ">= 3 times", slow / fast >= 3),
    ]


def text_figures(repeats: int) -> list[Figure]:
    """LLMLingua-2 on chat messages and on a document, against the released package on the same checkpoint."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = save_token_classifier(
            Path(folder) / "bert-base-multilingual-cased",
            "bert",
            hidden_size=256,
            num_hidden_layers=6,
            intermediate_size=1024,
        )
        scorer = LLMLingua2(path)
        ours, package = TextCompressor(scorer), _package(path)
        sentences = TEXT.split(". ")
        messages = [". ".join(sentences[n % 6 :][: 1 + n % 4]) for n in range(24)]
        document = [" ".join(f"{TEXT} Entry {number}." for number in range(30))]
        for name, texts in (("24 messages", messages), ("one document", document)):
            tokens = sum(scorer.tokenizer.counts(texts))
            one_by_one = lambda texts=texts: [package.compress_prompt_llmlingua2([text], rate=0.5) for text in texts]  # noqa: E731
            slow = least_seconds(one_by_one, repeats)
            fast = least_seconds(lambda texts=texts: ours.compress(texts, rate=0.5), repeats)  # type: ignore[misc]
            figures.append(Figure(f"{name}, package: {tokens / slow:,.0f} tokens/s", slow, None, "", True))
            label = f"{name}, ours: {tokens / fast:,.0f} tokens/s ({slow / fast:.1f} times)"
            # Whole windows cost both the same forward pass; short texts are what the package pads.
            least = 5.0 if len(texts) > 1 else 0.9
            figures.append(Figure(label, fast, None, f">= {least} times", slow / fast >= least))
    return figures


def _package(path: Path) -> Any:
    import llmlingua.prompt_compressor as module

    class Words:
        def encode(self, text: str) -> list[int]:
            return [0] * (1 + len(text) // 4)

    # The package would download GPT-3.5's vocabulary to weigh words.
    module.tiktoken.encoding_for_model = lambda _: Words()
    return module.PromptCompressor(str(path), device_map="cpu", use_llmlingua2=True)


def main() -> int:
    """Print the report; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description="What compression costs.")
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    figures = [*latent_figures(repeats), *packing_figures(repeats), *text_figures(repeats)]
    for figure in figures:
        share = f"{figure.share:6.3f}" if figure.share is not None else "      "
        verdict = "" if not figure.promise else ("kept" if figure.kept else "BROKEN")
        print(f"{figure.name:62} {figure.seconds:8.4f} s {share}  {figure.promise:10} {verdict}")
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
