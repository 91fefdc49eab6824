"""Everything in one process, on embedded defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag import Engine
from lightrag.config import load_settings
from lightrag.errors import NotFoundError, UsageError
from lightrag.rag import AnswerText, Finished


async def test_documents_go_in_and_grounded_answers_come_out(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "mill.md").write_text("# The mill\n\nIt was founded in 1874 by Ada Lind.\n", encoding="utf-8")
    (notes / "fire.txt").write_text("The drying shed burned down in March 1901.\n", encoding="utf-8")
    async with Engine(load_settings(home=tmp_path / "home")) as engine:
        summary = await engine.ingest(notes, corpus="mill")
        assert (summary.new, summary.version) == (2, 1)
        answer = await engine.ask("Who founded the mill?", corpus="mill")
        assert "Ada Lind" in answer.text
        assert answer.evidence[0].chunk.source == "mill.md"
        again = await engine.ingest(notes, corpus="mill")
        assert (again.unchanged, again.committed) == (2, False)
        events = [event async for event in engine.stream("When was the fire?", corpus="mill")]
        assert "1901" in "".join(event.text for event in events if isinstance(event, AnswerText))
        assert isinstance(events[-1], Finished)
        summary_answer = await engine.ask("", corpus="mill", task="summarize")
        assert {item.chunk.source for item in summary_answer.evidence} == {"mill.md", "fire.txt"}


async def test_misuse_is_refused_with_the_cure(tmp_path: Path) -> None:
    async with Engine(load_settings(home=tmp_path)) as engine:
        with pytest.raises(NotFoundError, match="ingest"):
            await engine.ask("Who?", corpus="absent")
        with pytest.raises(NotFoundError, match="nowhere"):
            await engine.ingest(tmp_path / "nowhere", corpus="mill")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="no document"):
            await engine.ingest(tmp_path / "empty", corpus="mill")
        notes = tmp_path / "notes"
        notes.mkdir()
        (notes / "a.txt").write_text("The harbour froze in 1901.", encoding="utf-8")
        await engine.ingest(notes, corpus="mill")
        with pytest.raises(UsageError, match="topk"):
            await engine.ask("Who?", corpus="mill", topk=3)
