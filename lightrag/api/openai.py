"""The OpenAI-compatible routes: chat completions over assistants, embeddings, models. Errors in OpenAI's shape."""

# Annotations are evaluated here: FastAPI reads them, and the tenant dependency is a local name.
import base64
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute

from lightrag.api.events import ANSWER
from lightrag.api.openai_schemas import ChatBody, EmbeddingsBody
from lightrag.api.problems import problem
from lightrag.assistants import Assistants, Chat, assistant_names
from lightrag.errors import LightRAGError, NotFoundError, UsageError
from lightrag.models.base import FloatMatrix
from lightrag.models.text_embedding import TextEmbedder
from lightrag.rag import AnswerText, AskEvent, Finished
from lightrag.types import Answer


class _OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except LightRAGError as error:
                status, body, headers = failure(error)
                return JSONResponse(body, status, headers)
            except RequestValidationError as error:
                what = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
                return JSONResponse(_error(what, "invalid_request_error"), 400)

        return handled


def openai_routes(
    assistants: Assistants,
    corpora: Callable[[str], Coroutine[Any, Any, list[str]]],
    embedder: TextEmbedder | None,
    embedding_model: str,
    Tenant: Any,
) -> APIRouter:
    """Build the routes.

    Args:
        assistants: answer chats.
        corpora: names of a tenant's corpora, each of which is an assistant.
        embedder: embeds texts; ``None``: this service offers no embeddings.
        embedding_model: name of the embedder's model.
        Tenant: annotation that resolves to the request's tenant.
    """
    routes = APIRouter(prefix="/v1", tags=["openai"], route_class=_OpenAIRoute)
    _add_chat(routes, assistants, Tenant)
    _add_models(routes, assistants, corpora, embedding_model if embedder else None, Tenant)
    if embedder is not None:
        _add_embeddings(routes, embedder, embedding_model, Tenant)
    return routes


def _add_chat(routes: APIRouter, assistants: Assistants, Tenant: Any) -> None:
    @routes.post("/chat/completions")
    async def chat_completions(body: ChatBody, tenant: Tenant) -> Response:
        """Answer a chat: ``model`` names an assistant or a corpus; ``user`` opens that user's memory."""
        messages = tuple(message.to_chat() for message in body.messages)
        chat = Chat(
            tenant,
            body.model,
            messages,
            user=body.user,
            conversation=body.lightrag.conversation,
            options=body.options(),
        )
        events = assistants.stream(chat)
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": body.model}
        if body.stream:
            # The first event decides the status, so that what cannot be answered is an error and no stream.
            first = await anext(events)
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return StreamingResponse(_chunks(head, first, events, with_usage), media_type="text/event-stream")
        async with aclosing(events):
            answer = [event.answer async for event in events if isinstance(event, Finished)][-1]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": _finish_reason(answer),
        }
        return JSONResponse(
            {
                **head,
                "object": "chat.completion",
                "choices": [choice],
                "usage": _usage(answer),
                "lightrag": ANSWER.dump_python(answer, mode="json"),
            }
        )


async def _chunks(
    head: Mapping[str, Any], first: AskEvent, rest: AsyncGenerator[AskEvent, None], with_usage: bool
) -> AsyncGenerator[str, None]:
    def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _frame({**head, "object": "chat.completion.chunk", "choices": [choice], **more})

    async def events() -> AsyncGenerator[AskEvent, None]:
        yield first
        async for event in rest:
            yield event

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(rest):
        try:
            async for event in events():
                if isinstance(event, AnswerText):
                    yield chunk({"content": event.text})
                elif isinstance(event, Finished):
                    said = ANSWER.dump_python(event.answer, mode="json")
                    yield chunk({}, _finish_reason(event.answer), lightrag=said)
                    if with_usage:
                        usage = _usage(event.answer)
                        yield _frame({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        except LightRAGError as error:
            # The status line is long gone; the official client raises on an event like this.
            yield _frame(failure(error)[1])
            return
    yield "data: [DONE]\n\n"


def _add_models(
    routes: APIRouter,
    assistants: Assistants,
    corpora: Callable[[str], Coroutine[Any, Any, list[str]]],
    embedding_model: str | None,
    Tenant: Any,
) -> None:
    async def names(tenant: str) -> list[str]:
        own = assistant_names(assistants.configured, await corpora(tenant))
        return [*own, *([embedding_model] if embedding_model and embedding_model not in own else [])]

    @routes.get("/models")
    async def models(tenant: Tenant) -> dict[str, Any]:
        """List what may be asked: assistants, corpora, and the embedder."""
        return {"object": "list", "data": [_model(name) for name in await names(tenant)]}

    @routes.get("/models/{model:path}")
    async def model(model: str, tenant: Tenant) -> dict[str, Any]:
        """Describe one of them."""
        if model not in await names(tenant):
            raise NotFoundError(f"there is no model {model!r}", subject=model)
        return _model(model)


def _add_embeddings(routes: APIRouter, embedder: TextEmbedder, name: str, Tenant: Any) -> None:
    @routes.post("/embeddings")
    async def embeddings(body: EmbeddingsBody, tenant: Tenant) -> dict[str, Any]:
        """Embed texts as documents are embedded."""
        if body.model != name:
            raise NotFoundError(f"there is no embedding model {body.model!r}, only {name!r}", subject="model")
        vectors, tokens = await embedder.embed_texts(body.texts())
        if body.dimensions not in (None, vectors.shape[1]):
            raise UsageError(f"dimensions={body.dimensions}: this model gives {vectors.shape[1]}", subject="dimensions")
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body.model, "data": data, "usage": usage}


def _encoded(vector: FloatMatrix, form: Literal["float", "base64"]) -> list[float] | str:
    if form == "float":
        return [float(number) for number in vector]
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lightrag"}


def _finish_reason(answer: Answer) -> Literal["stop", "length"]:
    return "length" if answer.limited else "stop"


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _frame(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _error(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure(error: LightRAGError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Describe an error in OpenAI's shape, as (status, body, headers)."""
    status, _, headers = problem(error)
    if status == 422:
        return 400, _error(str(error), "invalid_request_error"), headers
    kinds = {
        401: ("authentication_error", "invalid_api_key"),
        403: ("permission_error", None),
        404: ("invalid_request_error", "model_not_found"),
        409: ("conflict_error", None),
        413: ("invalid_request_error", "context_length_exceeded"),
        429: ("rate_limit_error", "rate_limit_exceeded"),
    }
    kind, code = kinds.get(status, ("server_error", None))
    return status, _error(str(error), kind, code), headers


__all__ = ["TextEmbedder", "failure", "openai_routes"]
