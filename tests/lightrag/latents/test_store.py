from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.positions import count_at_ratio, kept_positions, nested_order
from lightrag.latents.resident import ResidentLatents
from lightrag.latents.rows import Encoding, pack_rows, row_bytes, unpack_rows
from lightrag.latents.store import HEADER_NAME, LatentStore, PartWriter, RowRange, below, write_header
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.storage.objects import ObjectStore, open_object_store
from tests.checkpoints import TRAINING_TEXT

HIDDEN = 24


def written(store: ObjectStore, passages: dict[str, torch.Tensor], encoding: Encoding = "float32") -> LatentStore:
    parts = [PartWriter(f"part-{number}", HIDDEN, encoding) for number in range(2)]
    for index, (chunk_id, states) in enumerate(passages.items()):
        parts[index % 2].add(chunk_id, states)
    locate = below("t/latents")
    for part in parts:
        part.write(store, locate)
    write_header(store, locate, parts, "maker", HIDDEN, encoding)
    return LatentStore(store, locate)


@pytest.fixture(scope="module")
def passages() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"chunk-{n}": torch.randn(n, HIDDEN, generator=generator) for n in (1, 2, 7, 64, 100)}


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_object_store(tmp_path.as_uri() if request.param == "file" else "memory://")


def test_any_ratio_is_a_prefix_and_refining_reads_only_the_rest(
    store: ObjectStore, passages: dict[str, torch.Tensor]
) -> None:
    stored = written(store, passages)
    for chunk_id, states in passages.items():
        tokens = len(states)
        assert stored.tokens(chunk_id) == tokens
        coarse, fine = count_at_ratio(tokens, 8), count_at_ratio(tokens, 4)
        first, second = stored.read([RowRange(chunk_id, 0, coarse), RowRange(chunk_id, 0, fine)])
        assert bytes(second)[: len(first)] == bytes(first)
        assert torch.equal(unpack_rows(first, HIDDEN, "float32"), states[nested_order(tokens)[:coarse].copy()])
        resident = ResidentLatents(stored)
        assert torch.equal(
            resident.states([(chunk_id, kept_positions(tokens, coarse))])[0], states[kept_positions(tokens, coarse)]
        )
        assert resident.fetched_bytes == coarse * stored.row_bytes
        assert torch.equal(
            resident.states([(chunk_id, kept_positions(tokens, fine))])[0], states[kept_positions(tokens, fine)]
        )
        assert resident.fetched_bytes == fine * stored.row_bytes


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 48), st.sampled_from(["int8", "bfloat16", "float16", "float32"]))
def test_rows_come_back_as_precise_as_their_encoding(rows: int, hidden: int, encoding: Encoding) -> None:
    states = torch.randn(rows, hidden, generator=torch.Generator().manual_seed(rows * 100 + hidden))
    packed = pack_rows(states, encoding)
    assert len(packed) == rows * row_bytes(hidden, encoding)
    back = unpack_rows(packed, hidden, encoding).float()
    bound = states.abs().amax(1, keepdim=True) / (254 if encoding == "int8" else 256)
    assert ((back - states).abs() <= bound * 1.001 + 1e-7).all()


def test_a_full_cache_lets_the_least_recently_used_go(passages: dict[str, torch.Tensor]) -> None:
    stored = written(open_object_store("memory://"), passages)
    resident = ResidentLatents(stored, max_bytes=64 * stored.row_bytes)
    for chunk_id in ("chunk-64", "chunk-7", "chunk-7"):
        resident.states([(chunk_id, kept_positions(len(passages[chunk_id]), 7))])
    assert resident.fetched_bytes == 14 * stored.row_bytes
    resident.states([("chunk-100", kept_positions(100, 60))])
    resident.states([("chunk-64", kept_positions(64, 7))])
    assert resident.fetched_bytes == (14 + 60 + 7) * stored.row_bytes


def test_what_is_not_stored_is_said(passages: dict[str, torch.Tensor]) -> None:
    store = open_object_store("memory://")
    stored = written(store, passages)
    assert stored.tokens("other") is None
    with pytest.raises(NotFoundError, match="other"):
        stored.read([RowRange("other", 0, 1)])
    with pytest.raises(UsageError, match="7 rows"):
        stored.read([RowRange("chunk-7", 0, 8)])
    with pytest.raises(ArtifactError, match="maker"):
        LatentStore(store, below("t/latents"), fingerprint="another")
    store.put(f"t/latents/{HEADER_NAME}", b"{}")
    with pytest.raises(ArtifactError, match="header"):
        LatentStore(store, below("t/latents"))
    writer = PartWriter("p", HIDDEN)
    writer.add("a", torch.zeros(3, HIDDEN))
    with pytest.raises(UsageError, match="twice"):
        writer.add("a", torch.zeros(3, HIDDEN))
    with pytest.raises(UsageError, match="shape"):
        writer.add("b", torch.zeros(3, 4))


def test_passages_are_encoded_alone_or_in_the_context_of_those_before(tiny_llama: Path) -> None:
    encoder = PassageEncoder(LatentEncoder.load(tiny_llama), HuggingFaceTokenizer.open(tiny_llama), max_length=40)
    ids = [list(item.ids) for item in encoder.tokenize([TRAINING_TEXT[:200], "", TRAINING_TEXT[200:400]])]
    alone = encoder.encode(ids)
    assert [len(states) for states in alone] == [len(row) for row in ids]
    torch.testing.assert_close(encoder.encode(ids[::-1])[0], alone[2])
    joint = encoder.encode(ids, joint=True)
    torch.testing.assert_close(joint[0], alone[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(joint[2], alone[2], atol=1e-2)
    keep = [list(range(0, len(row), 3)) for row in ids]
    for states, whole, row in zip(encoder.encode(ids, keep, joint=True), joint, keep, strict=True):
        torch.testing.assert_close(states, whole[row], atol=1e-4, rtol=1e-4)
    streamed = torch.cat(list(encoder.stream(iter(ids[0]))))
    torch.testing.assert_close(streamed, alone[0], atol=1e-4, rtol=1e-4)
