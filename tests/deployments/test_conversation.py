"""Conversation memory through the real service: what was accepted outlives every replica."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from lightrag.client import Client
from lightrag.errors import ConflictError, DataError, NotFoundError, UsageError
from tests.deployments.conftest import Service
from tests.lightrag.conversation.conftest import say

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def replicas(service: Service) -> list[psutil.Process]:
    pid = json.loads((service.home / "service.json").read_text(encoding="utf-8"))["pid"]
    family = psutil.Process(pid).children(recursive=True)
    return [process for process in family if any("Conversation" in part for part in process.cmdline())]


def test_what_was_accepted_is_still_there_after_the_replica_was_killed(service: Service) -> None:
    texts = [f"I bought house {number} in Bergen." for number in range(6)]
    with Client(service.url) as client:
        for number, text in enumerate(texts):
            report = client.memories.add(
                say(text, f"2024-01-{number + 1:02d}"), user="killed", force_extract=number % 2 == 0
            )
            assert report.accepted
        assert "house" in client.memories.search("Which house in Bergen?", user="killed").entries[0].entry.text
        (replica,) = replicas(service)
        replica.kill()
        found = client.memories.search("Which house in Bergen?", user="killed", limit=20)
        assert {hit.entry.text for hit in found.entries} == {f"User: {text}" for text in texts}
        client.memories.consolidate(user="killed", flush=True)
        assert [entry.text for entry in client.memories.all(user="killed")] == [f"User: {text}" for text in texts]


def test_adds_that_a_dying_replica_was_working_on_are_neither_lost_nor_doubled(service: Service) -> None:
    def add(number: int) -> int:
        with Client(service.url) as client:
            client.memories.add(say(f"I met person {number}.", f"2024-02-{number + 1:02d}"), user="busy")
        return number

    with Client(service.url) as client, ThreadPoolExecutor(4) as pool:
        client.memories.add(say("I met nobody.", "2024-01-01"), user="busy")
        adding = [pool.submit(add, number) for number in range(16)]
        replicas(service)[0].kill()
        done = {future.result() for future in adding}
        client.memories.consolidate(user="busy", flush=True)
        entries = [entry for entry in client.memories.all(user="busy") if "person" in entry.text]
    assert sorted(entry.text for entry in entries) == sorted(f"User: I met person {number}." for number in done)
    assert all(len(entry.sources) == 1 for entry in entries)


def test_users_are_apart_and_errors_arrive_as_themselves(service: Service) -> None:
    with Client(service.url) as client:
        (entry_id,) = client.memories.add(say("I play the cello."), user="ada", force_extract=True).entries
        assert not client.memories.search("cello", user="bob").entries
        with pytest.raises(NotFoundError):
            client.memories.get(entry_id, user="bob")
        with pytest.raises(DataError, match="time stamp"):
            client.memories.add(say("I sing.", "soon"), user="ada")
        with pytest.raises(UsageError, match="empty"):
            client.memories.search(" ", user="ada")
        revision = client.memories.get(entry_id, user="ada").revision
        edited = client.memories.edit(entry_id, "Ada plays the viola.", user="ada", revision=revision)
        assert "viola" in client.memories.context("What does Ada play?", user="ada")
        with pytest.raises(ConflictError):
            client.memories.edit(edited.entry.entry_id, "Ada sings.", user="ada", revision=1)


def test_the_commands_remember_and_recall(service: Service) -> None:
    kept = service.lightrag("remember", "My sister lives in Oslo.", "--user", "cli", "--json")
    assert kept.returncode == 0, kept.stderr
    assert json.loads(kept.stdout)["accepted"]
    found = service.lightrag("recall", "Where does my sister live?", "--user", "cli")
    assert "Oslo" in found.stdout
    assert "Nothing" in service.lightrag("recall", "Where does my sister live?", "--user", "someone").stdout
