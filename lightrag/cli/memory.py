"""Commands about memories of conversations, and the MCP server."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from lightrag.cli.output import console, print_json
from lightrag.config import load_settings
from lightrag.errors import UsageError

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML). Default: $LRAG_CONFIG.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Url = Annotated[str, typer.Option("--url", envvar="LRAG_URL", help="Address of the service. Default: the local one.")]
User = Annotated[str, typer.Option("--user", "-u", help="Whose memory.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lightrag`` command."""
    app.command()(remember)
    app.command()(recall)
    app.command()(mcp)


def remember(
    text: str,
    user: User = "default",
    at: Annotated[str, typer.Option(help="When it was said (ISO 8601). Default: now.")] = "",
    url: Url = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remember something that a user said."""
    from lightrag.api.memory_schemas import ADD_REPORT
    from lightrag.client import Client

    message = {"role": "user", "content": text, "time_stamp": at or datetime.now().isoformat(timespec="seconds")}
    with Client(url or _service(config)) as client:
        report = client.memories.add(message, user=user, force_extract=True)
    if as_json:
        print_json(ADD_REPORT.dump_python(report, mode="json"))
        return
    console.print(f"Remembered for {escape(user)}")
    for problem in report.problems:
        console.print(f"[yellow]{escape(problem.stage)}: {escape(problem.reason)}[/]")


def recall(
    question: str,
    user: User = "default",
    limit: Annotated[int, typer.Option(help="Memories at most.")] = 10,
    url: Url = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find what is remembered of a user about a question."""
    from lightrag.api.memory_schemas import SEARCH_RESULT
    from lightrag.client import Client

    with Client(url or _service(config)) as client:
        found = client.memories.search(question, user=user, limit=limit)
    if as_json:
        print_json(SEARCH_RESULT.dump_python(found, mode="json"))
        return
    for hit in found.entries:
        console.print(f"{hit.entry.time:%Y-%m-%d %a}  {escape(hit.entry.text)}  [dim]{hit.entry.entry_id}[/]")
    for note in found.notes:
        console.print(f"[yellow]note: {escape(note)}[/]")
    if not found.entries:
        console.print(f"Nothing is remembered of {escape(user)} about that")


def mcp(
    transport: Annotated[str, typer.Option(help="stdio or http.")] = "stdio",
    host: Annotated[str, typer.Option(help="Address to listen on (http).")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on (http).", min=0, max=65535)] = 8701,
    user: Annotated[
        str, typer.Option("--user", "-u", help="Offer this user's memory only. Default: clients name the user.")
    ] = "",
    tenant: Annotated[str, typer.Option(help="Whose data (default: of the settings).")] = "",
    memory_config: Annotated[
        Path | None, typer.Option("--memory-config", help="A LightMem configuration (JSON or YAML).")
    ] = None,
    url: Annotated[str, typer.Option("--url", envvar="LRAG_URL", help="Service to use. Default: one that runs.")] = "",
    token: Annotated[
        str, typer.Option(envvar="LRAG_MCP_TOKEN", help="Bearer that HTTP clients must send; needed beyond loopback.")
    ] = "",
    config: Config = None,
) -> None:
    """Serve memories and corpora to agents over the Model Context Protocol."""
    from lightrag.mcp.server import Options, serve

    if transport not in ("stdio", "http"):
        raise UsageError(f"--transport is 'stdio' or 'http', not {transport!r}")
    kind: Literal["stdio", "http"] = "stdio" if transport == "stdio" else "http"
    if config:
        os.environ["LRAG_CONFIG"] = str(config.absolute())
    conversation = {
        name: value
        for name, value in (("user", user), ("options_file", str(memory_config.absolute()) if memory_config else ""))
        if value
    }
    overrides = {**({"tenant": tenant} if tenant else {}), **({"conversation": conversation} if conversation else {})}
    serve(Options(load_settings(config, **overrides), url), transport=kind, host=host, port=port, token=token)


def _service(config: Path | None) -> str:
    from lightrag.cli import process

    return process.address(load_settings(config))


__all__ = ["register"]
