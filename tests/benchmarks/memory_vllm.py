"""KV memories on vLLM beside our own session and a copied cache: ``python -m tests.benchmarks.memory_vllm``.

A random full-context model of Qwen2-0.5B's width, its memory of random cells in an object store. Questions per second
over one memory, 1, 4 and 16 at once, and milliseconds per generated token against memory cells. The plain way copies a
transformers cache for every question, and answers one after the other. All cores, float32, the same weights and cells.
Takes some three minutes and 6 GiB where nothing else runs.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from lightrag.memory.artifact.places import StorePlace
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.engine_memory import StoredMemory
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.kv_memory import KVMemory
from lightrag.storage.objects import open_object_store
from tests.checkpoints import save_causal_lm

QUESTION = list(range(10, 42))
AT_ONCE = (1, 4, 16)


def seconds(action: Callable[[], object], rounds: int = 3, *, warm_up: bool = True) -> float:
    """Median of some rounds, after one that warms up."""
    if warm_up:
        action()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def build_memory(model: FullContextModel, cells: int) -> KVMemory | None:
    """A memory of ``cells`` cells whose numbers are random; what they are does not change what they cost."""
    if not cells:
        return None
    made = model.memorise([7] * 8)
    shape = (made.keys[0].shape[0], cells, made.keys[0].shape[2])
    generator = torch.Generator().manual_seed(cells)

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(shape, generator=generator) for _ in made.keys)

    return KVMemory("full", made.model, draw(), draw(), made.rope, source_tokens=cells)


class PlainWay:
    """A transformers model whose cache is copied for every question."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    @torch.inference_mode()
    def ask(self, memory: KVMemory | None, count: int) -> None:
        """Answer one question greedily."""
        sides = zip(memory.keys, memory.values, strict=True) if memory else ()
        cache = DynamicCache(copy.deepcopy([(key[None], value[None]) for key, value in sides]))
        ids = torch.tensor([QUESTION])
        for _ in range(count):
            output = self.model(ids, past_key_values=cache, use_cache=True)
            ids = output.logits[:, -1:].argmax(-1)


class Engine:
    """vLLM over memories in a store."""

    def __init__(self, folder: Path, root: Path, longest: int) -> None:
        from vllm import LLM
        from vllm.config import KVTransferConfig

        self.store = open_object_store(root.as_uri())
        self._stored: dict[str, StoredMemory] = {}
        self.llm = LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            max_model_len=longest,
            enable_prefix_caching=True,
            kv_transfer_config=KVTransferConfig(
                kv_connector="MemoryConnector",
                kv_connector_module_path="lightrag.memory.vllm_connector",
                kv_role="kv_both",
                kv_connector_extra_config={"root": self.store.url},
            ),
        )

    def ask(self, memory: KVMemory | None, at_once: int, count: int) -> None:
        """Answer some questions over one memory in one batch."""
        from vllm import SamplingParams, TokensPrompt

        sampling = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
        prompt = TokensPrompt(prompt_token_ids=QUESTION)
        if memory is not None:
            stored = self._in_store(memory)
            prompt = TokensPrompt(prompt_token_ids=[0] * memory.cells + QUESTION, cache_salt=stored.cache_salt)
            sampling.extra_args = {"kv_transfer_params": stored.kv_transfer_params}
        self.llm.generate([prompt] * at_once, sampling, use_tqdm=False)

    def _in_store(self, memory: KVMemory) -> StoredMemory:
        name = f"cells-{memory.cells}"
        if name not in self._stored:
            manifest = save_memory(memory, StorePlace(self.store, name))
            self._stored[name] = StoredMemory.of(manifest, name, owner="default/bench@1")
        return self._stored[name]


def ask_one_by_one(plain: PlainWay, memory: KVMemory | None, questions: int, count: int) -> None:
    """The plain way has no batches over one memory."""
    for _ in range(questions):
        plain.ask(memory, count)


def ask_session(model: FullContextModel, memory: KVMemory | None, at_once: int, count: int) -> None:
    """Answer some questions over one memory in one session."""
    generate(model.session([memory] * at_once), [QUESTION] * at_once, Decoding(max_tokens=count))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    shape: dict[str, Any] = {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "num_hidden_layers": arguments.layers,
        "max_position_embeddings": 65536,
    }
    with tempfile.TemporaryDirectory() as root:
        folder = save_causal_lm(Path(root, "model"), "qwen2", weight_scale=1.0, **shape)
        model, plain = FullContextModel.load(folder), PlainWay(folder)
        engine = Engine(folder, Path(root, "store"), max(2048, *arguments.cells) + 512)
        print(f"{arguments.layers} layers, {arguments.tokens} tokens per answer, {os.cpu_count()} cores", flush=True)
        memory = build_memory(model, arguments.asked)
        print(f"questions per second over one memory of {arguments.asked} cells")
        plain.ask(memory, 2)  # warms up
        for at_once in AT_ONCE:
            one_by_one = partial(ask_one_by_one, plain, memory, at_once, arguments.tokens)
            together = partial(ask_session, model, memory, at_once, arguments.tokens)
            batched = partial(engine.ask, memory, at_once, arguments.tokens)
            taken = (seconds(one_by_one, 1, warm_up=False), seconds(together), seconds(batched))
            rates = [at_once / each for each in taken]
            said = f"copied {rates[0]:6.2f}, ours {rates[1]:6.2f}, vLLM {rates[2]:6.2f}"
            print(f"{at_once:3d} at once: {said}", flush=True)
        print("milliseconds per generated token, one question")
        for cells in arguments.cells:
            memory = build_memory(model, cells)
            asks: list[Callable[[int], object]] = [
                partial(plain.ask, memory),
                partial(ask_session, model, memory, 1),
                partial(engine.ask, memory, 1),
            ]
            costs = [1e3 * _per_token(ask, arguments.tokens) for ask in asks]
            said = f"copied {costs[0]:7.1f}, ours {costs[1]:7.1f}, vLLM {costs[2]:7.1f}"
            print(f"{cells:6d} cells: {said}", flush=True)


def _per_token(ask: Callable[[int], object], tokens: int) -> float:
    """Seconds per token after the first, which pays for the question."""
    return (seconds(lambda: ask(1 + tokens)) - seconds(lambda: ask(1))) / tokens


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16, help="generated per answer")
    parser.add_argument("--cells", type=int, nargs="+", default=[0, 2048, 8192, 32768])
    parser.add_argument("--asked", type=int, default=2048, help="cells of the memory that many questions are asked of")
    run(parser.parse_args())
