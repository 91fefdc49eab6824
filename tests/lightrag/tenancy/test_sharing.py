"""How many slots of the service a tenant holds, by settings."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.tenancy.service import Tenancy

HALF = max(1, (os.cpu_count() or 1) // 2)


async def held_beside_another(home: Path, generator: dict[str, Any], tenancy: dict[str, Any]) -> int:
    """Requests of a burst that are let in once another tenant has asked."""
    keys = {"authentication": "keys", "slots_per_tenant": 8, **tenancy}
    admission = Tenancy.open(load_settings(home=home, generator=generator, tenancy=keys)).admission
    async with admission.slot("quiet"):
        pass

    async def request() -> None:
        async with admission.slot("loud"):
            await asyncio.sleep(60)

    burst = [asyncio.create_task(request()) for _ in range(20)]
    await asyncio.sleep(0.01)
    held = admission.running
    for task in burst:
        task.cancel()
    await asyncio.gather(*burst, return_exceptions=True)
    return held


@pytest.mark.parametrize(
    ("generator", "tenancy", "expected"),
    [
        ({"backend": "extractive"}, {}, min(HALF, 8)),
        ({"backend": "extractive"}, {"slots_beside_others": 3}, 3),
        ({"backend": "openai", "model": "m", "api_key": "x", "base_url": "http://127.0.0.1:1/v1"}, {}, 8),
    ],
    ids=["answers computed here", "as set", "a model elsewhere"],
)
async def test_beside_others_a_tenant_holds_what_the_kind_of_work_allows(
    tmp_path: Path, generator: dict[str, Any], tenancy: dict[str, Any], expected: int
) -> None:
    assert await held_beside_another(tmp_path, generator, tenancy) == expected
