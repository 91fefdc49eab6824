"""Consolidation of everybody who has changed, and of nobody else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from lightrag.conversation import opening
from lightrag.conversation.bulk import stations
from lightrag.conversation.bulk.jobs import consolidate_tenant
from lightrag.conversation.bulk.receipts import JobSummary
from lightrag.conversation.bulk.spec import ConsolidationSpec
from lightrag.conversation.types import Scope
from lightrag.errors import BackendError, UsageError
from lightrag.models.fakes import ScriptedLanguageModel
from tests.lightrag.conversation.bulk.conftest import Bench, row
from tests.lightrag.conversation.conftest import echo


def decide(prompt: Any, sampling: Any) -> str:
    """Extract every line; let every later memory end the earlier one."""
    if prompt.messages[-1].text.startswith("Earlier"):
        return '{"action": "delete"}'
    return echo(prompt, sampling)


@pytest.fixture
def model(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> ScriptedLanguageModel:
    scripted = ScriptedLanguageModel(decide)
    monkeypatch.setattr(opening, "open_generator", lambda settings: scripted)
    return scripted


def remember(bench: Bench, *users: str, day: int = 1) -> None:
    rows = [row(user, f"I like {kind} tea a lot.", f"2024-0{day}-0{n + 1}") for user in users for n, kind in KINDS]
    bench.run(bench.write(f"chat-{day}-{'-'.join(users)}.jsonl", rows))


KINDS = list(enumerate(("green", "black")))


def consolidate(bench: Bench, **options: Any) -> JobSummary:
    spec = ConsolidationSpec(tenant="acme", **{"score_threshold": 0.3, **options})
    return consolidate_tenant(bench.settings, spec)


def holding(bench: Bench, user: str) -> list[str]:
    return [entry.text for entry in bench.remembered()[user] if entry.state == "current"]


def test_later_memories_win_and_who_has_not_changed_costs_no_call(bench: Bench, model: ScriptedLanguageModel) -> None:
    remember(bench, "ada", "bob")
    first = consolidate(bench)
    assert (first.receipt.users, first.receipt.changed, first.receipt.operations) == (2, 2, 2)
    assert holding(bench, "ada") == holding(bench, "bob") == ["I like black tea a lot."]
    calls = len(model.calls)
    second = consolidate(bench)
    assert (second.receipt.users, second.passed_over, len(model.calls)) == (0, 2, calls)
    remember(bench, "ada", day=2)
    calls = len(model.calls)
    third = consolidate(bench)
    assert (third.receipt.users, third.passed_over) == (1, 1)
    assert len(model.calls) > calls


def test_other_options_are_another_consolidation(bench: Bench, model: ScriptedLanguageModel) -> None:
    remember(bench, "ada")
    consolidate(bench, score_threshold=1.0)
    assert len(holding(bench, "ada")) == 2
    assert consolidate(bench).receipt.operations == 1


def test_one_user_alone(bench: Bench, model: ScriptedLanguageModel) -> None:
    remember(bench, "ada", "bob")
    assert consolidate(bench, user="bob").receipt.users == 1
    assert (len(holding(bench, "ada")), len(holding(bench, "bob"))) == (2, 1)
    with pytest.raises(UsageError, match="'eve'"):
        consolidate(bench, user="eve")


def test_a_model_that_is_down_leaves_decisions_that_the_next_run_takes(
    bench: Bench, model: ScriptedLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(bench, "ada")
    down = ScriptedLanguageModel(lambda prompt, sampling: (_ for _ in ()).throw(BackendError("503", retryable=True)))
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_generator", lambda settings: down)
        assert not consolidate(bench).complete
    assert consolidate(bench).receipt.operations == 1
    assert consolidate(bench).passed_over == 1


class Stopped(BaseException):
    """Ends the process at a given point."""


@pytest.mark.parametrize("point", range(8))
def test_stopped_anywhere_and_run_again_it_ends_the_same(
    bench: Bench, model: ScriptedLanguageModel, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    from lightrag.conversation.history.ledger import Ledger

    # One user at a time: a process that is stopped takes its threads along, a test does not.
    monkeypatch.setattr(stations, "TOGETHER", 1)
    remember(bench, "ada", "bob")
    write, writes = Ledger.write, 0

    def stop_at(self: Ledger, scope: Scope) -> Any:
        nonlocal writes
        writes += 1
        if writes > point:
            raise Stopped
        return write(self, scope)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "write", stop_at)
        with suppress(Stopped):
            consolidate(bench)
    consolidate(bench)
    assert holding(bench, "ada") == holding(bench, "bob") == ["I like black tea a lot."]
    calls = len(model.calls)
    assert (consolidate(bench).passed_over, len(model.calls)) == (2, calls)


def test_a_tenant_without_users_has_nothing_to_do(bench: Bench) -> None:
    assert consolidate(bench).receipt.users == 0
