"""Bulk jobs over a home folder of their own; hashed words instead of the bundled embedder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import Settings, load_settings
from lightrag.conversation import opening
from lightrag.conversation.bulk.jobs import import_conversations
from lightrag.conversation.bulk.receipts import JobSummary
from lightrag.conversation.bulk.spec import ImportSpec
from lightrag.conversation.opening import open_conversations
from lightrag.conversation.types import MemoryEntry, Scope
from lightrag.models.fakes import HashingEmbedder


class Bench:
    """A home folder, files of conversations, and what is remembered of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings: Settings = load_settings(None, home=home)

    def write(self, name: str, content: Any) -> Path:
        """Lines of JSON for a list and ``.jsonl``, else one JSON value or the text itself."""
        path = self.home / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jsonl") and isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def run(self, path: Path, **options: Any) -> JobSummary:
        """Import a file in this process."""
        return import_conversations(self.settings, ImportSpec(tenant="acme", location=str(path), **options))

    def remembered(self) -> dict[str, list[MemoryEntry]]:
        """What holds, by user, in order of arrival."""
        history = open_conversations(self.settings, scratch=self.home / "looking").history
        scopes = history.ledger.scopes("acme")
        found = {scope.user: history.entries.since(scope, 0) for scope in scopes}
        history.close()
        return found

    def messages(self, user: str) -> list[str]:
        """What was accepted of a user, in order of arrival."""
        history = open_conversations(self.settings, scratch=self.home / "looking").history
        found = [stored.message.content for stored in history.messages.since(Scope("acme", user), 0)]
        history.close()
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A fresh home folder."""
    monkeypatch.setattr(opening, "open_embedder", lambda settings: HashingEmbedder())
    return Bench(tmp_path)


def row(user: str, text: str, time: str = "2024-01-15T10:30:00", **more: Any) -> dict[str, Any]:
    """A message as a record."""
    return {"user": user, "role": "user", "content": text, "time_stamp": time, **more}
