"""Whatever is sent to the routes that the OpenAPI document names, the service never fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from lightrag.rag import QuestionPipeline, Stages
from tests.lightrag.api.two_tenants import World, open_world
from tests.lightrag.test_rag import Compress, Generate, Recall, Retrieve

schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow

CASES = {"POSITIVE": 12, "NEGATIVE": 5}
"""Per operation."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    stages = Stages(Retrieve(), Generate(), recall=Recall(), compress=Compress())
    with asyncio.Runner() as runner:
        opening = open_world(tmp_path_factory.mktemp("world"), pipeline=QuestionPipeline(stages))
        opened = runner.run(opening.__aenter__())
        opened.run = runner.run
        yield opened
        runner.run(opening.__aexit__(None, None, None))


async def call(world: World, case: Any) -> tuple[int, str]:
    body: dict[str, Any] = {}
    if case.media_type == "application/json" and isinstance(case.body, dict | list | str | int | float | None):
        body = {"json": case.body}
    async with world.client("operations", "operator") as http:
        response = await http.request(
            case.method,
            case.formatted_path,
            params={name: value for name, value in (case.query or {}).items() if value is not None},
            headers={name: str(value) for name, value in (case.headers or {}).items() if sendable(name, value)},
            **body,
        )
    return response.status_code, response.text


def sendable(name: str, value: object) -> bool:
    """No client can send other headers, and those of the key are ours."""
    text = f"{name}{value}"
    return text.isascii() and text.isprintable() and name.lower() not in ("authorization", "x-api-key")


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_no_request_makes_the_service_fail(world: World, mode: str) -> None:
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    generation = schemathesis.GenerationMode[mode]
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        # An event stream of a job that nobody runs does not end.
        if operation.path.endswith("/events"):
            continue

        @settings(
            max_examples=CASES[mode],
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=generation))
        def check(case: Any) -> None:
            nonlocal tried
            status, text = world.run(call(world, case))
            tried += 1
            assert status < 500, (case.method, case.formatted_path, case.query, case.body, text)

        try:
            check()
        except Unsatisfiable:
            assert mode == "NEGATIVE"  # an operation without parameters cannot be called wrongly
    assert tried > 60
