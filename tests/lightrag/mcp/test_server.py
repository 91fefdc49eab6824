"""The MCP server as agents use it: the real client, over stdio, over HTTP, and through ``fastmcp run``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError

import lightrag.mcp.server
from lightrag.config import load_settings
from lightrag.errors import UsageError
from lightrag.mcp.access import ServiceAccess, open_access
from lightrag.mcp.server import Options, build_server, serve

BIN = Path(sys.executable).parent
FILE = Path(lightrag.mcp.server.__file__)
TOOLS = {
    "add_memory", "retrieve_memory", "offline_update", "get_timestamp", "show_lightmem_instance",
    "list_memories", "delete_memory", "undo", "ask", "list_corpora",
}  # fmt: skip
SECRET = "sk-not-for-agents"


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "LRAG_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "LRAG_GENERATOR__API_KEY": SECRET,
        **more,
    }


@asynccontextmanager
async def over_stdio(home: Path, *arguments: str) -> AsyncIterator[Client[Any]]:
    command = [str(BIN / "lightrag"), "mcp", *arguments]
    transport = StdioTransport(command[0], command[1:], env=environment(home), keep_alive=False)
    async with Client(transport, timeout=90) as client:
        yield client


@contextmanager
def over_http(command: list[str], home: Path, port: int) -> Iterator[str]:
    with subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(300):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    result = (await client.call_tool(tool, arguments)).structured_content
    assert result is not None
    assert result["status"] == "success"
    return result.get("details", result["message"])


async def refused(client: Client[Any], tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    text = result.content[0].text
    assert "Traceback" not in text
    return str(text)


@pytest.mark.slow
async def test_remembers_over_stdio_across_a_restart(tmp_path: Path) -> None:
    async with over_stdio(tmp_path, "--user", "ada") as client:
        assert {tool.name for tool in await client.list_tools()} == TOOLS
        assert abs((datetime.now() - datetime.fromisoformat(await call(client, "get_timestamp"))).total_seconds()) < 60
        stored = await call(
            client,
            "add_memory",
            user_input="My sister Ingrid lives in Oslo.",
            assistant_reply="Oslo is lovely!",
            timestamp="2024-05-06T10:00:00",
            force_segment=True,
            force_extract=True,
        )
        assert (len(stored["accepted"]), stored["queued"], stored["problems"]) == (2, 0, [])
        await call(client, "add_memory", user_input="I bought a boat.", timestamp="2024-05-07T09:00:00")
        found = await call(client, "retrieve_memory", query="Where does my sister live?", limit=1)
        assert found == ["2024-05-06T10:00:00 Mon User: My sister Ingrid lives in Oslo."]
        filters = {"time": {"gte": "2024-05-07"}}
        assert "boat" in (await call(client, "retrieve_memory", query="What do I own?", filters=filters))[0]
        assert "only, not for 'bob'" in await refused(client, "retrieve_memory", query="sister", user="bob")
        assert "empty" in await refused(client, "add_memory", user_input=" ", assistant_reply="")
        assert "soon" in await refused(client, "add_memory", user_input="I sing.", timestamp="soon")
        assert "speaker" in await refused(client, "retrieve_memory", query="x", filters={"speeker": "Ada"})
        assert "limit" in await refused(client, "retrieve_memory", query="x", limit=0)
        shown = await call(client, "show_lightmem_instance")
        assert SECRET not in json.dumps(shown)
        assert shown["vector_store"] == "EdgeVectorStore"
        update = await call(client, "offline_update", top_k=20, keep_top_n=10, score_threshold=0.8)
        assert (update["api_call_nums"], update["problems"]) == (0, [])
    async with over_stdio(tmp_path) as client:
        listed = await call(client, "list_memories", user="ada", limit=1)
        assert "Ingrid" in listed["entries"][0]["memory"]
        following = await call(client, "list_memories", user="ada", cursor=listed["next"])
        assert any("boat" in entry["memory"] for entry in following["entries"])
        gone = await call(client, "delete_memory", user="ada", entry_id=listed["entries"][0]["entry_id"])
        assert not [line for line in await call(client, "retrieve_memory", user="ada", query="sister") if "Ing" in line]
        await call(client, "undo", user="ada", operation=gone["operation"])
        assert [line for line in await call(client, "retrieve_memory", user="ada", query="sister") if "Ing" in line]
        assert await call(client, "retrieve_memory", query="sister") == []


@pytest.mark.slow
async def test_serves_several_users_over_http_and_answers_from_a_corpus(tmp_path: Path) -> None:
    page = tmp_path / "pages" / "mill.md"
    page.parent.mkdir()
    page.write_text("# The mill\n\nThe mill was founded in 1874 by Ada Lind.\n", encoding="utf-8")
    ingest = [sys.executable, "-m", "pipelines.ingest", str(page.parent), "--corpus", "mill", "--local", "--json"]
    done = await asyncio.to_thread(
        subprocess.run, ingest, env=environment(tmp_path), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    port = free_port()
    command = [str(BIN / "lightrag"), "mcp", "--transport", "http", "--port", str(port), "--token", "t0ken"]
    with over_http(command, tmp_path, port) as url:
        strangers = await asyncio.to_thread(httpx.post, url, json={}, trust_env=False)
        assert strangers.status_code == 401
        ada = StreamableHttpTransport(url, headers={"X-LightRAG-User": "ada"}, auth="t0ken")
        async with Client(ada, timeout=90) as client:
            await call(client, "add_memory", user_input="I play the cello.", force_extract=True)
            assert "cello" in (await call(client, "retrieve_memory", query="What do I play?"))[0]
            assert "only, not for 'bob'" in await refused(client, "list_memories", user="bob")
        async with Client(StreamableHttpTransport(url, auth="t0ken"), timeout=90) as client:
            assert await call(client, "retrieve_memory", query="cello", user="bob") == []
            corpora = await call(client, "list_corpora")
            assert [corpus["corpus"] for corpus in corpora] == ["mill"]
            answer = await client.call_tool("ask", {"question": "Who founded the mill?"})
            assert answer.structured_content is not None
            assert "Ada Lind" in answer.structured_content["message"]
            assert answer.structured_content["details"]["evidence"][0]["source"] == "mill.md"
            assert "absent" in await refused(client, "ask", question="Who?", corpus="absent")


@pytest.mark.slow
async def test_runs_from_its_file_as_the_published_server_does(tmp_path: Path) -> None:
    port = free_port()
    command = [str(BIN / "fastmcp"), "run", f"{FILE}:mcp", "--transport", "http", "--port", str(port), "--no-banner"]
    with over_http(command, tmp_path, port) as url:
        async with Client(url, timeout=90) as client:
            assert {tool.name for tool in await client.list_tools()} == TOOLS
            await call(client, "add_memory", user_input="I play the cello.", assistant_reply="Nice!")
            assert "cello" in (await call(client, "retrieve_memory", query="cello"))[0]


async def test_the_published_arguments_have_the_published_names_and_defaults() -> None:
    async with Client(build_server()) as client:
        tools = {tool.name: tool.input_schema for tool in await client.list_tools()}
    published = {
        "get_timestamp": {},
        "add_memory": {
            "user_input": ..., "assistant_reply": "", "timestamp": None, "force_segment": False, "force_extract": False,
        },
        "offline_update": {"top_k": 20, "keep_top_n": 10, "score_threshold": 0.8},
        "retrieve_memory": {"query": ..., "limit": 10, "filters": None},
        "show_lightmem_instance": {},
    }  # fmt: skip
    for name, arguments in published.items():
        known = tools[name]["properties"]
        assert {key: known[key].get("default", ...) for key in known if key != "user"} == arguments


async def test_a_broken_configuration_is_said_and_named(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path, conversation={"options": {"messages_used": "hybrid"}})
    async with Client(build_server(Options(settings))) as client:
        with pytest.raises(ToolError, match="did you mean 'messages_use'"):
            await client.call_tool("retrieve_memory", {"query": "x"})


async def test_a_lightmem_configuration_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "lightmem.json"
    file.write_text(
        json.dumps(
            {
                "messages_use": "hybrid",
                "memory_manager": {
                    "model_name": "openai",
                    "configs": {"model": "m", "api_key": SECRET, "openai_base_url": f"http://u:{SECRET}@127.0.0.1:9"},
                },
            }
        ),
        encoding="utf-8",
    )
    settings = load_settings(None, home=tmp_path, conversation={"options_file": str(file)})
    async with Client(build_server(Options(settings))) as client:
        shown = await call(client, "show_lightmem_instance")
    assert (shown["messages_use"], shown["language_model"]) == ("hybrid", "m")
    assert SECRET not in json.dumps(shown)


async def test_a_service_that_does_not_answer_is_said_with_the_cure(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path)
    assert isinstance(open_access(settings, "http://127.0.0.1:9"), ServiceAccess)
    async with Client(build_server(Options(settings, "http://127.0.0.1:9"))) as client:
        assert "lightrag up" in await refused(client, "retrieve_memory", query="x")


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="LRAG_MCP_TOKEN"):
        serve(Options(load_settings(None, home=tmp_path)), transport="http", host="0.0.0.0")


def test_the_command_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [str(BIN / "lightrag"), "mcp", "--transport", "pigeon"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert re.search("stdio.*http", done.stderr)
    assert "Traceback" not in done.stderr
