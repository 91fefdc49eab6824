"""A new version is loaded by the replicas that will be asked about it, before anybody is."""

from __future__ import annotations

import asyncio

from ray.serve.handle import DeploymentHandle

from deployments.handles import _affine, _call
from lightrag.api.catalogue import Warm
from lightrag.types import CorpusVersion


def warming(*handles: DeploymentHandle) -> Warm:
    """Have a version loaded in every one of these deployments, each on the replica that its requests go to."""

    async def warm(version: CorpusVersion) -> None:
        await asyncio.gather(*(_call(_affine(handle, version), "hold", version) for handle in handles))

    return warm


__all__ = ["warming"]
