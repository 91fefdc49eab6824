"""How Serve's numbers become replicas, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.app import build
from deployments.scaling import own_signals
from lightrag.config import load_settings

SETTINGS = Path(__file__).parents[2] / "cluster" / "settings.yaml"


def context(requests: float, said: dict[str, dict[Any, float]] | None) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="Generation",
        app_name="lightrag",
        current_num_replicas=2,
        target_num_replicas=2,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0.0,
        aggregated_metrics=said,
        raw_metrics=None,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=4),
    )


def test_requests_scale_where_replicas_have_said_nothing_yet() -> None:
    assert own_signals(context(9, None)) == (3, {})
    assert own_signals(context(0, {})) == (1, {})


def test_the_signal_that_asks_for_most_wins_over_all_replicas_together() -> None:
    said = {"tokens": {"one": 1.5, "two": 2.2}, "bytes": {"one": 0.5}, "ongoing_requests": {"one": 100.0}}
    assert own_signals(context(9, said)) == (4, {})
    assert own_signals(context(25, said)) == (7, {})


def test_each_deployment_scales_on_its_own_signals() -> None:
    ingress = build(load_settings(SETTINGS))._bound_deployment
    stages = {node._bound_deployment.name: node._bound_deployment for node in ingress.init_args[1:]}
    policies = {
        name: stage._deployment_config.autoscaling_config.policy.policy_function
        for name, stage in {**stages, "Ingress": ingress}.items()
        if stage._deployment_config.autoscaling_config is not None
    }
    own = {name for name, policy in policies.items() if policy == "deployments.scaling:own_signals"}
    assert own == {"Recall", "Retrieval", "Generation"}
    assert set(policies) == {*own, "Compression", "Ingress"}
