"""Answers on a terminal: the text, then what it rests on."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.markup import escape

from lightrag.api.events import ANSWER
from lightrag.cli.output import console
from lightrag.rag import AnswerText, AskEvent, Finished
from lightrag.types import Answer, Evidence

_SHOWN = 220
"""Characters of a piece of evidence on the screen; ``--json`` prints all of it."""


def print_answer_json(answer: Answer) -> None:
    """Print the whole answer as JSON."""
    sys.stdout.write(ANSWER.dump_json(answer).decode() + "\n")


def show(answer: Answer, *, with_evidence: bool) -> None:
    """Print an answer and what it rests on."""
    console.print(escape(answer.text))
    _show_rest(answer, with_evidence=with_evidence)


def show_stream(events: Iterator[AskEvent], *, with_evidence: bool) -> None:
    """Print an answer while it is written."""
    for event in events:
        if isinstance(event, AnswerText):
            sys.stdout.write(event.text)
            sys.stdout.flush()
        elif isinstance(event, Finished):
            sys.stdout.write("\n")
            _show_rest(event.answer, with_evidence=with_evidence)


def _show_rest(answer: Answer, *, with_evidence: bool) -> None:
    for fallback in answer.fallbacks:
        console.print(f"[yellow]{fallback.stage} was replaced by {fallback.used}: {escape(fallback.reason)}[/]")
    for note in answer.notes:
        console.print(f"[yellow]note: {escape(note)}[/]")
    if with_evidence and answer.evidence:
        console.print("\n[bold]Evidence[/]")
        for number, item in enumerate(answer.evidence, 1):
            console.print(f"[bold]\\[{number}][/] [cyan]{escape(_place(item))}[/]{_route(item)}")
            text = " ".join(item.chunk.text.split())
            console.print(f"    [dim]{escape(text[:_SHOWN])}{'…' if len(text) > _SHOWN else ''}[/]")
    author = f"written by {answer.model}" if answer.kind == "generated" else "extractive: quoted, no language model"
    times = "  ".join(f"{stage} {seconds * 1000:.0f} ms" for stage, seconds in answer.seconds.items())
    console.print(f"\n[dim]{escape(author)} · {answer.corpus} · {len(answer.clues)} clues · {times}[/]")


def _place(item: Evidence) -> str:
    chunk = item.chunk
    parts = (chunk.source or chunk.title, f"page {chunk.page}" if chunk.page else "", chunk.heading)
    return ", ".join(part for part in parts if part) + f"  (characters {chunk.start}-{chunk.end})"


def _route(item: Evidence) -> str:
    """How a passage was reached that the question alone did not find."""
    if not item.via:
        return ""
    step = item.via[-1]
    return f"  [magenta]via {step.kind.replace('_', ' ')}{f' “{escape(step.label)}”' if step.label else ''}[/]"


__all__ = ["print_answer_json", "show", "show_stream"]
