"""A whole service in this process, with two tenants that use equal names for different things."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from lightrag.api.app import create_app
from lightrag.api.catalogue import StoredCatalogue
from lightrag.api.jobs import JobAccess
from lightrag.config import Settings, load_settings
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.engine_service import EngineMemories
from lightrag.conversation.opening import memory_configuration
from lightrag.engine import Engine
from lightrag.jobs.alone import only_one
from lightrag.jobs.service import JobService
from lightrag.models.fakes import HashingEmbedder
from lightrag.rag import QuestionPipeline
from lightrag.storage.objects import open_object_store
from lightrag.tenancy.audit import Act
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import KeyRequest, Role

ACT = Act("test")
MARKS = {"acme": "zinnober", "globex": "quittengelb"}
"""A word that is in everything a tenant has, and in nothing of the other."""


@dataclass
class World:
    """The service, and what there is to be found in it."""

    app: FastAPI
    tenancy: Tenancy
    keys: dict[tuple[str, Role], str]
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    """By tenant, then by the name of a parameter of a path."""
    run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
    """Runs something in the loop of the service."""

    def client(self, tenant: str = "", role: Role = "writer", **headers: str) -> httpx.AsyncClient:
        if tenant:
            headers = {"Authorization": f"Bearer {self.keys[tenant, role]}", **headers}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://service", headers=headers, timeout=60
        )


def world_settings(home: Path) -> Settings:
    return load_settings(
        None,
        home=home,
        tenant="operations",
        tenancy={"authentication": "keys", "lease_seconds": 600},
        jobs={"runner": "local", "sources": [str(home / "sources")]},
    )


@asynccontextmanager
async def open_world(home: Path, *, pipeline: QuestionPipeline | None = None) -> AsyncIterator[World]:
    """Real storage, search, memories, jobs and records; words are hashed where the model does not matter."""
    settings = world_settings(home)
    store = open_object_store(settings.storage_url)
    tenancy = Tenancy.open(settings, store)
    keys: dict[tuple[str, Role], str] = {}
    for tenant in ("acme", "globex", "operations"):
        tenancy.tenants.ensure(tenant, settings.tenancy.default_class, ACT)
        roles: tuple[Role, ...] = ("reader", "writer", "admin")
        for role in (*roles, "operator") if tenant == "operations" else roles:
            keys[tenant, role] = tenancy.keys.create(KeyRequest(tenant, f"{tenant} {role}", role), ACT).text
    memories = EngineMemories(settings, engine=open_engine(memory_configuration(settings), embedder=HashingEmbedder()))
    jobs = JobService(settings)
    (home / "sources").mkdir(exist_ok=True)
    with only_one(settings.home / "jobs", patience=0):  # nobody else runs what the tests queue
        async with Engine(settings) as engine:
            app = create_app(
                pipeline or engine.pipeline,
                StoredCatalogue(store, refresh_seconds=0.001),
                tenant="operations",
                memories=memories,
                jobs=JobAccess(jobs, store, settings),
                tenancy=tenancy,
            )
            yield World(app, tenancy, keys)
    await memories.close()
    jobs.close()
    await tenancy.close()


async def furnish(world: World, home: Path) -> None:
    """Give both tenants a corpus ``notes``, a pinned one that only they have, a memory, a job and keys."""
    for tenant, mark in MARKS.items():
        folder = home / f"documents-{tenant}"
        folder.mkdir()
        text = f"The {mark} ledger was signed in 1874 by the clerk of {mark}."
        (folder / f"{mark}.txt").write_text(text, encoding="utf-8")
        own = load_settings(None, home=home, tenant=tenant)
        async with Engine(own) as engine:
            for corpus in ("notes", f"only-{mark}"):
                await engine.ingest(os.fspath(folder), corpus=corpus)
        async with world.client(tenant) as http:
            said = {"role": "user", "content": f"My favourite colour is {mark}.", "time_stamp": "2026-01-01T00:00:00"}
            made = await http.post("/v1/memories", json={"user": "ada", "messages": said, "force_extract": True})
            assert made.status_code in (201, 202), made.text
            entry = (await http.get("/v1/memories", params={"user": "ada"})).json()["entries"][0]["entry_id"]
            body = {"corpus": "notes", "source": {"location": str(home / "sources")}}
            job = (await http.post("/v1/jobs", json=body)).json()["job_id"]
            documents = (await http.get("/v1/corpora/notes/documents")).json()["documents"]
            pinned = await http.put(f"/v1/corpora/only-{mark}/pins/lasting", json={"version": 1})
            assert pinned.status_code == 200, pinned.text
        key_id = world.keys[tenant, "reader"].split("_")[1]
        world.ids[tenant] = {
            "corpus": f"only-{mark}",
            "entry_id": entry,
            "job_id": job,
            "document_id": documents[0]["document_id"],
            "key_id": key_id,
            "name": "lasting",
            "tenant": tenant,
        }


__all__ = ["MARKS", "World", "furnish", "open_world", "world_settings"]
