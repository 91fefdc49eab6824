"""Groups of documents as KV memories and latents in a version of a corpus, from settings to what a reader opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lightrag.config import load_settings
from lightrag.errors import ConfigurationError
from lightrag.ingestion import encoding
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.latents.choice import open_passage_encoder
from lightrag.latents.positions import kept_positions
from lightrag.latents.resident import ResidentLatents
from lightrag.latents.store import LatentStore
from lightrag.memory import StorePlace, TextMemory, load_memory, load_memory_model
from lightrag.memory.kv_memory import KVMemory
from lightrag.models import HashingEmbedder, ScriptedLanguageModel
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.storage.groups import GroupRole, StoredGroup, read_groups
from tests.checkpoints import SPECIAL_TOKENS, save_causal_lm
from tests.lightrag.ingestion.conftest import Bench, story

WINDOW = 2000


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that never ends an answer, nor says anything that is not text."""
    folder = save_causal_lm(tmp_path_factory.mktemp("talkative"), "qwen2", seed=3)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][: len(SPECIAL_TOKENS)] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def beacon(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beacon checkpoint: the tiny model, told to compress."""
    folder = tmp_path_factory.mktemp("beacon") / "checkpoint"
    shutil.copytree(tiny_qwen2, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"beacon_window": 64, "beacon_stride": 64, "beacon_ratio": [4], "beacon_param": []}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def memory_settings(model: Path, **memory: Any) -> dict[str, Any]:
    return {"memory": {"model": str(model), "window_tokens": WINDOW, **memory}}


def groups(bench: Bench, role: GroupRole = "memory") -> list[StoredGroup]:
    return read_groups(bench.log, bench.newest(), role)


def paths(bench: Bench, group: StoredGroup) -> dict[str, str]:
    return {name: bench.log.layout.file(path) for name, path in group.paths.items()}


def loaded_memory(bench: Bench, group: StoredGroup) -> KVMemory:
    return load_memory(StorePlace(bench.log.store, paths=paths(bench, group)))


def sources(bench: Bench, group: StoredGroup) -> list[str]:
    names = {row.document_id: name for name, row in bench.documents().items()}
    return [names[identity] for identity in group.group.documents]


class TestMemories:
    def test_a_version_has_memories_of_all_its_documents(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(5)
        summary = bench.ingest(settings=memory_settings(tiny_qwen2))
        found = groups(bench)
        assert len(found) > 1
        assert sorted(name for group in found for name in sources(bench, group)) == sorted(bench.documents())
        assert (summary.groups_encoded, summary.groups_carried) == (len(found), 0)
        commit = bench.newest()
        assert (commit.counts["memories"], commit.counts["latent_groups"]) == (len(found), 0)
        assert summary.groups_bytes == commit.file_set("memory").bytes
        assert summary.seconds["encode"] > 0
        model = load_memory_model(tiny_qwen2)
        assert commit.fingerprints["memory"] == model.identity.fingerprint
        assert not bench.log.check_integrity(deep=True).problems
        assert not list(bench.log.store.list("default/corpora/tales/staging"))

    def test_a_memory_is_that_of_its_text_and_can_be_asked(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write("a.txt", "The bell rang once.\n\nThe bay froze in the night.")
        bench.ingest(settings=memory_settings(tiny_qwen2))
        (group,) = groups(bench)
        memory = loaded_memory(bench, group)
        reader = TextMemory.load(tiny_qwen2, load_memory_model(tiny_qwen2))
        title = bench.documents()["a.txt"].title
        text = "The bell rang once.\n\nThe bay froze in the night."
        expected = reader.memorise(text if text.startswith(title) else f"{title}\n\n{text}", language="en")
        assert memory.kind == "full"
        assert (memory.cells, group.group.tokens, group.group.language) == (expected.cells, expected.cells, "en")
        torch.testing.assert_close(memory.keys[0], expected.keys[0])
        assert reader.ask(memory, ["What rang?"], max_tokens=4)

    def test_texts_fit_the_window_and_routes_are_unit_vectors_of_the_embedder(
        self, bench: Bench, tiny_qwen2: Path
    ) -> None:
        bench.write_many(6)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        for group in groups(bench):
            assert loaded_memory(bench, group).source_tokens <= WINDOW + 200  # prompts around the text
            routes = group.group.routes
            assert 0 < len(routes) <= 16
            assert routes.shape[1] == 256
            assert np.allclose(np.linalg.norm(routes, axis=1), 1, atol=1e-5)

    def test_a_document_longer_than_the_window_becomes_several_memories(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write("long.txt", "\n\n".join(story(number) for number in range(6)))
        bench.write("short.txt", "The bell rang once.")
        bench.ingest(settings=memory_settings(tiny_qwen2))
        rows = bench.documents()
        parts = [group.group.chunks.get(rows["long.txt"].document_id) for group in groups(bench)]
        ranges = sorted(each for each in parts if each is not None)
        assert len(ranges) > 1
        assert [ordinal for start, end in ranges for ordinal in range(start, end)] == list(
            range(rows["long.txt"].chunks)
        )

    def test_int8_takes_fewer_bytes(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(2)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        full = bench.newest().file_set("memory").bytes
        summary = bench.ingest(settings=memory_settings(tiny_qwen2, storage="int8"))
        assert summary.groups_encoded == len(groups(bench))
        assert bench.newest().file_set("memory").bytes < full / 2
        assert loaded_memory(bench, groups(bench)[0]).dtype == torch.float32

    def test_gists_written_by_the_memory_model_are_memorised(self, bench: Bench, talkative: Path) -> None:
        bench.write_many(3)
        settings = memory_settings(talkative, kind="gist") | {"gists": {"tokens_per_gist": 16, "chunks_per_gist": 2}}
        summary = bench.ingest(settings=settings)
        (group,) = groups(bench)
        memory = loaded_memory(bench, group)
        assert memory.kind == "gist"
        assert memory.source_tokens < sum(row.tokens for row in bench.documents().values())
        assert summary.groups_encoded == 1

    def test_gists_of_a_configured_generator_are_memorised_as_they_are(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(2)
        writer = ScriptedLanguageModel(lambda prompt, sampling: "The bell rang in Lindholm.")
        chosen = load_settings(None, home=bench.home, **memory_settings(tiny_qwen2, kind="gist"))
        spec = IngestSpec(corpus="tales", source=SourceSpec(location=str(bench.docs)))
        with Line(chosen, spec, embedder=HashingEmbedder(), language_model=writer) as line:
            ingest(line)
        calls = len(writer.calls)
        (group,) = groups(bench)
        tokenizer = HuggingFaceTokenizer.open(tiny_qwen2)
        gists = tokenizer.count("The bell rang in Lindholm.") * len(bench.loaded().gists)
        assert gists <= loaded_memory(bench, group).source_tokens <= gists + 200
        assert calls == len(bench.loaded().gists)  # written once, for the corpus
        assert len({tuple(route) for route in group.group.routes.round(4).tolist()}) == 1

    def test_a_beacon_memory_has_fewer_cells_than_tokens(self, bench: Bench, beacon: Path) -> None:
        bench.write_many(3)
        summary = bench.ingest(settings=memory_settings(beacon, kind="beacon", ratio=4))
        for group in groups(bench):
            memory = loaded_memory(bench, group)
            assert memory.kind == "beacon"
            assert memory.source_tokens / 5 < memory.cells < memory.source_tokens / 2
        again = bench.ingest(settings=memory_settings(beacon, kind="beacon", ratio=2))
        assert (again.groups_carried, again.unchanged) == (0, 3)
        assert summary.groups_encoded == again.groups_encoded

    def test_the_models_own_window_is_used_where_none_is_set(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(5)
        bench.ingest(settings=memory_settings(tiny_qwen2, window_tokens=None))
        found = groups(bench)
        assert len(found) > 1
        assert all(group.group.tokens <= 4096 for group in found)


class TestChanges:
    def test_nothing_changed_encodes_nothing_and_commits_nothing(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(4)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        summary = bench.ingest(settings=memory_settings(tiny_qwen2))
        assert (summary.committed, summary.groups_encoded) == (False, 0)
        assert bench.log.versions() == [1]

    def test_a_change_encodes_its_group_only_and_carries_the_others_untouched(
        self, bench: Bench, tiny_qwen2: Path
    ) -> None:
        bench.write_many(6)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        before = {group.group.key: group for group in groups(bench)}
        bench.write("001.txt", story(70))
        summary = bench.ingest(settings=memory_settings(tiny_qwen2))
        after = {group.group.key: group for group in groups(bench)}
        touched = [key for key, group in before.items() if key not in after]
        assert len(touched) == 1
        assert summary.groups_carried == len(before) - 1
        assert all(after[key].paths == before[key].paths for key in before if key in after)
        assert sorted(name for group in after.values() for name in sources(bench, group)) == sorted(bench.documents())

    def test_deleting_a_document_takes_its_group_away(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(4)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        (bench.docs / "003.txt").unlink()
        bench.ingest(settings=memory_settings(tiny_qwen2))
        assert sorted(name for group in groups(bench) for name in sources(bench, group)) == [
            "000.txt",
            "001.txt",
            "002.txt",
        ]

    def test_a_document_that_is_taken_out_leaves_every_memory(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(3)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        identity = bench.documents()["001.txt"].document_id
        spec = IngestSpec.removal(bench.log.corpus, [identity])
        chosen = load_settings(None, home=bench.home, **memory_settings(tiny_qwen2))
        with Line(chosen, spec, embedder=HashingEmbedder()) as line:
            ingest(line)
        assert identity not in {name for group in groups(bench) for name in group.group.documents}
        assert sorted(name for group in groups(bench) for name in sources(bench, group)) == ["000.txt", "002.txt"]

    @pytest.mark.parametrize("change", [{"storage": "int8"}, {"window_tokens": 1500}, {"dtype": "bfloat16"}])
    def test_other_settings_encode_all_groups_anew_and_parse_nothing(
        self, bench: Bench, tiny_qwen2: Path, change: dict[str, Any]
    ) -> None:
        bench.write_many(2)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        old = {group.group.key for group in groups(bench)}
        chunks = bench.newest().file_set("chunks")
        summary = bench.ingest(settings=memory_settings(tiny_qwen2, **change))
        assert (summary.unchanged, summary.processed_chunks, summary.groups_carried) == (2, 0, 0)
        assert summary.groups_encoded == len(groups(bench))
        assert old.isdisjoint(group.group.key for group in groups(bench))
        assert bench.newest().file_set("chunks") == chunks

    @pytest.mark.parametrize("change", [{"gists": {"tokens_per_gist": 40}}, {"embedder": HashingEmbedder(128)}])
    def test_other_gists_or_vectors_give_memories_other_routes_and_leave_their_cells(
        self, bench: Bench, tiny_qwen2: Path, change: dict[str, Any]
    ) -> None:
        bench.write_many(3)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        before = {group.group.key: group for group in groups(bench)}
        gists = {"gists": change["gists"]} if "gists" in change else {}
        embedder = change.get("embedder")
        summary = bench.ingest(settings=memory_settings(tiny_qwen2) | gists, embedder=embedder)
        after = {group.group.key: group for group in groups(bench)}
        assert (summary.changed, summary.groups_encoded, summary.groups_carried) == (3, 0, len(before))
        assert after.keys() == before.keys()
        for key, group in after.items():
            old, new = before[key].paths, group.paths
            assert old.pop("group.json") != new.pop("group.json")
            assert old == new
            assert len(group.group.routes) > 0
            assert group.group.routes.shape[1] == (embedder.dimension if embedder else 256)
        assert not bench.log.check_integrity(deep=True).problems
        assert not list(bench.log.store.list("default/corpora/tales/staging"))
        assert not bench.ingest(settings=memory_settings(tiny_qwen2) | gists, embedder=embedder).committed

    def test_another_kind_encodes_all_groups_anew(self, bench: Bench, talkative: Path) -> None:
        bench.write_many(2)
        bench.ingest(settings=memory_settings(talkative))
        summary = bench.ingest(settings=memory_settings(talkative, kind="gist"))
        assert (summary.unchanged, summary.groups_carried, summary.processed_chunks) == (2, 0, 0)
        assert {loaded_memory(bench, group).kind for group in groups(bench)} == {"gist"}

    def test_another_model_encodes_all_groups_anew(self, bench: Bench, tiny_qwen2: Path, tiny_llama: Path) -> None:
        bench.write_many(2)
        bench.ingest(settings=memory_settings(tiny_qwen2))
        summary = bench.ingest(settings=memory_settings(tiny_llama))
        assert (summary.groups_carried, summary.committed) == (0, True)
        assert {loaded_memory(bench, group).model.architecture for group in groups(bench)} == {"llama"}

    def test_memories_can_be_switched_on_and_off_for_unchanged_documents(self, bench: Bench, tiny_qwen2: Path) -> None:
        bench.write_many(2)
        bench.ingest()
        assert groups(bench) == []
        on = bench.ingest(settings=memory_settings(tiny_qwen2))
        assert (on.committed, on.unchanged, on.groups_encoded) == (True, 2, len(groups(bench)))
        off = bench.ingest()
        assert (off.committed, off.groups_encoded, groups(bench)) == (True, 0, [])
        assert bench.newest().counts["memories"] == 0
        assert "memory" not in bench.newest().fingerprints
        assert not bench.ingest().committed


class TestLatents:
    def settings(self, model: Path) -> dict[str, Any]:
        return {"ingest": {"latents": True}, "compression": {"method": "latents", "model": str(model)}}

    def test_every_passage_has_its_states(
        self, bench: Bench, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encoding, "PART_TOKENS", 1500)
        bench.write_many(4)
        summary = bench.ingest(settings=self.settings(tiny_llama))
        found = groups(bench, "latents")
        assert (len(found) > 1, summary.groups_encoded) == (True, len(found))
        assert bench.newest().counts["latent_groups"] == len(found)
        encoder = open_passage_encoder(load_settings(None, **self.settings(tiny_llama)).compression)
        chunks = {chunk.chunk_id: chunk for chunk in bench.chunks()}
        seen = 0
        for group in found:
            files = paths(bench, group)
            store = LatentStore(bench.log.store, files.__getitem__, fingerprint=encoder.fingerprint)
            resident = ResidentLatents(store)
            own = [chunk for chunk in chunks.values() if chunk.document_id in group.group.documents]
            for chunk in own:
                (passage,) = encoder.tokenize([chunk.text])
                tokens = store.tokens(chunk.chunk_id)
                assert tokens == len(passage.ids)
                positions = kept_positions(tokens, 5)
                (states,) = resident.states([(chunk.chunk_id, positions)])
                (expected,) = encoder.encode([passage.ids])
                scale = expected.abs().max()
                torch.testing.assert_close(states / scale, expected[positions] / scale, atol=0.01, rtol=0)
            assert store.header.passages == len(own)
            seen += len(own)
        assert seen == len(chunks)

    def test_a_change_encodes_its_part_only(
        self, bench: Bench, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encoding, "PART_TOKENS", 1500)
        bench.write_many(4)
        first = bench.ingest(settings=self.settings(tiny_llama))
        assert not bench.ingest(settings=self.settings(tiny_llama)).committed
        bench.write("000.txt", story(70))
        second = bench.ingest(settings=self.settings(tiny_llama))
        assert second.groups_carried == first.groups_encoded - 1
        assert bench.ingest().committed
        assert groups(bench, "latents") == []


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"memory": {"kind": "beacon"}}, "not a beacon checkpoint"),
            ({"memory": {"kind": "gist", "ratio": 4}}, r"takes no memory\.ratio"),
            ({"memory": {"window_tokens": 100000}}, "window_tokens is 100000"),
            ({"ingest": {"latents": True}}, r"set compression\.models\.latents"),
            ({"ingest": {"latents": True}, "compression": {"method": "latents"}}, r"set compression\.model"),
        ],
    )
    def test_contradictions_fail_before_anything_is_done(
        self, bench: Bench, tiny_qwen2: Path, settings: dict[str, Any], message: str
    ) -> None:
        bench.write_many(1)
        if "memory" in settings:
            settings = {"memory": {"model": str(tiny_qwen2), **settings["memory"]}}
        with pytest.raises(ConfigurationError, match=message):
            bench.ingest(settings=settings)
        assert bench.log.latest() is None
        assert not list(bench.log.store.list("default/corpora/tales/staging"))
