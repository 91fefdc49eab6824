"""Answers as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import TypeAdapter

from lightrag.api.problems import problem
from lightrag.errors import LightRAGError
from lightrag.memory.base import Recollection
from lightrag.rag import AnswerText, AskEvent, Finished, Recalled, Retrieved
from lightrag.types import Answer, Evidence

ANSWER = TypeAdapter(Answer)
_EVIDENCE = TypeAdapter(tuple[Evidence, ...])
RECOLLECTION = TypeAdapter(Recollection)


async def server_sent(events: AsyncGenerator[AskEvent, None]) -> AsyncGenerator[bytes, None]:
    """Encode a pipeline's events; an error becomes a last ``error`` event, since the status line is long gone."""
    async with aclosing(events):
        try:
            async for event in events:
                yield _encode(event)
        except LightRAGError as error:
            _, document, _ = problem(error)
            yield _frame("error", json.dumps(document, ensure_ascii=False).encode())


def _encode(event: AskEvent) -> bytes:
    match event:
        case Recalled(recollection):
            return _frame("clues", RECOLLECTION.dump_json(recollection))
        case Retrieved(evidence, _):
            return _frame("evidence", _EVIDENCE.dump_json(evidence))
        case AnswerText(text):
            return _frame("text", json.dumps(text, ensure_ascii=False).encode())
        case Finished(answer):
            return _frame("answer", ANSWER.dump_json(answer))


def _frame(name: str, data: bytes) -> bytes:
    # JSON has no raw line breaks, so one data line is enough.
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def read_frame(frame: str) -> tuple[str, Any] | None:
    """Decode one frame as (event name, value); ``None`` for comments."""
    name, data = "message", []
    for line in frame.splitlines():
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
    return (name, json.loads("\n".join(data))) if data else None


__all__ = ["ANSWER", "RECOLLECTION", "read_frame", "server_sent"]
