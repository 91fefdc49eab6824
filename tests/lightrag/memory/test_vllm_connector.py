"""The connector on the real engine: the same greedy tokens as transformers over the same memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lightrag.errors import ArtifactError, BackendError, ConfigurationError, UsageError
from lightrag.memory.artifact.places import StorePlace
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.beacon.serving import export_serving_checkpoint, serving_checkpoint, serving_path
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.engine_memory import StoredMemory, heads_of_rank
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.identity import identify_model
from lightrag.memory.kv_memory import KVMemory, ModelIdentity
from lightrag.memory.loaded_memories import LoadedMemories
from lightrag.memory.memory_model import MemoryModel
from lightrag.storage.objects import open_object_store
from tests.lightrag.memory.beacon.checkpoints import save_servable_beacon_checkpoint

ENGINE = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]
BLOCKS = 12
"""Of 128 positions: few enough that long answers push each other out."""


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 400) for _ in range(count)]


class Stage:
    """A beacon checkpoint, its ordinary part, a store, and an engine over both."""

    def __init__(self, root: Path) -> None:
        self.beacon_folder = save_servable_beacon_checkpoint(root / "beacon")
        self.plain_folder = export_serving_checkpoint(self.beacon_folder, root / "plain")
        self.beacon = BeaconModel.load(self.beacon_folder)
        self.full = FullContextModel.load(self.plain_folder)
        self.store = open_object_store((root / "store").as_uri())
        self.root = root
        self.engine: Any = None

    def start(self, **options: Any) -> None:
        """Start the engine; ``options`` are further arguments of it."""
        from vllm import LLM
        from vllm.config import KVTransferConfig

        self.engine = LLM(
            str(self.plain_folder),
            dtype="float32",
            enforce_eager=True,
            max_model_len=1024,
            enable_prefix_caching=True,
            num_gpu_blocks_override=BLOCKS,
            disable_log_stats=False,
            kv_transfer_config=KVTransferConfig(
                kv_connector="MemoryConnector",
                kv_connector_module_path="lightrag.memory.vllm_connector",
                kv_role="kv_both",
                kv_connector_extra_config={"root": self.store.url},
            ),
            **options,
        )

    def stored(self, memory: KVMemory, name: str, **options: Any) -> StoredMemory:
        manifest = save_memory(memory, StorePlace(self.store, name), **options)
        return StoredMemory.of(manifest, name, owner="default/harbour@1")

    def answers(
        self, asked: Sequence[tuple[StoredMemory | None, list[int]]], count: int = 16
    ) -> list[tuple[list[int], int]]:
        """Greedy tokens and cached tokens of each (memory, question), all in one batch."""
        from vllm import SamplingParams, TokensPrompt

        prompts, parameters = [], []
        for memory, question in asked:
            prompt = TokensPrompt(prompt_token_ids=[0] * (memory.cells if memory else 0) + question)
            if memory:
                prompt["cache_salt"] = memory.cache_salt
            extra = {"kv_transfer_params": memory.kv_transfer_params} if memory else None
            prompts.append(prompt)
            parameters.append(SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, extra_args=extra))
        outputs = self.engine.generate(prompts, parameters, use_tqdm=False)
        return [(list(output.outputs[0].token_ids), output.num_cached_tokens) for output in outputs]

    def preemptions(self) -> int:
        return sum(metric.value for metric in self.engine.get_metrics() if metric.name == "vllm:num_preemptions")


def expected(model: MemoryModel, memory: KVMemory, question: list[int], count: int = 16) -> list[int]:
    return list(generate(model.session([memory]), [question], Decoding(max_tokens=count))[0].token_ids)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    pytest.importorskip("vllm")
    made = Stage(tmp_path_factory.mktemp("vllm"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_LOGGING_LEVEL", "ERROR"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
        ):
            environment.setenv(name, value)
        made.start()
        yield made
        made.engine.llm_engine.engine_core.shutdown()


class TestEngine:
    pytestmark = ENGINE

    def test_a_full_memory_answers_as_the_full_text(self, stage: Stage) -> None:
        text, question = tokens(137, 1), tokens(11, 2)
        memory = stage.full.memorise(text)
        [(answer, cached)] = stage.answers([(stage.stored(memory, "full"), question)])
        [(over_text, _)] = stage.answers([(None, text + question)])
        assert answer == over_text == expected(stage.full, memory, question)
        assert cached == 137

    @pytest.mark.parametrize("length", [256, 300])
    def test_a_beacon_memory_answers_as_in_its_own_model(self, length: int, stage: Stage) -> None:
        memory, question = stage.beacon.memorise(tokens(length, 3)), tokens(9, 4)
        [(answer, cached)] = stage.answers([(stage.stored(memory, f"beacon-{length}"), question)])
        assert cached == memory.cells < length / 2
        assert answer == expected(stage.beacon, memory, question)

    def test_memories_and_plain_prompts_share_a_batch(self, stage: Stage) -> None:
        full, beacon = stage.full.memorise(tokens(150, 5)), stage.beacon.memorise(tokens(200, 6))
        first, second = stage.stored(full, "first"), stage.stored(beacon, "second")
        questions = [tokens(count, 10 + count) for count in (5, 8, 3, 20)]
        answers = stage.answers(list(zip([first, second, None, first], questions, strict=True)))
        assert answers[0][0] == expected(stage.full, full, questions[0])
        assert answers[1][0] == expected(stage.beacon, beacon, questions[1])
        assert answers[2][0] == expected(stage.full, stage.full.memorise(questions[2][:1]), questions[2][1:])
        assert answers[3][0] == expected(stage.full, full, questions[3])

    def test_the_prefix_cache_keeps_a_memory_and_never_mixes_two(self, stage: Stage) -> None:
        one, other = stage.full.memorise(tokens(280, 7)), stage.full.memorise(tokens(280, 8))
        question = tokens(6, 9)
        places = [stage.stored(one, "one"), stage.stored(other, "other")]
        assert places[0].cache_salt != places[1].cache_salt
        for memory, place in ((one, places[0]), (other, places[1]), (one, places[0]), (other, places[1])):
            [(answer, cached)] = stage.answers([(place, question)])
            assert answer == expected(stage.full, memory, question)
            assert cached >= 280

    def test_requests_that_were_preempted_load_their_memory_again(self, stage: Stage) -> None:
        memory = stage.full.memorise(tokens(200, 11))
        place = stage.stored(memory, "preempted")
        questions = [tokens(10, 20 + index) for index in range(6)]
        salted = [replace(place, owner=f"tenant-{index}/c@1") for index in range(6)]
        before = stage.preemptions()
        answers = stage.answers(list(zip(salted, questions, strict=True)), count=200)
        assert stage.preemptions() > before
        for (answer, _), question in zip(answers, questions, strict=True):
            assert answer == expected(stage.full, memory, question, 200)

    def test_eight_bit_memories_are_served(self, stage: Stage) -> None:
        from lightrag.memory.artifact.loading import load_memory

        memory, question = stage.full.memorise(tokens(90, 12)), tokens(5, 13)
        place = stage.stored(memory, "small", quantisation="int8")
        restored = load_memory(StorePlace(stage.store, "small"))
        assert stage.answers([(place, question)])[0][0] == expected(stage.full, restored, question)

    def test_a_missing_memory_fails_its_request_and_not_the_engine(self, stage: Stage) -> None:
        memory, question = stage.full.memorise(tokens(100, 14)), tokens(5, 15)
        good = stage.stored(memory, "good")
        missing = replace(good, prefix="nowhere", fingerprint="missing")
        from vllm import SamplingParams, TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=[0] * 100 + question, cache_salt=missing.cache_salt)
        for params in (missing.kv_transfer_params, {"lightrag_memory": 3}):
            extra = {"kv_transfer_params": params}
            [output] = stage.engine.generate([prompt], SamplingParams(max_tokens=4, extra_args=extra), use_tqdm=False)
            assert output.outputs[0].finish_reason == "error"
        assert stage.answers([(good, question)])[0][0] == expected(stage.full, memory, question)


def test_an_exported_checkpoint_has_the_identity_of_its_origin(tmp_path: Path) -> None:
    folder = save_servable_beacon_checkpoint(tmp_path / "beacon")
    plain = export_serving_checkpoint(folder, tmp_path / "plain")
    assert FullContextModel.load(plain).identity == BeaconModel.load(folder).identity
    assert not any("beacon" in name for name in load_file(plain / "model.safetensors"))
    with pytest.raises(UsageError, match="not empty"):
        export_serving_checkpoint(folder, plain)
    with pytest.raises(UsageError, match="not a beacon checkpoint"):
        export_serving_checkpoint(plain, tmp_path / "again")


def test_a_beacon_checkpoint_is_made_servable_once_and_any_other_is_served_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = save_servable_beacon_checkpoint(tmp_path / "beacon"), tmp_path / "served"
    abandoned = cache / ".partial-killed"
    abandoned.mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: serving_checkpoint(folder, cache), range(4)))
    assert made == {serving_path(folder, cache)}
    [served] = made
    assert serving_checkpoint(folder, cache) == served
    assert [str(served) in record.getMessage() for record in caplog.records] == [True]
    assert not abandoned.exists()
    assert identify_model(served) == identify_model(folder)
    assert serving_checkpoint(served, cache) == served
    # A checkpoint that was trained further is another one.
    (folder / "generation_config.json").write_text("{}")
    assert serving_checkpoint(folder, cache) != served


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = save_servable_beacon_checkpoint(tmp_path / "beacon"), tmp_path / "served"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(BackendError, match="No space left"):
        serving_checkpoint(folder, cache)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_descriptions_of_memories_survive_json_and_stay_below_the_root() -> None:
    memory = StoredMemory("t/corpora/c/memory/1", 7, "f0", "t/c@1", {"memory.json": "t/corpora/c/x.json"})
    again = StoredMemory.from_params(json.loads(json.dumps(memory.kv_transfer_params)))
    assert again == memory
    assert StoredMemory.from_params(None) is StoredMemory.from_params({"other": 1}) is None
    for prefix in ("../other-tenant", "/etc", "a/../../b"):
        with pytest.raises(UsageError, match="below the engine's root"):
            StoredMemory.from_params(replace(memory, prefix=prefix).kv_transfer_params)
    with pytest.raises(UsageError, match="do not describe"):
        StoredMemory.from_params({"lightrag_memory": {"prefix": "x"}})


def test_loaded_memories_stay_within_their_budget(tmp_path: Path) -> None:
    from tests.lightrag.memory.artifact.test_files import IDENTITY, make_memory

    store = open_object_store(tmp_path.as_uri())
    made = [make_memory(seed=seed) for seed in range(3)]
    stored = [
        StoredMemory.of(save_memory(memory, StorePlace(store, str(index))), str(index), owner="t/c@1")
        for index, memory in enumerate(made)
    ]
    memories = LoadedMemories(store, IDENTITY, 2 * made[0].byte_count)
    first = memories.get(stored[0])
    assert memories.get(stored[0]) is first
    for place in stored[1:]:
        memories.get(place)
    assert memories.byte_count == 2 * made[0].byte_count
    assert memories.get(stored[0]) is not first
    with pytest.raises(ArtifactError, match="the request means"):
        LoadedMemories(store, IDENTITY, 0).get(replace(stored[0], fingerprint="other"))
    with pytest.raises(ArtifactError, match="another model"):
        LoadedMemories(store, ModelIdentity("llama", "", ""), 0).get(stored[0])


@given(heads=st.integers(1, 16), ranks=st.integers(1, 32))
def test_ranks_hold_every_head_equally_often(heads: int, ranks: int) -> None:
    if heads % ranks and ranks % heads:
        with pytest.raises(ConfigurationError):
            heads_of_rank(heads, 0, ranks)
        return
    held = [head for rank in range(ranks) for head in range(heads)[heads_of_rank(heads, rank, ranks)]]
    assert sorted(held) == held
    assert {held.count(head) for head in range(heads)} == {max(ranks // heads, 1)}
