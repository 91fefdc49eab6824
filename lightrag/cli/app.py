"""The commands and their options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.markup import escape

from lightrag.cli import corpora, jobs, keys, memory
from lightrag.cli.output import MISUSED, console, print_json, print_table, report
from lightrag.config import Settings, explain_settings, load_settings
from lightrag.errors import LightRAGError
from lightrag.types import Task

app = typer.Typer(
    help="Give language models a memory: ingest documents, ask questions, run the service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpora.register(app)
memory.register(app)
keys.register(app)
app.add_typer(jobs.jobs, name="jobs")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML). Default: $LRAG_CONFIG.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Url = Annotated[str, typer.Option("--url", envvar="LRAG_URL", help="Address of the service. Default: the local one.")]
Corpus = Annotated[str, typer.Option("--corpus", "-c", help="Name of the corpus.")]


def run() -> None:
    """Run the command line; deliberate errors end it with a message and an exit code, never a stack trace."""
    arguments = sys.argv[1:]
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except LightRAGError as error:
        sys.exit(report(error, as_json="--json" in arguments))
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        # Misuse of the command line itself; anything else is a bug and keeps its trace.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(MISUSED)


@app.command()
def up(
    config: Config = None,
    port: Annotated[int | None, typer.Option(help="Port of the service.")] = None,
    as_json: Json = False,
) -> None:
    """Start the embedded service, unless it runs already."""
    from lightrag.cli import process

    settings = _settings(config, port)
    if config:
        os.environ["LRAG_CONFIG"] = str(config.absolute())
    if as_json:
        running, already = process.start(settings)
        print_json({"url": running.url, "pid": running.pid, "already_running": already})
        return
    with console.status("starting the service (about half a minute)"):
        running, already = process.start(settings)
    console.print(f"{'Already running' if already else 'Running'} at [bold]{running.url}[/] (process {running.pid})")
    console.print(f"[dim]API: {running.url}/docs   log: {escape(str(process.log_file(settings)))}[/]")


@app.command()
def down(config: Config = None, as_json: Json = False) -> None:
    """Stop the embedded service."""
    from lightrag.cli import process

    stopped = process.stop(_settings(config))
    if as_json:
        print_json({"stopped": stopped is not None})
    else:
        console.print(f"Stopped the service at {stopped.url}" if stopped else "No service was running")


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """Say whether the embedded service runs, and where."""
    from lightrag.cli import process
    from lightrag.client import Client

    running = process.find(_settings(config))
    healthy = False
    if running:
        with Client(running.url) as client:
            healthy = client.healthy()
    if as_json:
        print_json({"running": running is not None, "healthy": healthy, "url": running.url if running else None})
    elif running:
        console.print(f"{'Running' if healthy else 'Not answering'} at [bold]{running.url}[/] (process {running.pid})")
    else:
        console.print("Not running; start it with [bold]lightrag up[/]")
    if not healthy:
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ingest(context: typer.Context, source: str, corpus: Corpus, config: Config = None, as_json: Json = False) -> None:
    """Read documents into a corpus with the Ray Data job. Further options go to ``python -m pipelines.ingest``."""
    command = [sys.executable, "-m", "pipelines.ingest", source, "--corpus", corpus, *context.args]
    if config:
        command += ["--config", str(config)]
    if as_json:
        command.append("--json")
    # Our own module, with the arguments of the user who runs us.
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="May be left out with --task summarize.")] = "",
    corpus: Corpus = ...,  # type: ignore[assignment]  # typer's way to say: required
    task: Annotated[str, typer.Option(help="memorag, rag, qa or summarize.")] = "memorag",
    top_k: Annotated[int | None, typer.Option(help="Pieces of evidence.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show the answer as it is written.")] = False,
    evidence: Annotated[bool, typer.Option("--evidence/--no-evidence", help="Show the evidence.")] = True,
    url: Url = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask a question about a corpus."""
    from lightrag.cli import answers
    from lightrag.client import Client

    options: dict[str, Any] = {"top_k": top_k} if top_k else {}
    with Client(url or _local_url(config)) as client:
        asked = {"corpus": corpus, "task": cast("Task", task), **options}
        if stream and not as_json:
            answers.show_stream(client.stream(question, **asked), with_evidence=evidence)
            return
        answer = client.ask(question, **asked)
    if as_json:
        answers.print_answer_json(answer)
    else:
        answers.show(answer, with_evidence=evidence)


@app.command()
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check what is installed, what works, and what to do about the rest."""
    from lightrag.cli.doctor import examine

    findings = examine(_settings(config))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        marks: dict[Literal["ok", "absent", "broken"], str] = {"ok": "✓", "absent": "–", "broken": "✗"}
        rows = [(marks[finding.state], finding.what, finding.found, finding.cure) for finding in findings]
        print_table("lightrag doctor", ["", "what", "found", "what to do"], rows)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command(name="config")
def show_config(config: Config = None, as_json: Json = False) -> None:
    """Print every setting with its value and where it comes from."""
    rows = explain_settings(config)
    if as_json:
        print_json([{"name": name, "value": value, "origin": origin} for name, value, origin in rows])
    else:
        print_table("Settings", ["name", "value", "origin"], rows)


def _settings(config: Path | None, port: int | None = None) -> Settings:
    return load_settings(config, **({"service": {"port": port}} if port else {}))


def _local_url(config: Path | None) -> str:
    from lightrag.cli import process

    return process.address(_settings(config))


__all__ = ["app", "run"]
