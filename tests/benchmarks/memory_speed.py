"""Speed of KV memories: ``python -m tests.benchmarks.memory_speed [--cells 0 2048] [--layers 24] [--json FILE]``.

A random beacon model of the shape of Qwen2-0.5B (vocabulary cut to 32 K) on one thread, against the published way of
handling the same cache (``memory_reference.py``). Measures decoding per token against memory cells, recall of three
instructions, questions per second, what a question allocates, memorising, and loading (``memory_loading.py``). Medians;
the machine's other load shows in the spread, so run it twice. vLLM over the same kind of memory: ``memory_vllm.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.kv_memory import BeaconState, KVMemory, ModelIdentity, rope_state
from tests.benchmarks.memory_loading import described, load_cost
from tests.benchmarks.memory_reference import PublishedStyle

QUESTION = list(range(100, 132))


def build_model(layers: int) -> BeaconModel:
    """A model of Qwen2-0.5B's shape with small random weights."""
    config = BeaconConfig.from_dict({
        "model_type": "qwen2", "vocab_size": 32000, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": layers, "num_attention_heads": 14, "num_key_value_heads": 2,
        "max_position_embeddings": 65536, "rope_theta": 1e6, "eos_token_id": 2,
        "beacon_window": 2048, "beacon_stride": 2048, "beacon_ratio": [4], "beacon_param": ["q", "k", "v"],
    })  # fmt: skip
    torch.manual_seed(0)
    decoder = BeaconDecoder(config).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.02)
    return BeaconModel(decoder, config, ModelIdentity("qwen2", "random", "random"))


def build_memory(model: BeaconModel, cells: int) -> KVMemory | None:
    """A memory of random cells; how they came about does not change what they cost."""
    if not cells:
        return None
    shape = model.config.cache_shape

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(shape.kv_heads, cells, shape.head_dim) for _ in range(shape.layers))

    rope = rope_state(model.config.rope.table(cells), cells)
    return KVMemory("beacon", model.identity, draw(), draw(), rope, source_tokens=4 * cells, beacon=BeaconState())


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def decode_cost(model: BeaconModel, cells: int, count: int) -> tuple[float, float]:
    """Median seconds per generated token: published way, ours."""
    memory = build_memory(model, cells)
    published, state = PublishedStyle(model, cells), None
    state = published.memory
    published.step(QUESTION, state)
    theirs = [seconds(lambda: published.step([5], state)) for _ in range(count)]
    session = model.session([memory])
    session.read([QUESTION], protect=True)
    ours = [seconds(lambda: session.read([[5]], protect=True)) for _ in range(count)]
    return statistics.median(theirs), statistics.median(ours)


def recall_cost(model: BeaconModel, cells: int, count: int) -> tuple[float, float]:
    """Seconds for three instructions with ``count`` tokens each: one after the other with copies, and in one batch."""
    memory, published = build_memory(model, cells), PublishedStyle(model, cells)
    theirs = seconds(lambda: [published.ask(QUESTION, count) for _ in range(3)])
    decoding = Decoding(max_tokens=count)
    ours = seconds(lambda: generate(model.session([memory] * 3), [QUESTION] * 3, decoding))
    return theirs, ours


def questions_per_second(model: BeaconModel, cells: int, at_once: int, count: int) -> float:
    memory, decoding = build_memory(model, cells), Decoding(max_tokens=count)
    taken = seconds(lambda: generate(model.session([memory] * at_once), [QUESTION] * at_once, decoding))
    return at_once / taken


def published_questions_per_second(model: BeaconModel, cells: int, count: int) -> float:
    """However many are waiting: the published model answers one after the other."""
    published = PublishedStyle(model, cells)
    return 1 / seconds(lambda: published.ask(QUESTION, count))


def memorise_cost(model: BeaconModel, tokens: int) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = seconds(lambda: model.memorise([7] * tokens))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"tokens": tokens, "tokens_per_second": tokens / taken, "peak_growth_mib": grown / 1024}


def allocated_by_a_question(model: BeaconModel, cells: int, count: int) -> dict[str, float]:
    """MiB that the tensors take which one question over a memory makes, against those of the memory."""
    memory, published = build_memory(model, cells), PublishedStyle(model, cells)
    assert memory is not None
    decoding = Decoding(max_tokens=count)
    return {
        "memory": memory.byte_count / 2**20,
        "published": allocated(lambda: published.ask(QUESTION, count)) / 2**20,
        "ours": allocated(lambda: generate(model.session([memory]), [QUESTION], decoding)) / 2**20,
    }


def allocated(action: Callable[[], object]) -> int:
    """Bytes of all tensors that an action makes, freed ones included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    return sum(max(0, event.cpu_memory_usage) for event in profile.events() if event.name == "[memory]")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    model = build_model(arguments.layers)
    report: dict[str, Any] = {"layers": arguments.layers, "torch": torch.__version__, "cores": os.cpu_count()}
    # First, so that the peak is its own.
    report["memorise"] = memorise_cost(model, arguments.memorise)
    print("memorise:", report["memorise"], flush=True)
    report["decode_ms_per_token"] = {}
    for cells in arguments.cells:
        theirs, ours = decode_cost(model, cells, arguments.tokens)
        report["decode_ms_per_token"][cells] = {"published": theirs * 1e3, "ours": ours * 1e3, "gain": theirs / ours}
        print(f"decode, {cells:6d} cells: published {theirs * 1e3:7.1f} ms, ours {ours * 1e3:6.1f} ms, "
              f"{theirs / ours:.1f}x", flush=True)  # fmt: skip
    theirs, ours = recall_cost(model, 8192, arguments.tokens)
    report["recall_of_three_seconds"] = {"published": theirs, "ours": ours, "gain": theirs / ours}
    print(
        f"three instructions, 8192 cells: published {theirs:.1f} s, ours {ours:.1f} s, {theirs / ours:.1f}x", flush=True
    )
    rates = {f"ours, {n} at once": questions_per_second(model, 2048, n, arguments.tokens) for n in (1, 4, 16)}
    rates["published"] = published_questions_per_second(model, 2048, arguments.tokens)
    report["questions_per_second"] = rates
    print("questions per second, 2048 cells:", _rounded(rates), flush=True)
    report["mib_allocated_by_a_question"] = allocated_by_a_question(model, 8192, arguments.tokens)
    print("MiB, 8192 cells, allocated by a question:", _rounded(report["mib_allocated_by_a_question"]), flush=True)
    report["load"] = [load_cost(int(gib * 2**30), 3) for gib in arguments.load_gib]
    for row in report["load"]:
        print("load,", described(row), flush=True)
    return report


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[0, 2048, 8192, 32768])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=8, help="decoded per measurement")
    parser.add_argument("--memorise", type=int, default=4096, help="tokens to memorise")
    parser.add_argument("--load-gib", type=float, nargs="*", default=[0.25, 1.0], help="sizes of memories to load")
    parser.add_argument("--json", type=Path, help="write the report here too")
    chosen = parser.parse_args()
    figures = run(chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
