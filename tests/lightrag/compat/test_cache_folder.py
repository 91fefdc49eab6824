"""What a pipeline keeps on disk: folders of ours and of the published system, whole, mixed up and damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightrag import MemoRAG, Memory
from lightrag.errors import ArtifactError, BackendError, NotFoundError
from tests.lightrag.compat.checkpoints import BOOK, BUNDLED, THINGS, write_published_folder

CLUES = ["the council voted to build the observatory", "Ada Lind opened the railway station"]


@pytest.fixture(scope="module")
def pipe(beacon: Path) -> MemoRAG:
    pipe = MemoRAG(str(beacon), BUNDLED, retrieval_chunk_size=64)
    pipe.memorize(BOOK)
    return pipe


@pytest.fixture
def published(beacon: Path, pipe: MemoRAG, tmp_path: Path) -> Path:
    passages = pipe._memorised.passages  # type: ignore[union-attr]  # memorised above
    return write_published_folder(tmp_path / "published", beacon, BOOK, passages.texts, passages.vectors)


def test_a_published_folder_loads_with_its_memory_its_chunks_and_its_vectors(
    published: Path, pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = make_pipe()
    loaded.load(published, print_stats=True)
    assert "language: en" in capsys.readouterr().out
    native = pipe.mem_model.held.cells
    for one, other in zip(loaded.mem_model.held.cells.keys, native.keys, strict=True):
        assert one.sub(other).abs().max() < 1e-3
    assert loaded._retrieve(CLUES) == pipe._retrieve(CLUES)
    assert isinstance(loaded("Who opened the theatre?", max_new_tokens=4), str)


def test_the_text_of_a_published_folder_is_known_and_not_memorised_again(
    published: Path, make_pipe: Callable[..., MemoRAG]
) -> None:
    loaded = make_pipe()
    loaded.load(published)
    before = loaded.mem_model.held
    loaded(context=BOOK, query="Who opened the theatre?", max_new_tokens=2)
    assert loaded.mem_model.held is before
    loaded(context=BOOK + " And more.", query="Who opened the theatre?", max_new_tokens=2)
    assert loaded.mem_model.held is not before


@pytest.mark.parametrize("dimension", [384, 1024])
def test_vectors_of_another_retriever_are_made_anew(
    dimension: int, published: Path, pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], beacon: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    texts = json.loads((published / "chunks.json").read_text(encoding="utf-8"))
    shutil.rmtree(published)
    strange = np.random.default_rng(0).normal(size=(len(texts), dimension)).astype(np.float32)
    write_published_folder(published, beacon, BOOK, texts, strange)
    loaded = make_pipe()
    loaded.load(published)
    assert "embedded anew" in caplog.text
    assert loaded._retrieve(CLUES) == pipe._retrieve(CLUES)


def test_a_published_memory_alone_loads_and_keeps_its_language_open(published: Path, beacon: Path) -> None:
    memory = Memory(str(beacon), beacon_ratio=4)
    memory.load(published / "memory.bin")
    assert memory.held.language == "und"
    assert isinstance(memory.answer("谁开了灯塔？", max_new_tokens=2), str)


def test_code_in_a_published_file_never_runs(published: Path, make_pipe: Callable[..., MemoRAG]) -> None:
    marker = published / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    torch.save({"beacon_activations": Evil()}, published / "memory.bin")
    with pytest.raises(ArtifactError, match="plain tensors"):
        make_pipe().load(published)
    assert not marker.exists()


def test_a_full_context_model_refuses_a_published_file(published: Path, tiny_llama: Path) -> None:
    with pytest.raises(ArtifactError, match="memorise the text again"):
        Memory(str(tiny_llama)).load(published / "memory.bin")


def test_a_folder_of_ours_is_the_same_after_loading(
    pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], tmp_path: Path
) -> None:
    pipe.save(tmp_path / "book")
    loaded = make_pipe()
    loaded.load(tmp_path / "book")
    assert loaded._retrieve(CLUES) == pipe._retrieve(CLUES)
    assert loaded.mem_model.held.cells.cells == pipe.mem_model.held.cells.cells
    assert json.loads((tmp_path / "book" / "chunks.json").read_text(encoding="utf-8"))[0].startswith("In 1870")


def test_saving_over_a_published_folder_replaces_it(
    published: Path, pipe: MemoRAG, make_pipe: Callable[..., MemoRAG]
) -> None:
    pipe.save(published)
    assert (published / "memory.bin").is_dir()
    make_pipe().load(published)
    assert not [path for path in published.iterdir() if path.name.startswith(".")]


def test_another_model_s_memory_is_refused_with_what_differs(
    pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], tmp_path: Path, tiny_llama: Path
) -> None:
    pipe.save(tmp_path / "book")
    with pytest.raises(ArtifactError, match=r"another model.*weights"):
        make_pipe(str(tiny_llama)).load(tmp_path / "book")


def test_a_missing_folder_is_named(make_pipe: Callable[..., MemoRAG], tmp_path: Path, beacon: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing was memorised in"):
        make_pipe().load(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="no memory at"):
        Memory(str(beacon)).load(tmp_path / "nowhere" / "memory.bin")


def test_an_interrupted_save_is_noticed(pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], tmp_path: Path) -> None:
    pipe.save(tmp_path / "book")
    loaded = make_pipe()
    (tmp_path / "book" / "memorag.json").rename(tmp_path / "kept.json")
    with pytest.raises(ArtifactError, match="interrupted"):
        loaded.load(tmp_path / "book")
    (tmp_path / "kept.json").rename(tmp_path / "book" / "memorag.json")
    (tmp_path / "book" / "chunks.json").write_text(json.dumps(THINGS), encoding="utf-8")
    with pytest.raises(ArtifactError, match="do not belong together"):
        loaded.load(tmp_path / "book")


def test_a_memory_of_another_text_is_noticed(pipe: MemoRAG, make_pipe: Callable[..., MemoRAG], tmp_path: Path) -> None:
    pipe.save(tmp_path / "book")
    other = make_pipe()
    other.mem_model.memorize("Something else entirely was read here, and saved beside the chunks of the book.")
    other.mem_model.save(tmp_path / "book" / "memory.bin")
    with pytest.raises(ArtifactError, match="do not belong together"):
        other.load(tmp_path / "book")


@pytest.mark.parametrize(
    ("name", "content"),
    [("chunks.json", b"[1, 2]"), ("chunks.json", b"\xff\xfe"), ("chunks.json", b"[]"), ("index.bin", b"not an index")],
)
def test_damaged_files_of_a_published_folder_are_named(
    name: str, content: bytes, published: Path, make_pipe: Callable[..., MemoRAG]
) -> None:
    (published / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        make_pipe().load(published)


def test_a_chunk_too_few_is_noticed(published: Path, make_pipe: Callable[..., MemoRAG]) -> None:
    texts = json.loads((published / "chunks.json").read_text(encoding="utf-8"))
    (published / "chunks.json").write_text(json.dumps(texts[1:]), encoding="utf-8")
    with pytest.raises(ArtifactError, match="do not belong together"):
        make_pipe().load(published)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    make_pipe: Callable[..., MemoRAG], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    pipe = make_pipe()
    with pytest.raises(BackendError, match="cannot be made"):
        pipe.memorize(BOOK, save_dir=tmp_path / "file" / "book")
    assert pipe._memorised is None
