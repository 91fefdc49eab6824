"""Who waits in a replica, and who does not."""

from __future__ import annotations

import asyncio

import pytest

from deployments.turns import turns
from lightrag.config import load_settings


async def running(authentication: str, *tenants: str, computes: bool = True) -> list[str]:
    """Whose requests are worked on once all have come, to a replica with one processor."""
    settings = load_settings(None, tenancy={"authentication": authentication})
    taken = turns(settings, settings.service.retrieval, computes=computes)
    begun: list[str] = []

    async def request(tenant: str) -> None:
        async with taken.slot(tenant):
            begun.append(tenant)
            await asyncio.sleep(60)

    asked = [asyncio.create_task(request(tenant)) for tenant in tenants]
    await asyncio.sleep(0.01)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    return begun


async def test_a_burst_waits_behind_itself_and_another_tenant_passes_it() -> None:
    assert await running("keys", "loud", "loud", "loud", "quiet") == ["loud", "quiet"]


@pytest.mark.parametrize(("authentication", "computes"), [("none", True), ("keys", False)])
async def test_nobody_waits_where_there_is_one_tenant_or_the_work_is_done_elsewhere(
    authentication: str, computes: bool
) -> None:
    assert len(await running(authentication, *["loud"] * 10, computes=computes)) == 10
