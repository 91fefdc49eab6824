"""Prometheus metrics of the stages' replicas, made of what they say about themselves. No label names a tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lightrag.workload import StageReport


class StageMetrics(CollectorRegistry):
    """A registry of one moment.

    Args:
        stages: reports of the replicas that answered, by stage.
    """

    def __init__(self, stages: Mapping[str, Sequence[StageReport]]) -> None:
        super().__init__()
        self._stages = stages

    def collect(self) -> Iterator[Metric]:
        """Every series."""
        answered = GaugeMetricFamily("lightrag_stage_replicas", "Replicas that said how they are.", labels=["stage"])
        for stage, reports in self._stages.items():
            answered.add_metric([stage], len(reports))
        yield answered
        found = [report for reports in self._stages.values() for report in reports]
        yield from _work(found)
        yield from _memory(found)


def _work(reports: Sequence[StageReport]) -> Iterator[Metric]:
    labels = ["replica", "stage"]
    requests = GaugeMetricFamily("lightrag_stage_requests", "Requests that a replica has in hand.", labels=labels)
    tokens = GaugeMetricFamily("lightrag_stage_tokens", "Tokens of those requests, read or written.", labels=labels)
    calls = CounterMetricFamily(
        "lightrag_stage_calls", "Requests of a replica: done, cancelled, or the error.", labels=[*labels, "outcome"]
    )
    demand = GaugeMetricFamily(
        "lightrag_stage_demand", "For how many replicas a replica has work, by signal.", labels=[*labels, "signal"]
    )
    for report in reports:
        place = [report.replica, report.stage]
        requests.add_metric(place, report.requests)
        tokens.add_metric(place, report.tokens)
        for outcome, count in report.outcomes.items():
            calls.add_metric([*place, outcome], count)
        for signal, value in report.signals.items():
            demand.add_metric([*place, signal], value)
    return iter((requests, tokens, calls, demand))


def _memory(reports: Sequence[StageReport]) -> Iterator[Metric]:
    labels = ["replica", "stage", "held"]
    held = GaugeMetricFamily("lightrag_residency_bytes", "Memory of what is loaded.", labels=labels)
    leased = GaugeMetricFamily("lightrag_residency_leased_bytes", "Of that, in use.", labels=labels)
    capacity = GaugeMetricFamily("lightrag_residency_capacity_bytes", "What may be loaded.", labels=labels)
    values = GaugeMetricFamily("lightrag_residency_values", "Versions or memories that are loaded.", labels=labels)
    leases = CounterMetricFamily(
        "lightrag_residency_leases", "Uses: of what was there, or had to be loaded.", labels=[*labels, "result"]
    )
    loads = CounterMetricFamily("lightrag_residency_loads", "Loads, by how they ended.", labels=[*labels, "outcome"])
    evictions = CounterMetricFamily("lightrag_residency_evictions", "What had to make room.", labels=labels)
    for report in reports:
        for kind, stats in report.held.items():
            place = [report.replica, report.stage, kind]
            held.add_metric(place, stats.bytes)
            leased.add_metric(place, stats.leased_bytes)
            capacity.add_metric(place, stats.capacity)
            values.add_metric(place, stats.values)
            evictions.add_metric(place, stats.evictions)
            for result, count in (("hit", stats.hits), ("miss", stats.misses)):
                leases.add_metric([*place, result], count)
            for outcome, count in (("done", stats.loads), ("failed", stats.failures)):
                loads.add_metric([*place, outcome], count)
    return iter((held, leased, capacity, values, leases, loads, evictions))


__all__ = ["StageMetrics"]
