"""What all replicas of a stage say about themselves, asked by the ingress for its metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ray.serve.handle import DeploymentHandle

from lightrag.workload import StageReport

_ANSWER_SECONDS = 3.0


def reports(handle: DeploymentHandle) -> Callable[[], Awaitable[list[StageReport]]]:
    """Ask every replica of a stage; those that end or do not answer in time are left out."""

    async def ask() -> list[StageReport]:
        response = handle.broadcast("report")
        answers = await response.results_async(timeout_s=_ANSWER_SECONDS, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, StageReport)]

    return ask


__all__ = ["reports"]
