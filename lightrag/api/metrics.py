"""Prometheus metrics of one replica of the ingress. Labels have few values: routes, classes, stages; never a tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lightrag.api.stage_metrics import StageMetrics
from lightrag.tracing import process_name
from lightrag.types import Answer
from lightrag.workload import StageReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one app. Every series names its replica, since a scrape reaches one replica of several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._replica = process_name()
        self._requests = Counter(
            "lightrag_requests",
            "Requests that were answered, by route and status.",
            ["replica", "method", "route", "status", "tenant_class"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "lightrag_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["replica", "route", "tenant_class"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "lightrag_stage_seconds",
            "Stages of questions.",
            ["replica", "stage", "tenant_class"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "lightrag_tokens",
            "Tokens of language models.",
            ["replica", "direction", "tenant_class"],
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "lightrag_fallbacks", "Fallbacks that answers name.", ["replica", "stage"], registry=self.registry
        )
        self._refused = Counter(
            "lightrag_refused",
            "Requests refused before they reached a route, by reason.",
            ["replica", "reason"],
            registry=self.registry,
        )
        self._running = Gauge("lightrag_requests_running", "Requests with a slot.", ["replica"], registry=self.registry)
        self._waiting = Gauge("lightrag_requests_waiting", "Requests without.", ["replica"], registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float, tenant_class: str) -> None:
        """Count a request."""
        # Methods are the client's to invent.
        known = method if method in METHODS else "other"
        self._requests.labels(self._replica, known, route, str(status), tenant_class).inc()
        self._seconds.labels(self._replica, route, tenant_class).observe(seconds)

    def answer(self, answer: Answer, tenant_class: str) -> None:
        """Count an answer's stages, tokens and fallbacks."""
        for stage, seconds in answer.seconds.items():
            if stage != "total":
                self._stages.labels(self._replica, stage, tenant_class).observe(seconds)
        for fallback in answer.fallbacks:
            self._fallbacks.labels(self._replica, fallback.stage).inc()
        usage = answer.usage
        read, written = usage.prompt_tokens, usage.completion_tokens
        for direction, tokens in (("prompt", read), ("completion", written), ("cached", usage.cached_tokens)):
            self._tokens.labels(self._replica, direction, tenant_class).inc(tokens)

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refused.labels(self._replica, reason).inc()

    def text(self, *, running: int, waiting: int, stages: Mapping[str, Sequence[StageReport]]) -> bytes:
        """Everything, in Prometheus' text format.

        Args:
            running: requests that have a slot.
            waiting: requests that wait for one.
            stages: what the replicas of each stage say about themselves.
        """
        self._running.labels(self._replica).set(running)
        self._waiting.labels(self._replica).set(waiting)
        return generate_latest(self.registry) + generate_latest(StageMetrics(stages))


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Of HTTP, as far as they are counted by name."""

__all__ = ["CONTENT_TYPE", "METHODS", "Metrics"]
