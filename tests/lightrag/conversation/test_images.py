"""Images attached to messages: read when added, kept, found by words, refused by name. A tiny CLIP with real parts."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightrag.conversation import LightMemory
from lightrag.conversation._sync import run_sync
from lightrag.conversation.images.clip import PictureEmbedder
from lightrag.conversation.images.index import CAPTIONS
from lightrag.errors import ArtifactError, ConfigurationError, MessageError, NotFoundError
from tests.checkpoints import save_tokenizer
from tests.lightrag.conversation.conftest import Opener, echo, say

COLOURS = ((220, 30, 30), (30, 200, 60), (40, 60, 220), (250, 250, 250))


def save_clip(folder: Path) -> Path:
    """A random CLIP with real parts: a byte-level tokenizer, two towers, an image processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder.mkdir(parents=True)
    tokenizer = save_tokenizer(folder)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config=tower | text, vision_config=tower | {"image_size": 32, "patch_size": 8}, projection_dim=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "model")


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    from PIL import Image

    # Stripes, so that no two pictures look alike after normalisation.
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, :: 2 + sum(colour) % 5] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def seeing(open_memory: Opener, clip: Path) -> Any:
    def opener(**options: Any) -> LightMemory:
        configs = {"model": str(clip), **options.pop("configs", {})}
        return open_memory(multimodal_embedder={"model_name": "huggingface", "configs": configs}, **options)

    return opener


def nats(clip: Path, files: list[bytes], question: str) -> np.ndarray:
    """Evidence as documented: how far the question stands out among neutral captions, for each image."""
    model = PictureEmbedder(str(clip))
    images, plain = model.pictures(files), model.texts(CAPTIONS)
    background = images @ plain.T
    similar = images @ model.texts([question])[0]
    return (similar - background.mean(axis=1)) / background.std(axis=1)


def test_an_image_is_found_by_words_through_the_same_call(seeing: Any, clip: Path) -> None:
    files = [picture(colour) for colour in COLOURS]
    memory = seeing(retrieve_strategy="embedding", spread=False)
    memory.add_memory([{"role": "user", "time_stamp": f"2024-01-0{n + 1}", "content": "", "images": [file]}
                       for n, file in enumerate(files)], force_extract=True)  # fmt: skip
    questions = ["who built the harbour", "a red stripe", "numbers 1 2 3", "the mayor at noon", "ice in the bay"]
    expected = {question: nats(clip, files, question) for question in questions}
    # Ask where the model is of a clear opinion; rounding decides nothing.
    question, scores = max(expected.items(), key=lambda item: float(np.diff(np.sort(item[1]))[-1]))
    assert scores.max() > 0
    found = memory.search(question, limit=4).entries
    assert found[0].entry.time.day == int(np.argmax(scores)) + 1
    assert found[0].entry.kind == "turn"
    assert {reason.index for reason in found[0].found_by} >= {"image"}


def test_a_question_that_fits_no_image_better_than_a_neutral_caption_finds_text_only(seeing: Any, clip: Path) -> None:
    file = picture(COLOURS[0])
    memory = seeing(retrieve_strategy="embedding", spread=False)
    memory.add_memory({**say("I play the cello."), "images": [file]}, force_extract=True)
    questions = ["who built the harbour", "a red stripe", "numbers 1 2 3", "the mayor at noon", "ice in the bay"]
    unfit = min(questions, key=lambda question: float(nats(clip, [file], question)[0]))
    assert nats(clip, [file], unfit)[0] < 0
    found = memory.search(unfit).entries
    assert not any(reason.index == "image" for hit in found for reason in hit.found_by)


@pytest.mark.parametrize("form", ["bytes", "path", "file_uri", "data_uri", "base64", "part"])
def test_images_come_in_any_usual_form_and_are_handed_back_unchanged(seeing: Any, tmp_path: Path, form: str) -> None:
    file = picture(COLOURS[1], kind="JPEG")
    path = tmp_path / "boat.jpg"
    path.write_bytes(file)
    inline = "data:image/jpeg;base64," + base64.b64encode(file).decode()
    given: dict[str, Any] = {
        "bytes": {"images": [file]},
        "path": {"images": [str(path)]},
        "file_uri": {"images": [path.as_uri()]},
        "data_uri": {"images": [inline]},
        "base64": {"images": [base64.b64encode(file).decode()]},
        "part": {
            "content": [{"type": "text", "text": "My boat."}, {"type": "image_url", "image_url": {"url": inline}}]
        },
    }
    memory = seeing()
    memory.add_memory({**say("My boat."), **given[form]}, force_extract=True)
    path.unlink()
    (entry,) = memory.entries()
    (reference,) = entry.images
    assert memory.picture(reference) == file
    assert len(reference) < 300


