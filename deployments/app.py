"""Build the Serve application: ingress, recall, retrieval, compression and generation, composed into one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.config import BackpressureConfig, RequestRouterConfig
from ray.serve.deployment import Application, Deployment

from deployments.conversation import Conversation
from deployments.ingress import Ingress, room
from deployments.models import generation_holds
from deployments.stages import Compression, Generation, Recall, Retrieval
from lightrag.config import (
    GeneratingReplicaSettings,
    HoldingReplicaSettings,
    ReplicaSettings,
    ServiceSettings,
    Settings,
    load_settings,
)

APPLICATION = "lightrag"
"""Name of the application within a Serve instance."""

_HEALTH_SECONDS = 2.0
"""Between checks; Serve replaces a replica whose engine has died when three in a row have failed."""
_REFUSED_AT_ONCE = 1024
"""Requests beyond its room that a replica of the ingress is refusing at one moment; each takes it milliseconds."""
_OWN_SIGNALS = "deployments.scaling:own_signals"
_HELD_CORPORA = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


def build(settings: Settings | Mapping[str, Any] | None = None) -> Application:
    """Bind the deployments to settings; ``serve.run`` or a Serve configuration file take the result.

    Args:
        settings: a mapping overrides what the file named by ``LRAG_CONFIG`` and the environment say, as the ``args`` of
            a Serve configuration file do; ``None`` overrides nothing.
    """
    if not isinstance(settings, Settings):
        settings = load_settings(**(settings or {}))
    service = settings.service
    conversation = ReplicaSettings(minimum=settings.conversation.replicas)
    generation = _deployment(Generation, settings, service.generation, {}).bind(settings)
    model = [generation] if generation_holds(settings) else []
    stages = [
        _deployment(Recall, settings, service.recall, _affine()).bind(settings, *model),
        _deployment(Retrieval, settings, service.retrieval, _affine()).bind(settings),
        _deployment(Compression, settings, service.compression, _affine()).bind(settings),
        generation,
        _deployment(Conversation, settings, conversation, _affine()).bind(settings, *model),
    ]
    # Requests have to reach the ingress to be told apart, to wait each in the queue of its tenant, and to be refused in
    # the shape that their clients expect: Serve refuses in plain text.
    ingress = _deployment(serve.ingress()(Ingress), settings, service.ingress, {}).options(
        max_ongoing_requests=room(settings) + _REFUSED_AT_ONCE, max_queued_requests=_REFUSED_AT_ONCE
    )
    return ingress.bind(settings, *stages)


def _deployment(stage: type, settings: Settings, replicas: ReplicaSettings, extra: Mapping[str, Any]) -> Deployment:
    service = settings.service
    return serve.deployment(
        name=stage.__name__,
        ray_actor_options={"num_cpus": replicas.cpus or service.replica_cpus, "num_gpus": replicas.gpus},
        max_ongoing_requests=replicas.max_requests,
        max_queued_requests=service.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=service.drain_seconds,
        **_size(service, replicas),
        **extra,
    )(stage)


def _size(service: ServiceSettings, replicas: ReplicaSettings) -> dict[str, Any]:
    if replicas.maximum is None or replicas.maximum == replicas.minimum:
        return {"num_replicas": replicas.minimum}
    scaling: dict[str, Any] = {
        "min_replicas": replicas.minimum,
        "max_replicas": replicas.maximum,
        "target_ongoing_requests": replicas.target_requests,
        "upscale_delay_s": service.scale_up_seconds,
        "downscale_delay_s": service.scale_down_seconds,
        # What is averaged must not be older than what is decided on by much.
        "look_back_period_s": max(1.0, 1.5 * service.scale_up_seconds),
    }
    if isinstance(replicas, HoldingReplicaSettings | GeneratingReplicaSettings):
        scaling["policy"] = {"policy_function": _OWN_SIGNALS}
    return {"autoscaling_config": scaling}


def _affine() -> dict[str, Any]:
    """Requests of a corpus go to the replicas that hold it already."""
    return {
        "request_router_config": RequestRouterConfig(
            request_router_class=_HELD_CORPORA, request_router_kwargs={"num_fallback_replicas": 1}
        )
    }


__all__ = ["APPLICATION", "build"]
