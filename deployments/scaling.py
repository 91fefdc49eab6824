"""How many replicas a deployment gets: Serve's numbers handed to the library's rule."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

from lightrag.workload import SIGNALS, desired_replicas


def own_signals(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Scale on requests and on what the replicas say themselves; Serve applies bounds and delays."""
    said = context.aggregated_metrics or {}
    signals = {name: list(said.get(name, {}).values()) for name in SIGNALS}
    return desired_replicas(context.total_num_requests, context.config.target_ongoing_requests, signals), {}


__all__ = ["own_signals"]
