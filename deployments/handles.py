"""Stage protocols over Serve handles: what the pipeline calls in the ingress, answered by replicas elsewhere.

Overload and lost replicas become retryable backend errors. A call whose replica is lost, or has lost its model's
engine, is repeated here first, for longer than a cluster takes to notice that a node is gone; the deadline of the
request, which cancels the call, ends that sooner. Every stage may be repeated until the first word of an answer was
passed on. Errors raised in a replica arrive as themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from deployments.losses import ReplicaBroken
from lightrag.compression import CompressedContext, CompressionRequest
from lightrag.errors import BackendError, LightRAGError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.models.text_embedding import EmbeddedTexts
from lightrag.retrieval.base import RetrievalRequest, RetrievalResult
from lightrag.tracing import carried
from lightrag.types import CorpusVersion

# Ray declares a silent node dead after 20 s and starts its replicas elsewhere, which takes some seconds more.
_OUTLAST_SECONDS = 45.0
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0


class RemoteRecaller:
    """Recalls on a replica that holds the corpus."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def recall(self, request: RecallRequest) -> Recollection:
        """See :class:`lightrag.memory.base.Recaller`."""
        result: Recollection = await _call(_affine(self._handle, request.corpus), "recall", request)
        return result


class RemoteRetriever:
    """Retrieves on a replica that holds the corpus."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def retrieve(self, request: RetrievalRequest) -> RetrievalResult:
        """See :class:`lightrag.retrieval.base.Retriever`."""
        result: RetrievalResult = await _call(_affine(self._handle, request.corpus), "retrieve", request)
        return result

    async def retrieve_many(self, requests: Sequence[RetrievalRequest]) -> tuple[RetrievalResult, ...]:
        """See :class:`lightrag.retrieval.base.Retriever`. One call: Serve's consistent hashing loses all but one of
        the calls that one request makes to one deployment at the same time (they share its internal id).
        """
        if not requests:
            return ()
        handle = _affine(self._handle, requests[0].corpus)
        results: tuple[RetrievalResult, ...] = await _call(handle, "retrieve_many", tuple(requests))
        return results


class RemoteEmbedder:
    """Embeds texts on any retrieval replica."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """See :class:`lightrag.models.text_embedding.TextEmbedder`."""
        result: EmbeddedTexts = await _call(self._handle, "embed_texts", list(texts))
        return result


class RemoteCompressor:
    """Compresses on a replica that holds the corpus's latents, or on any where there is no corpus."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def compress(self, request: CompressionRequest) -> CompressedContext:
        """See :class:`lightrag.compression.CompressionStage`."""
        handle = self._handle if request.corpus is None else _affine(self._handle, request.corpus)
        result: CompressedContext = await _call(handle, "compress", request)
        return result


class RemoteAnswerer:
    """Streams an answer from any replica. Not retried once a word was passed on.

    Args:
        handle: to the deployment.
        method: of its replicas that answers.
    """

    def __init__(self, handle: DeploymentHandle, method: str = "answer") -> None:
        self._handle = handle
        self._method = method

    async def answer(self, request: GenerationRequest) -> AsyncIterator[GenerationDelta]:
        """See :class:`lightrag.generation.base.Answerer`."""
        async with aclosing(_stream(self._handle, self._method, request)) as batches:
            async for batch in batches:
                for delta in batch:
                    yield delta


def readiness(handle: DeploymentHandle) -> Callable[[], Awaitable[object]]:
    """A check that a replica of a stage answers, which it does once it is warm."""
    return partial(_call, handle, "ready")


def _affine(handle: DeploymentHandle, corpus: CorpusVersion) -> DeploymentHandle:
    """Prefer the replica that holds this corpus already (consistent hashing on tenant/corpus)."""
    return handle.options(session_id=f"{corpus.tenant}/{corpus.corpus}")


async def _call(handle: DeploymentHandle, method: str, *arguments: Any, repeatable: bool = True) -> Any:
    """Call a method of a replica.

    Args:
        handle: to the deployment.
        method: its name.
        arguments: of the method.
        repeatable: doing it twice does no harm, so a call whose replica was lost in the middle is made again.
    """
    waits = _waits()
    while True:
        try:
            return await _call_once(handle, method, *arguments)
        except _LOSSES as error:
            wait = next(waits, None) if repeatable and _is_loss(error) else None
            if wait is None:
                raise _lost(handle, error, known=repeatable) from error
            await asyncio.sleep(wait)


async def _call_once(handle: DeploymentHandle, method: str, *arguments: Any) -> Any:
    response = getattr(handle, method).remote(*arguments, trace=carried())
    try:
        return await response
    except asyncio.CancelledError:
        # A deadline ends the waiting only; the replica must be told.
        response.cancel()
        raise
    except RayTaskError as error:
        raise _original(error) from None
    except BackPressureError as error:
        raise _overloaded(handle) from error


async def _stream(handle: DeploymentHandle, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
    """Call a method that yields; a call whose replica was lost before the first item is made again."""
    waits = _waits()
    while True:
        begun = False
        try:
            async with aclosing(_stream_once(handle, method, *arguments)) as items:
                async for item in items:
                    begun = True
                    yield item
        except _LOSSES as error:
            wait = None if begun or not _is_loss(error) else next(waits, None)
            if wait is None:
                raise _lost(handle, error) from error
            await asyncio.sleep(wait)
        else:
            return


async def _stream_once(handle: DeploymentHandle, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
    response = getattr(handle.options(stream=True), method).remote(*arguments, trace=carried())
    try:
        async for item in response:
            yield item
    except RayTaskError as error:
        raise _original(error) from None
    except BackPressureError as error:
        raise _overloaded(handle) from error
    finally:
        # A generator that is left early must stop the replica's work; a finished one ignores this.
        response.cancel()


def _waits() -> Iterator[float]:
    """Seconds to wait before each further try, counted from the first loss until nobody waits any more."""
    began, wait = time.monotonic(), _FIRST_WAIT_SECONDS
    while time.monotonic() - began < _OUTLAST_SECONDS:
        yield wait
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


# Serve turns most losses into RayActorError; a call that a stopping replica cuts off arrives as gRPC's own error.
_LOSSES = (RayActorError, grpc.aio.AioRpcError, ReplicaBroken)


def _is_loss(error: BaseException) -> bool:
    gone = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return not isinstance(error, grpc.aio.AioRpcError) or error.code() in gone


def _original(error: RayTaskError) -> BaseException:
    """The error that was raised in the replica; bugs keep Ray's remote traceback."""
    cause = error.cause
    return cause if isinstance(cause, LightRAGError | asyncio.CancelledError) else error


def _overloaded(handle: DeploymentHandle) -> BackendError:
    return BackendError(f"{handle.deployment_name} has as many waiting requests as it may; try again", retryable=True)


def _lost(handle: DeploymentHandle, error: BaseException, *, known: bool = True) -> BackendError:
    name = handle.deployment_name
    if not _is_loss(error):
        return BackendError(f"a message to or from {name} was refused: {error}")
    if known:
        return BackendError(f"every tried replica of {name} was lost: {error}", retryable=True)
    message = f"a replica of {name} was lost before it said whether it had done this; look, then try again: {error}"
    return BackendError(message, retryable=True)


__all__ = ["RemoteAnswerer", "RemoteCompressor", "RemoteEmbedder", "RemoteRecaller", "RemoteRetriever", "readiness"]
