"""Settings of the online service: its replicas, deadlines, assistants and jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from lightrag.config.section import Section


class DeadlineSettings(Section):
    """How long a request and each of its stages may take, in seconds."""

    request: float = Field(default=60.0, gt=0)
    recall: float = Field(default=20.0, gt=0)
    retrieve: float = Field(default=20.0, gt=0)
    compress: float = Field(default=20.0, gt=0)
    consolidate: float = Field(default=600.0, gt=0)
    """Consolidation of one user's memory, which asks a model about many entries. Other calls about memories have
    ``request``."""


class AssistantSettings(Section):
    """A model of the OpenAI-compatible interface: a corpus, memory of its users, and how to answer from both."""

    corpus: str = ""
    """Corpus it answers from; empty: from what it remembers of the user alone."""
    task: Literal["memorag", "rag", "qa"] = "memorag"
    instructions: str = ""
    """Replaces the built-in instructions; may hold ``{question}`` and ``{context}``."""
    memory: bool = True
    """Remember what users say, where a request names its user, and recall it in later conversations."""
    memories: int = Field(default=5, ge=1, le=100)
    """Memories that are recalled for a question."""


class JobSettings(Section):
    """Recorded jobs: where, how many, and what they may read."""

    records_url: SecretStr = SecretStr("")
    """Database of their records: ``postgresql://user@host/name`` or a SQLite file. Empty: a file in ``home``."""
    runner: Literal["local", "process", "ray"] = "process"
    """``local``: each in a process of this machine, without Ray. ``process``: with Ray on this machine, or on the
    cluster that the job names. ``ray``: submitted to the job server of a cluster."""
    ray_url: str = "http://127.0.0.1:8265"
    """Job server of the cluster; its token comes from ``RAY_AUTH_TOKEN``."""
    at_once: int = Field(default=2, ge=1)
    """Jobs that run at the same time."""
    per_tenant: int = Field(default=1, ge=1)
    """Of them, those of one tenant; the others wait."""
    sources: tuple[str, ...] = ()
    """Folders and URLs that jobs may read which are submitted over HTTP, with all below them. Uploads need none."""
    upload_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Largest upload."""
    worker_hour_price: float = Field(default=0.0, ge=0)
    """What an hour of one worker's processor costs, for reports; 0: they name no costs."""


class TraceSettings(Section):
    """Where spans of requests go, as OpenTelemetry sends them."""

    exporter: Literal["none", "console", "otlp", "process"] = "none"
    """``none``: there are no spans. ``console``: they are written to standard error. ``otlp``: they go to a collector.
    ``process``: they go where the process that uses the library has set OpenTelemetry up to send them."""
    endpoint: str = "http://127.0.0.1:4318"
    """The collector's address for OTLP over HTTP. Headers with credentials come from ``OTEL_EXPORTER_OTLP_HEADERS``."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Of the requests that bring no trace of their own, how many are traced. Those that do bring one say it
    themselves."""


class ReplicaSettings(Section):
    """Replicas of one deployment of the service."""

    minimum: int = Field(default=1, ge=1)
    maximum: int | None = Field(default=None, ge=1)
    """More than the minimum: replicas come and go with what they have to do."""
    cpus: float | None = Field(default=None, gt=0)
    """Logical CPUs that a replica claims; ``service.replica_cpus`` where left out."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs that a replica claims; a fraction lets several share one."""
    target_requests: float = Field(default=4.0, gt=0)
    """Requests in hand and waiting, per replica, that scaling aims at."""
    max_requests: int = Field(default=32, ge=1)
    """Requests that one replica takes at a time; further ones wait."""

    @model_validator(mode="after")
    def _maximum_is_not_below_the_minimum(self) -> ReplicaSettings:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum={self.maximum} is below minimum={self.minimum}")
        return self


class HoldingReplicaSettings(ReplicaSettings):
    """Replicas that hold corpora in memory: the signal that asks for more of them wins."""

    target_bytes: int | None = Field(default=None, ge=1)
    """Bytes of what was used within ``service.scale_down_seconds``, per replica, that scaling aims at; left out: three
    quarters of ``service.residency_bytes``."""


class GeneratingReplicaSettings(ReplicaSettings):
    """Replicas that write answers: the signal that asks for more of them wins."""

    target_tokens: int = Field(default=32_768, ge=1)
    """Tokens in hand, evidence to read and answers to write, per replica, that scaling aims at. A question has some
    4,000, so long ones add replicas before there are many of them."""


class ServiceSettings(Section):
    """The online service."""

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=1, le=65535)
    proxy: Literal["serve", "haproxy"] = "serve"
    """``haproxy`` also turns on Serve's throughput mode: several times faster, meant for production."""
    replica_cpus: float = Field(default=0.25, gt=0)
    """Logical CPUs that each replica claims."""
    ingress: ReplicaSettings = ReplicaSettings()
    recall: HoldingReplicaSettings = HoldingReplicaSettings()
    retrieval: HoldingReplicaSettings = HoldingReplicaSettings()
    compression: ReplicaSettings = ReplicaSettings()
    generation: GeneratingReplicaSettings = GeneratingReplicaSettings()
    scale_up_seconds: float = Field(default=10.0, ge=0)
    """How long more work must last until replicas are added."""
    scale_down_seconds: float = Field(default=300.0, ge=0)
    """How long less work must last until replicas are taken away."""
    residency_bytes: int = Field(default=2 * 1024**3, ge=1)
    """Memory that one replica may spend on loaded corpora, and as much again on their KV memories."""
    residency_share: float = Field(default=0.5, gt=0, le=1)
    """Of that, how much a tenant may fill at the cost of others. What it loads beyond its share makes room among its
    own corpora, so no tenant pushes out all others; a tenant alone may fill everything."""
    refresh_seconds: float = Field(default=2.0, gt=0)
    """How often replicas look for a new version of a corpus."""
    max_queued_requests: int = Field(default=64, ge=1)
    """Calls of a process that wait for replicas of one stage before further requests get 503 with Retry-After.
    Requests that wait for the ingress are bounded by ``tenancy.queue_per_tenant``."""
    drain_seconds: float = Field(default=30.0, gt=0)
    """How long requests in hand may go on when the service, or a replica of it, is told to stop."""
    traces: TraceSettings = TraceSettings()


__all__ = [
    "AssistantSettings",
    "DeadlineSettings",
    "GeneratingReplicaSettings",
    "HoldingReplicaSettings",
    "JobSettings",
    "ReplicaSettings",
    "ServiceSettings",
    "TraceSettings",
]
