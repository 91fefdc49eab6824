"""A service that is about to stop."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from lightrag.api.draining import Door, DoorLayer


def slow_app(door: Door, begun: asyncio.Event, go_on: asyncio.Event) -> FastAPI:
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    app.add_middleware(DoorLayer, door=door)
    return app


async def test_who_finds_the_room_full_is_told_so_in_the_shape_of_the_route() -> None:
    door, begun, go_on = Door(room=1), asyncio.Event(), asyncio.Event()
    transport = httpx.ASGITransport(slow_app(door, begun, go_on))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        first = asyncio.create_task(client.get("/slow"))
        await begun.wait()
        refused = await client.get("/slow")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "as many requests as it may" in refused.json()["detail"]
        assert "as many requests" in (await client.post("/v1/chat/completions")).json()["error"]["message"]
        assert (await client.get("/healthz")).status_code == 200
        go_on.set()
        assert (await first).json() == "done"
        assert (await client.get("/slow")).status_code == 200


async def test_what_has_begun_ends_and_nothing_new_begins() -> None:
    door, begun, go_on = Door(), asyncio.Event(), asyncio.Event()
    transport = httpx.ASGITransport(slow_app(door, begun, go_on))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        first = asyncio.create_task(client.get("/slow"))
        await begun.wait()
        assert door.inside == 1
        door.closed = True
        for path in ("/slow", "/readyz"):
            refused = await client.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["type"] == "urn:lightrag:problem:backend"
        assert "error" in (await client.post("/v1/chat/completions")).json()
        assert (await client.get("/healthz")).status_code == 200
        go_on.set()
        assert (await first).json() == "done"
    assert door.inside == 0