def test_images_survive_a_restart_and_a_lost_index(seeing: Any, tmp_path: Path) -> None:
    import shutil

    memory = seeing(retrieve_strategy="embedding")
    memory.add_memory({**say("Look."), "images": [picture(colour) for colour in COLOURS]}, force_extract=True)
    memory.retrieve("the mayor")
    index = memory._engine.images
    view = run_sync(memory._engine.keeper.view(memory.scope))
    before = index.evidence(memory.scope, view, "the mayor")
    memory.close()
    shutil.rmtree(tmp_path / "memory" / "lightmem-images")
    again = seeing(retrieve_strategy="embedding")
    again.retrieve("the mayor")
    view = run_sync(again._engine.keeper.view(memory.scope))
    assert again._engine.images.evidence(memory.scope, view, "the mayor") == pytest.approx(before)


def test_messages_with_images_stay_found_where_turns_are_not_kept(seeing: Any) -> None:
    memory = seeing(retrieve_turns=False, script=echo)
    memory.add_memory({**say("My boat."), "images": [picture(COLOURS[2])]}, force_extract=True)
    assert sorted(entry.kind for entry in memory.entries()) == ["fact", "turn"]


def test_filters_and_users_hold_for_images(seeing: Any) -> None:
    memory = seeing(retrieve_strategy="embedding", spread=False)
    ann, bob = memory.for_user("t", "ann"), memory.for_user("t", "bob")
    for n, colour in enumerate(COLOURS):
        stamp = f"2024-01-0{n + 1}"
        ann.add_memory({**say("", stamp, speaker_name="Ann"), "images": [picture(colour)]}, force_extract=True)
    assert bob.search("boat").entries == ()
    found = ann.search("boat", filters={"time": {"gte": "2024-01-03"}}).entries
    assert all(hit.entry.time.day >= 3 for hit in found)
    ann.forget()
    assert ann.search("boat").entries == ()
    assert ann._engine.images._store.count(ann.scope) == 0


def test_a_filter_on_text_memory_is_untouched_by_images(seeing: Any) -> None:
    memory = seeing(retrieve_strategy="context")
    memory.add_memory({**say("I play the cello."), "images": [picture(COLOURS[0])]}, force_extract=True)
    assert len(memory.retrieve("cello")) == 1


def damaged() -> bytes:
    return picture(COLOURS[0])[:60]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "no image that can be read"),
        (b"just text", "no image that can be read"),
        ("https://example.org/boat.png", "nothing is fetched"),
        ("/no/such/boat.png", "no file on this machine"),
        ("data:image/png;base64,####", "base64 is damaged"),
        ("data:image/png", "without data"),
        (picture(COLOURS[0], size=(300, 300)), "300 x 300 pixels"),
        (picture(COLOURS[0]) + b"\0" * 9000, "bytes; at most 8,000"),
        (damaged(), "image 0"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_and_nothing_is_stored(seeing: Any, image: Any, reason: str) -> None:
    memory = seeing(configs={"max_image_bytes": 8000, "max_image_pixels": 10_000})
    with pytest.raises(MessageError, match=reason) as caught:
        memory.add_memory([say("First."), {**say("Second."), "images": [image]}])
    assert "message 1" in str(caught.value)
    assert memory.entries() == []


@pytest.mark.parametrize("images", ["boat.png", [7], [""], {"a": 1}])
def test_images_of_a_wrong_type_are_refused(seeing: Any, images: Any) -> None:
    with pytest.raises(MessageError, match="message 0 has"):
        seeing().add_memory({**say("Look."), "images": images})


def test_more_images_than_one_message_holds_are_refused(seeing: Any) -> None:
    with pytest.raises(MessageError, match="at most 64"):
        seeing().add_memory({**say("Look."), "images": [picture(COLOURS[0], (4, 4))] * 65})


def test_a_service_reads_no_paths_of_its_own_machine(seeing: Any, tmp_path: Path) -> None:
    (tmp_path / "boat.png").write_bytes(picture(COLOURS[0]))
    memory = seeing(configs={"local_paths": False})
    for path in (str(tmp_path / "boat.png"), "/etc/passwd", str(tmp_path / "missing.png")):
        with pytest.raises(MessageError, match="paths are not read here"):
            memory.add_memory({**say("Look."), "images": [path]})


def test_a_picture_that_is_not_kept_is_named(seeing: Any) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        seeing().picture("picture:nothing")


def test_without_an_embedder_images_stay_with_their_messages(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory({**say("Look."), "images": ["boat.png", b"\x89PNG"]}, force_extract=True)
    first, second = memory.entries()[0].images
    assert first == "boat.png"
    assert second.startswith("data:")


def test_a_checkpoint_that_is_no_clip_is_refused_by_name(open_memory: Opener, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    option = {"model_name": "huggingface", "configs": {"model": str(tmp_path / "empty")}}
    with pytest.raises(ArtifactError, match="multimodal_embedder"):
        open_memory(multimodal_embedder=option)
    with pytest.raises(ConfigurationError, match="multimodal_embedder needs vectors"):
        open_memory(multimodal_embedder=option, index_strategy="context", retrieve_strategy="context")
