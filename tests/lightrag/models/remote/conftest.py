"""A real HTTP server on loopback that speaks the OpenAI interface and misbehaves as told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse


@dataclass
class Fault:
    """What the next request gets instead of an answer."""

    status: int = 500
    code: str | None = None
    message: str = "made up"
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    break_off: bool = False
    """Send half of a stream, then cut the connection."""


@dataclass
class Server:
    """The server's address, what it was asked, and what it will do next."""

    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    active: int = 0
    most_active: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client leaves before its stream has ended."""
    seconds: float = 0.0
    usage: bool = True
    dimension: int = 4

    def fail(self, *faults: Fault) -> None:
        self.faults.extend(faults)


WORDS = ["The ", "pier ", "was ", "opened ", "in ", "1874."]


def application(server: Server) -> FastAPI:
    app = FastAPI()

    @app.post("/{path:path}")
    async def answer(path: str, request: Request) -> Response:
        body = await request.json()
        server.paths.append(str(request.url).removeprefix(str(request.base_url)))
        server.requests.append(body)
        server.headers.append(dict(request.headers))
        server.times.append(time.monotonic())
        server.active += 1
        server.most_active = max(server.most_active, server.active)
        try:
            fault = server.faults.popleft() if server.faults else None
            await asyncio.sleep(fault.seconds if fault else server.seconds)
            if fault and not fault.seconds and not fault.break_off:
                error = {"message": fault.message, "code": fault.code, "param": fault.param, "type": "made_up"}
                return JSONResponse({"error": error}, fault.status, dict(fault.headers))
            if path.endswith("embeddings"):
                return JSONResponse(embeddings(body, server.dimension))
            if body.get("stream"):
                return StreamingResponse(stream(body, server, fault), media_type="text/event-stream")
            return JSONResponse(completion(body, server))
        finally:
            server.active -= 1

    return app


def usage() -> dict[str, Any]:
    return {
        "prompt_tokens": 11,
        "completion_tokens": 6,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 3},
    }


def completion(body: dict[str, Any], server: Server) -> dict[str, Any]:
    text = '{"year": 1874}' if "response_format" in body else f"{body['messages'][-1]['content']}: " + "".join(WORDS)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
    return {**head, **({"usage": usage()} if server.usage else {})}


async def stream(body: dict[str, Any], server: Server, fault: Fault | None) -> AsyncIterator[str]:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    try:
        for word in WORDS:
            yield event({**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            await asyncio.sleep(server.seconds)
            if fault and fault.break_off:
                raise ConnectionResetError("cut on purpose")
        yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        if server.usage and body.get("stream_options"):
            yield event({**head, "choices": [], "usage": usage()})
        yield "data: [DONE]\n\n"
    except (asyncio.CancelledError, GeneratorExit):
        server.left.set()
        raise


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def embeddings(body: dict[str, Any], dimension: int) -> dict[str, Any]:
    data = []
    for index, text in reversed(list(enumerate(body["input"]))):
        vector = [float(len(text)), float(text.count("a")), *[1.0] * (body.get("dimensions", dimension) - 2)]
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 5, "total_tokens": 5}}


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server."""
    state = Server()
    config = uvicorn.Config(application(state), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    port = running.servers[0].sockets[0].getsockname()[1]
    state.url = f"http://127.0.0.1:{port}/v1"
    yield state
    running.should_exit = True
    running.force_exit = True
    thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state
