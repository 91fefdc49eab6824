"""Which calls are made again when their replica is lost, on Serve's handles without a cluster."""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator
from typing import Any, cast

import grpc
import pytest
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.conversation import RemoteMemories
from deployments.handles import RemoteAnswerer, RemoteEmbedder
from deployments.losses import ReplicaBroken, telling
from deployments.models import RemoteLanguageModel
from lightrag.conversation.service import Addition
from lightrag.conversation.types import Scope
from lightrag.errors import BackendError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.models.base import CompletionDelta, Prompt
from lightrag.models.fakes import ScriptedLanguageModel
from lightrag.types import CorpusId, Usage

REQUEST = GenerationRequest(CorpusId("default", "mill").at(1), "rag", "Who founded the mill?", ())
ADA = Scope("default", "ada")


def cut_off(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, "cut off")


class Mortal:
    """Is lost at its first calls, in the middle of the work: before any word, or after one."""

    def __init__(self, losses: list[Exception], spoken: bool = False) -> None:
        self.losses = losses
        self.spoken = spoken
        self.calls: list[str] = []

    async def embed_texts(self, texts: list[str], **_: Any) -> int:
        self._work("embed_texts")
        return len(texts)

    async def call(self, method: str, *arguments: Any, **_: Any) -> Any:
        self._work(f"{method} {arguments[1].request_id}" if method == "add" else method)

    async def answer(self, request: GenerationRequest, **_: Any) -> AsyncGenerator[list[GenerationDelta], None]:
        if self.spoken:
            yield [GenerationDelta("Ada ")]
        self._work("answer")
        yield [GenerationDelta("Lind", done=True)]

    async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[CompletionDelta, None]:
        self._work("stream")
        yield CompletionDelta("Lind", "stop", Usage(calls=1))

    async def done(self) -> list[str]:
        return self.calls

    def _work(self, what: str) -> None:
        self.calls.append(what)
        if self.losses:
            raise self.losses.pop(0)


def mortal(*losses: Exception, spoken: bool = False) -> DeploymentHandle:
    application = cast("Any", serve.deployment(Mortal)).bind(list(losses), spoken)
    return serve.run(application, name=f"mortal-{id(application)}", _local_testing_mode=True)


async def test_a_stage_is_asked_again_however_its_replica_was_lost() -> None:
    gone = [ActorDiedError(), ActorUnavailableError("away", bytes(16)), cut_off(grpc.StatusCode.CANCELLED)]
    handle = mortal(*gone, cut_off(grpc.StatusCode.UNAVAILABLE), ReplicaBroken("its engine has died"))
    assert await RemoteEmbedder(handle).embed_texts(["one", "two"]) == 2
    assert await handle.done.remote() == ["embed_texts"] * 6


async def test_a_replica_says_that_it_is_broken_where_its_model_is_and_not_where_the_model_failed_once() -> None:
    async def healthy() -> None: ...

    async def broken() -> None:
        raise BackendError("its engine has died", subject="model")

    for check, expected in ((healthy, BackendError), (broken, ReplicaBroken)):
        with pytest.raises(BackendError) as caught:
            async with telling(check):
                raise BackendError("failed")
        assert type(caught.value) is expected
    assert (str(caught.value), caught.value.subject, caught.value.retryable) == ("its engine has died", "model", True)
    with pytest.raises(ReplicaBroken):
        raise pickle.loads(pickle.dumps(caught.value))  # it crosses processes


async def test_a_message_that_was_refused_is_not_sent_again() -> None:
    handle = mortal(cut_off(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(BackendError, match="refused") as caught:
        await RemoteEmbedder(handle).embed_texts(["one"])
    assert not caught.value.retryable


async def test_an_answer_is_begun_again_before_its_first_word_and_not_after_it() -> None:
    silent = mortal(ActorDiedError())
    assert [delta.text async for delta in RemoteAnswerer(silent).answer(REQUEST)] == ["Lind"]
    speaking = mortal(ActorDiedError(), spoken=True)
    deltas = aiter(RemoteAnswerer(speaking).answer(REQUEST))
    assert (await anext(deltas)).text == "Ada "
    with pytest.raises(BackendError, match="lost"):
        await anext(deltas)


async def test_a_completion_for_another_stage_is_begun_again_too() -> None:
    model = RemoteLanguageModel(mortal(ReplicaBroken("its engine has died")), ScriptedLanguageModel([]))
    assert [delta.text async for delta in model.stream(Prompt.of("Who founded the mill?"))] == ["Lind"]


async def test_messages_are_added_again_under_the_same_id_and_edits_are_not_made_again() -> None:
    handle = mortal(ActorDiedError())
    await RemoteMemories(handle).add(ADA, Addition(()))
    first, second = await handle.done.remote()
    assert first == second
    assert "auto-" in first
    handle = mortal(ActorDiedError())
    with pytest.raises(BackendError, match="whether it had done this") as caught:
        await RemoteMemories(handle).edit(ADA, "entry", "Ada sings.", None)
    assert caught.value.retryable
    assert await handle.done.remote() == ["edit"]
