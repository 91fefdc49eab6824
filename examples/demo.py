"""Ingest the example corpus, ask it questions with and without memory, and say which way found all the evidence.

Runs the same job and the same service as a cluster, on embedded defaults: ``make demo``. What was ingested is kept in
``.lightrag/demo``, so a second run only asks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table

from lightrag.client import Client
from lightrag.types import Answer, Task

HERE = Path(__file__).parent
CORPUS = "aldermere"
HOME = HERE.parent / ".lightrag" / "demo"
PORT = 8711
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what a complete answer rests on."""

    question: str
    kind: str
    answer: str
    evidence: tuple[str, ...]
    """Phrases that stand once each in the corpus; evidence is complete when every one was retrieved."""

    def found(self, answer: Answer) -> int:
        """How many of the phrases the evidence of an answer holds."""
        text = " ".join(" ".join(item.chunk.text.split()) for item in answer.evidence)
        return sum(" ".join(phrase.split()) in text for phrase in self.evidence)


def load_questions() -> list[Question]:
    """Read the questions that belong to the example corpus."""
    rows: list[dict[str, Any]] = json.loads((HERE / "questions.json").read_text(encoding="utf-8"))
    return [Question(**{**row, "evidence": tuple(row["evidence"])}) for row in rows]


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the service running")
    arguments = parser.parse_args()
    os.environ.setdefault("LRAG_HOME", str(HOME))
    os.environ.setdefault("LRAG_SERVICE__PORT", str(PORT))
    started = time.monotonic()
    console.print(Rule("1  ingest: the Ray Data job reads four documents into a corpus"))
    if _lightrag("ingest", str(HERE / "corpus"), "--corpus", CORPUS):
        return 1
    ingested = time.monotonic()
    console.print(Rule("2  serve: ingress, recall, retrieval and generation as Ray Serve deployments"))
    if _lightrag("up"):
        return 1
    serving = time.monotonic()
    try:
        with Client(f"http://127.0.0.1:{os.environ['LRAG_SERVICE__PORT']}") as client:
            _ask_all(client)
    finally:
        if not arguments.keep:
            _lightrag("down")
    console.print(
        f"\nIngested in {ingested - started:.1f} s, service up in {serving - ingested:.1f} s, "
        f"questions in {time.monotonic() - serving:.1f} s."
    )
    console.print(
        "Ask your own: [bold].venv/bin/lightrag up[/], [bold].venv/bin/lightrag ingest FOLDER --corpus NAME[/], "
        '[bold].venv/bin/lightrag ask "…" --corpus NAME[/].'
    )
    return 0


def _ask_all(client: Client) -> None:
    questions = load_questions()
    table = Table(title="Evidence found, of what a complete answer rests on", title_justify="left")
    for column in ("question", "kind", "plain retrieval", "with memory"):
        table.add_column(column, overflow="fold")
    complete: dict[Task, int] = {"rag": 0, "memorag": 0}
    console.print(Rule("3  ask: plain retrieval and memory side by side"))
    for question in questions:
        cells = []
        answers: dict[Task, Answer] = {}
        for task in ("rag", "memorag"):
            answers[task] = client.ask(question.question, corpus=CORPUS, task=task)
            found = question.found(answers[task])
            complete[task] += found == len(question.evidence)
            cells.append(f"{'✓' if found == len(question.evidence) else '·'} {found} of {len(question.evidence)}")
        table.add_row(question.question, question.kind, *cells)
        _show(question, answers["memorag"])
    console.print(table)
    console.print(
        f"All evidence found: plain retrieval {complete['rag']} of {len(questions)}, "
        f"with memory {complete['memorag']} of {len(questions)}."
    )
    console.print(Rule("4  summarise: an open question about everything"))
    summary = client.ask("", corpus=CORPUS, task="summarize")
    console.print(escape(summary.text))
    sources = {item.chunk.source for item in summary.evidence}
    console.print(f"[dim]extractive summary from {len(summary.evidence)} passages of {len(sources)} documents[/]")


def _show(question: Question, answer: Answer) -> None:
    console.print(f"\n[bold]{escape(question.question)}[/]")
    console.print(f"[dim]a complete answer: {escape(question.answer)}[/]")
    console.print(escape(answer.text))
    reached = [item for item in answer.evidence if item.via]
    if reached:
        step = reached[0].via[-1]
        console.print(
            f"[dim]{len(reached)} of {len(answer.evidence)} passages came through links, for example by "
            f"{step.kind.replace('_', ' ')}{f' “{escape(step.label)}”' if step.label else ''}[/]"
        )


def _lightrag(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "lightrag.cli", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
