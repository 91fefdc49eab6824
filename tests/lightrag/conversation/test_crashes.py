"""kill -9 at every stage of adding and consolidating: before and after each commit, and around each write of vectors.

A stage is a point where something becomes durable. One process loads the library and then forks a child for each stage;
the child kills itself there, and the next child opens what is left. Nothing that was accepted may be missing, nothing
may be there twice, and what a child that nobody stops leaves behind is what all of them must leave behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HARNESS = '''
import json, os, signal, sys
from pathlib import Path

from lightrag.conversation import LightMemory
from lightrag.conversation.history import History
from lightrag.conversation.vectors.edge import EdgeVectorStore
from lightrag.documents.language import detect_language
from lightrag.models.fakes import HashingEmbedder
from lightrag.retrieval.lexical import LexicalIndex

folder, work = Path(sys.argv[1]), sys.argv[2]
SAID = ["I live in Bergen.", "My sister Ingrid plays the cello.", "I live in Oslo.", "I live in Bergen."]


def load_once():
    detect_language("What the children use is loaded before they are forked.")
    LexicalIndex.build(["one", "two"], ["en", "en"])
    History.open(folder / "loaded.db").close()


def open_memory(path):
    config = {"embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(path)}},
              "topic_segment": True, "sensory_tokens": 12, "short_term_tokens": 16}
    return LightMemory.from_config(config, embedder=HashingEmbedder())


def add(memory, report):
    for n, text in enumerate(SAID):
        said = {"role": "user", "content": text, "time_stamp": f"2024-0{n + 1}-01"}
        memory.add_memory(said, request_id=f"r{n}", force_extract=n == len(SAID) - 1)
        report(n)


def consolidate(memory, report):
    memory.construct_update_queue_all_entries()
    memory.offline_update_all_entries(score_threshold=0.3)
    report(0)


def forked(action):
    """What a child of its own says on a pipe before it ends or is killed, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        action(lambda what: os.write(writer, f"{json.dumps(what)}\\n".encode()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        said = [json.loads(line) for line in lines]
    return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(path, steps, stage):
    """Run the steps and die at the stage; a negative stage is never reached."""
    def run(report):
        memory = open_memory(path)
        left = [stage]

        def around(durable):
            def call(*given):
                for act in (None, durable, None):
                    if act is not None:
                        act(*given)
                        continue
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
            return call

        dialect = memory.aio.engine.history.ledger.engine.dialect
        dialect.do_commit = around(dialect.do_commit)
        EdgeVectorStore.apply = around(EdgeVectorStore.apply)
        steps(memory, report)
        memory.close()
    return forked(run)


def left_behind(path):
    """What is found after a restart, then everything there is once the interrupted work is done again."""
    def run(report):
        memory = open_memory(path)
        report(found(memory))
        with memory.aio.engine.history.ledger.engine.begin() as connection:
            # The dead one's lease on its work has run out.
            connection.exec_driver_sql("update conversation_batches set claimed_until = 0")
        if work == "adding":
            add(memory, lambda n: None)  # as a client repeats calls that it got no answer to
        memory.flush()
        if work == "consolidating":
            consolidate(memory, lambda n: None)
        entries = [[e.text, e.state, e.occurrences, str(e.valid_to), len(e.sources)]
                   for e in memory.entries(include_superseded=True)]
        report({"entries": entries, "found": found(memory)})
        memory.close()
    said, code = forked(run)
    assert code == 0, code
    return dict(zip(("found", "ended"), said))


def found(memory):
    return sorted(hit.entry.text for hit in memory.search("Bergen Ingrid Oslo", limit=50).entries)


def fresh(name):
    path = folder / name
    if work == "consolidating":
        _, code = dying(path, add, -1)
        assert code == 0, code
    return path


load_once()
steps = add if work == "adding" else consolidate
path = fresh("undisturbed")
said, code = dying(path, steps, -1)
print(json.dumps({"stage": None, "said": said, "code": code, **left_behind(path)}), flush=True)
stage = 0
while code != 0 or stage == 0:
    path = fresh(f"stage {stage}")
    said, code = dying(path, steps, stage)
    print(json.dumps({"stage": stage, "said": said, "code": code, **left_behind(path)}), flush=True)
    stage += 1
'''

SAID = ["I live in Bergen.", "My sister Ingrid plays the cello.", "I live in Oslo.", "I live in Bergen."]


def crash_everywhere(folder: Path, work: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What an undisturbed run leaves behind, and one record per stage."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HARNESS, str(folder), work],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    undisturbed, *stages = [json.loads(line) for line in run.stdout.splitlines()]
    assert undisturbed["code"] == 0
    assert stages[-1]["code"] == 0
    assert all(stage["code"] == -9 for stage in stages[:-1])
    return undisturbed, stages


@pytest.mark.slow
def test_killed_at_any_stage_of_adding_nothing_accepted_is_missing_and_nothing_is_twice(tmp_path: Path) -> None:
    undisturbed, stages = crash_everywhere(tmp_path, "adding")
    assert len(stages) > 20
    for stage in stages:
        accepted = {f"User: {SAID[n]}" for n in stage["said"]}
        assert accepted <= set(stage["found"]), stage
        assert stage["ended"] == undisturbed["ended"], stage


@pytest.mark.slow
def test_killed_at_any_stage_of_consolidating_it_ends_as_if_nobody_had_stopped_it(tmp_path: Path) -> None:
    undisturbed, stages = crash_everywhere(tmp_path, "consolidating")
    assert any(entry[1] == "superseded" for entry in undisturbed["ended"]["entries"])
    assert len(stages) > 4
    for stage in stages:
        assert stage["ended"] == undisturbed["ended"], stage
