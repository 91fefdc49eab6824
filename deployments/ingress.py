"""The ingress: the HTTP face over a pipeline whose stages run in other deployments. Imports no torch."""

from __future__ import annotations

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from deployments.conversation import RemoteMemories
from deployments.handles import (
    RemoteAnswerer,
    RemoteCompressor,
    RemoteEmbedder,
    RemoteRecaller,
    RemoteRetriever,
    readiness,
)
from deployments.reports import reports
from deployments.warming import warming
from lightrag.api.app import create_app
from lightrag.api.catalogue import StoredCatalogue
from lightrag.api.draining import Door, DoorLayer
from lightrag.api.jobs import JobAccess
from lightrag.api.logs import install_json_logs
from lightrag.config import Settings
from lightrag.jobs.service import JobService
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from lightrag.tenancy.service import Tenancy
from lightrag.tracing import open_tracing


def room(settings: Settings) -> int:
    """Requests that one replica of the ingress takes in: they are worked on, or wait in the queue of their tenant."""
    tenancy = settings.tenancy
    return max(settings.service.ingress.max_requests, tenancy.slots + 4 * tenancy.queue_per_tenant)


class Ingress:
    """Composes the stages into answers, in the process that talks to clients."""

    def __init__(
        self,
        settings: Settings,
        recall: DeploymentHandle,
        retrieval: DeploymentHandle,
        compression: DeploymentHandle,
        generation: DeploymentHandle,
        conversation: DeploymentHandle,
    ) -> None:
        self._settings = settings
        self._stages = Stages(
            RemoteRetriever(retrieval),
            RemoteAnswerer(generation),
            recall=RemoteRecaller(recall),
            compress=RemoteCompressor(compression),
            quote=None if settings.generator.backend == "extractive" else RemoteAnswerer(retrieval, "quote"),
        )
        self._memories = RemoteMemories(conversation)
        self._embedder = RemoteEmbedder(retrieval)
        stages = {"recall": recall, "retrieval": retrieval, "compression": compression, "generation": generation}
        self._door = Door(room(settings))
        self._warm = warming(recall, retrieval)
        self._checks = {name: readiness(handle) for name, handle in stages.items()}
        self._reports = {name: reports(handle) for name, handle in {**stages, "conversation": conversation}.items()}

    async def drain(self) -> int:
        """Take no further requests, and say how many are still being answered."""
        self._door.closed = True
        return self._door.inside

    def __serve_build_asgi_app__(self) -> FastAPI:
        settings = self._settings
        install_json_logs()
        open_tracing(settings.service.traces)
        store = open_object_store(settings.storage_url, settings.storage.options)
        app = create_app(
            QuestionPipeline(self._stages, settings.deadlines),
            StoredCatalogue(store, refresh_seconds=settings.service.refresh_seconds, warm=self._warm),
            tenant=settings.tenant,
            memories=self._memories,
            deadlines=settings.deadlines,
            assistants=settings.assistants,
            embedder=self._embedder,
            embedding_model=settings.embedder.model,
            jobs=JobAccess(JobService(settings), store, settings),
            tenancy=Tenancy.open(settings, store),
            checks=self._checks,
            reports=self._reports,
            echo_request_id=False,  # Serve does
        )
        app.add_middleware(DoorLayer, door=self._door)
        return app


__all__ = ["Ingress", "room"]
