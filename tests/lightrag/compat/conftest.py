"""Checkpoints, pipelines over them, and a chat service on loopback that says what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lightrag import Agent, MemoRAG
from tests.lightrag.compat.checkpoints import BUNDLED, save_beacon_chat_model


@pytest.fixture(scope="session")
def beacon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_beacon_chat_model(tmp_path_factory.mktemp("compat") / "beacon")


@pytest.fixture(scope="session")
def beacon_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_beacon_chat_model(tmp_path_factory.mktemp("compat") / "beacon-mistral", "mistral")


@pytest.fixture
def make_pipe(beacon: Path) -> Callable[..., MemoRAG]:
    def make(memory: Any = None, **options: Any) -> MemoRAG:
        return MemoRAG(memory or str(beacon), BUNDLED, **{"retrieval_chunk_size": 64, **options})

    return make


@dataclass
class Recorder:
    """A generator of the user's own: remembers what it was asked."""

    answer: str = "So it was."
    prompts: list[str] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def generate(self, prompt: str, max_new_tokens: int = 256) -> list[str]:
        self.prompts.append(prompt)
        self.limits.append(max_new_tokens)
        return [self.answer]


@dataclass
class ChatService:
    """Speaks OpenAI's chat interface; ``reply`` makes an answer of the user's message."""

    url: str = ""
    reply: Callable[[str], str] = lambda prompt: "hello"
    status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.requests]

    def agent(self, **options: Any) -> Agent:
        return Agent("scribe", "openai", {"api_key": "sk-local", "base_url": self.url}, **options)


def handler_for(service: ChatService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.requests.append(body)
            service.paths.append(self.path)
            service.keys.append(self.headers.get("Authorization") or self.headers.get("api-key") or "")
            message = {"role": "assistant", "content": service.reply(body["messages"][-1]["content"])}
            answer = {
                "id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }  # fmt: skip
            if service.status != 200:
                answer = {"error": {"message": "made up", "code": None, "param": None, "type": "made_up"}}
            content = json.dumps(answer).encode()
            self.send_response(service.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def service() -> Iterator[ChatService]:
    state = ChatService()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join(5)
