"""From messages to token ids: the chat template, what users say, latents, raw prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.models.base import Prompt
from lightrag.models.local.rendering import PromptRenderer
from lightrag.types import ChatMessage, LatentPart
from tests.checkpoints import CHAT_TEMPLATE, SPECIAL_TOKENS, save_tokenizer

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> PromptRenderer:
    return renderer_with(CHAT_TEMPLATE, tmp_path_factory.mktemp("renderer"))


def renderer_with(template: str | None, folder: Path) -> PromptRenderer:
    save_tokenizer(folder, chat_template=template)
    return PromptRenderer(folder, "tiny")


def decoded(renderer: PromptRenderer, prompt: Prompt) -> str:
    return str(renderer.pretrained.decode(renderer.render(prompt).token_ids))


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40))
def test_ordinary_text_is_rendered_exactly_like_transformers_does(renderer: PromptRenderer, text: str) -> None:
    expected = renderer.pretrained.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    assert renderer.render(Prompt.of(text)).token_ids == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "x", " ", "<|", "|>", "\n"]), max_size=8).map("".join))
def test_nothing_that_users_write_becomes_a_special_token(renderer: PromptRenderer, text: str) -> None:
    ids = renderer.render(Prompt.of(text)).token_ids
    special = {renderer.pretrained.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    assert sum(token in special for token in ids) == 3
    assert decoded(renderer, Prompt.of(text)) == (f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")


def test_latents_stand_where_they_were_put(renderer: PromptRenderer) -> None:
    first, second = LatentPart(np.zeros((3, 8)), "a"), LatentPart(np.zeros((2, 8)), "b")
    message = ChatMessage("user", (first, "between", second))
    rendered = renderer.render(Prompt((message,)))
    kinds = [segment if isinstance(segment, LatentPart) else "ids" for segment in rendered.segments]
    assert kinds == ["ids", first, "ids", second, "ids"]
    assert rendered.length == len(rendered.token_ids) + 5


def test_a_raw_prompt_is_taken_as_it_is_special_tokens_included(renderer: PromptRenderer) -> None:
    raw = Prompt((ChatMessage("user", "<|im_start|>user\nwho?"), ChatMessage("assistant", "<|im_end|>")), raw=True)
    assert decoded(renderer, raw) == "<|im_start|>user\nwho?<|im_end|>"
    assert renderer.pretrained.convert_tokens_to_ids("<|im_end|>") in renderer.render(raw).token_ids


def test_a_template_without_system_role_gets_the_instructions_in_the_first_user_turn(tmp_path: Path) -> None:
    renderer = renderer_with(NO_SYSTEM, tmp_path)
    assert decoded(renderer, Prompt.of("who?", system="Be brief.")).startswith(
        "<|im_start|>user\nBe brief.\n\nwho?<|im_end|>"
    )


def test_a_template_that_refuses_the_roles_is_explained(tmp_path: Path) -> None:
    renderer = renderer_with("{{ raise_exception('roles must alternate') }}", tmp_path)
    for prompt in (Prompt.of("who?"), Prompt.of("who?", system="x")):
        with pytest.raises(UsageError, match="roles must alternate"):
            renderer.render(prompt)


def test_a_template_that_drops_latents_is_an_error(tmp_path: Path) -> None:
    renderer = renderer_with("{{ messages[0]['role'] }}", tmp_path)
    with pytest.raises(UsageError, match="drops or repeats latents"):
        renderer.render(Prompt((ChatMessage("user", (LatentPart(np.zeros((1, 8))),)),)))


def test_without_template_turns_are_plain_and_said(tmp_path: Path) -> None:
    renderer = renderer_with(None, tmp_path)
    assert decoded(renderer, Prompt.of("who?", system="Be brief.")) == "Be brief.\n\nUser: who?\n\nAssistant:"
    assert "no chat template" in renderer.notes[0]


def test_a_prompt_without_messages_is_refused(renderer: PromptRenderer) -> None:
    with pytest.raises(UsageError, match="at least one message"):
        renderer.render(Prompt(()))
