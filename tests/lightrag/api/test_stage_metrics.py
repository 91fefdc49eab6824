"""What replicas say of themselves, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lightrag.api.metrics import Metrics
from lightrag.api.stage_metrics import StageMetrics
from lightrag.storage.residency import ResidencyStats
from lightrag.workload import StageReport

HELD = ResidencyStats(
    hits=7,
    misses=3,
    loads=2,
    failures=1,
    evictions=4,
    bytes=500,
    leased_bytes=200,
    values=2,
    capacity=1000,
    tenant_bytes={"acme": 500},
)


def reports() -> dict[str, list[StageReport]]:
    found = [
        StageReport("retrieve", f"host-{number}", number, 10 * number, {"done": 5}, {"corpora": HELD}, {"bytes": 0.5})
        for number in (1, 2)
    ]
    return {"retrieval": found, "recall": []}


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_replica_has_its_own_series() -> None:
    found = series(generate_latest(StageMetrics(reports())).decode())
    place = {("replica", "host-2"), ("stage", "retrieve")}
    held = {*place, ("held", "corpora")}
    assert found["lightrag_stage_requests", frozenset(place)] == 2
    assert found["lightrag_stage_tokens", frozenset(place)] == 20
    assert found["lightrag_stage_calls_total", frozenset({*place, ("outcome", "done")})] == 5
    assert found["lightrag_stage_demand", frozenset({*place, ("signal", "bytes")})] == 0.5
    assert found["lightrag_residency_bytes", frozenset(held)] == 500
    assert found["lightrag_residency_capacity_bytes", frozenset(held)] == 1000
    assert found["lightrag_residency_leases_total", frozenset({*held, ("result", "hit")})] == 7
    assert found["lightrag_residency_loads_total", frozenset({*held, ("outcome", "failed")})] == 1
    assert found["lightrag_residency_evictions_total", frozenset(held)] == 4


def test_a_stage_that_says_nothing_is_seen_to() -> None:
    found = series(generate_latest(StageMetrics(reports())).decode())
    assert found["lightrag_stage_replicas", frozenset({("stage", "retrieval")})] == 2
    assert found["lightrag_stage_replicas", frozenset({("stage", "recall")})] == 0


def test_no_tenant_is_named_and_nothing_is_said_twice() -> None:
    text = Metrics().text(running=1, waiting=2, stages=reports()).decode()
    assert "acme" not in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert "lightrag_requests_waiting" in names
