"""Commands about corpora, their versions and the pins that keep them, through a running service."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lightrag.cli.output import console, print_json, print_table
from lightrag.config import load_settings

if TYPE_CHECKING:
    from lightrag.api.schemas import CorpusInfo
    from lightrag.api.version_schemas import CommitInfo
    from lightrag.client import Client

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML). Default: $LRAG_CONFIG.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Url = Annotated[str, typer.Option("--url", envvar="LRAG_URL", help="Address of the service. Default: the local one.")]
Corpus = Annotated[str, typer.Argument(help="Name of the corpus.")]
PinName = Annotated[str, typer.Argument(help="Name of the pin.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lightrag`` command."""
    for command in (corpora, versions, pin, unpin):
        app.command()(command)


def corpora(url: Url = "", config: Config = None, as_json: Json = False) -> None:
    """List the corpora and what they hold."""
    with _client(url, config) as client:
        found = client.corpora()
    if as_json:
        print_json([corpus.model_dump() for corpus in found])
        return
    if not found:
        console.print("No corpora yet; make one with [bold]lightrag ingest PATH --corpus NAME[/]")
        return
    names = _counted(found)
    rows = [
        (corpus.corpus, corpus.version, *(corpus.counts.get(name, 0) for name in names), _to_the_minute(corpus))
        for corpus in found
    ]
    print_table("Corpora", ["corpus", "version", *_headings(names), "committed"], rows)


def versions(
    corpus: Corpus,
    limit: Annotated[int, typer.Option(help="Versions on a page.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    url: Url = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the versions of a corpus, newest first, and the pins that keep them."""
    with _client(url, config) as client:
        page = client.versions.page(corpus, cursor=cursor or None, limit=limit)
    if as_json:
        print_json(page.model_dump())
        return
    names = _counted(page.versions)
    rows = [
        (each.version, *(each.counts.get(name, 0) for name in names), _to_the_minute(each), ", ".join(each.pins))
        for each in page.versions
    ]
    print_table(f"Versions of {corpus}", ["version", *_headings(names), "committed", "pins"], rows)
    if page.next:
        console.print(f"[dim]older ones: --cursor {page.next}[/]")


def pin(
    corpus: Corpus,
    name: PinName,
    version: Annotated[int, typer.Argument(help="What it keeps.")],
    url: Url = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Keep a version of a corpus under a name; a name that keeps another one moves."""
    with _client(url, config) as client:
        pinned = client.versions.pin(corpus, name, version)
    if as_json:
        print_json(pinned.model_dump())
    else:
        console.print(f"Pinned version {pinned.version} of {escape(corpus)} as [bold]{escape(pinned.name)}[/]")


def unpin(corpus: Corpus, name: PinName, url: Url = "", config: Config = None, as_json: Json = False) -> None:
    """Remove a pin; the next job may remove the version that it kept."""
    with _client(url, config) as client:
        client.versions.unpin(corpus, name)
    if as_json:
        print_json({"unpinned": name})
    else:
        console.print(f"Removed the pin {escape(name)} of {escape(corpus)}")


def _client(url: str, config: Path | None) -> Client:
    from lightrag.cli import process
    from lightrag.client import Client

    return Client(url or process.address(load_settings(config)))


def _counted(infos: Iterable[CorpusInfo | CommitInfo]) -> list[str]:
    """What any of them has. What none has would only make the rest too narrow to read; JSON has every count."""
    return list(dict.fromkeys(name for info in infos for name, count in info.counts.items() if count))


def _headings(names: Iterable[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _to_the_minute(info: CorpusInfo | CommitInfo) -> str:
    return datetime.fromisoformat(info.committed_at).strftime("%Y-%m-%d %H:%M")


__all__ = ["register"]
