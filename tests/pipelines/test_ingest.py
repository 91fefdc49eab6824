"""The command as users and the service run it, without Ray except where marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.corpora import load_corpus
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId
from pipelines.ingest import main
from tests.lightrag.ingestion.conftest import Bench, bench, story

__all__ = ["bench"]


@pytest.fixture(autouse=True)
def _home(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LRAG_HOME", str(bench.home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return


FULL_DISK = """
import resource, sys
from lightrag.documents import detect_language
from pipelines.ingest import main
if sys.argv[1] == "before the first result is stored":
    detect_language("A language model is unpacked when it is first needed.")
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.exit(main(sys.argv[2:]))
"""


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.ingest", *arguments]


class TestArguments:
    def test_help_needs_no_ray_and_says_what_can_be_read(self) -> None:
        code = "import sys, pipelines.ingest as i\ntry: i.main(['--help'])\nfinally: assert 'ray' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert "s3://" in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "say what to ingest"),
            (["docs"], "say what to ingest"),
            (["docs", "--corpus", "no/good"], "not a valid name"),
            (["docs", "--corpus", "c", "--option", "x"], "NAME=VALUE"),
            (["--json", "docs", "--corpus", "c"], "--json"),
            (["--json", '{"corpus": "c"}'], "source: Field required"),
            (["--json", '{"corpus": "c", "source": {"location": "x"}, "sauce": 1}'], "sauce"),
            (["--json", "{"], "not JSON"),
            (["--json", "@/nowhere.json"], "cannot be read"),
            (["/nowhere", "--corpus", "c"], "no file or folder '/nowhere'"),
        ],
    )
    def test_wrong_calls_exit_with_2_and_say_what_to_change(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert message in " ".join((shown.out + shown.err).split())
        assert "Traceback" not in shown.err

    def test_an_empty_folder_exits_with_2(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(bench.docs), "--corpus", "tales", "--json"]) == 2
        *_, last = events(capsys)
        assert (last["event"], last["kind"]) == ("error", "UsageError")
        assert "holds no documents" in last["message"]


class TestRuns:
    def test_prints_a_summary_for_people(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        bench.write("a.txt", "The bell rang once.")
        bench.write("b.txt", "")
        bench.write("c.txt", "The bay froze.")
        assert main([str(bench.docs), "--corpus", "tales", "--local"]) == 0
        shown = capsys.readouterr().err
        assert "2 new, 1 failed (version 1)" in shown
        assert "b.txt" in shown

    def test_writes_json_lines_from_a_spec(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        bench.write("a.jsonl", '{"body": "The bell rang.", "year": 1904}\n')
        spec = {
            "corpus": "tales",
            "tenant": "acme",
            "source": {
                "location": str(bench.docs / "a.jsonl"),
                "text_column": "body",
                "metadata_columns": ["year"],
            },
            "settings": {"chunking": {"max_tokens": 64}},
        }
        assert main(["--local", "--json", json.dumps(spec)]) == 0
        first, *_, last = events(capsys)
        assert first["event"] == "progress"
        assert (last["event"], last["new"], last["version"]) == ("summary", 1, 1)
        log = CorpusLog(open_object_store(load_settings().storage_url), CorpusId("acme", "tales"))
        commit = log.latest()
        assert commit is not None
        assert load_corpus(log.store, commit.id).index.chunks[0].metadata == {"year": 1904}

    def test_encodes_memories_by_settings_alone_and_says_so(
        self, bench: Bench, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("LRAG_MEMORY__MODEL", str(tiny_qwen2))
        bench.write("a.txt", "The bell rang once.")
        assert main([str(bench.docs), "--corpus", "tales", "--local", "--json"]) == 0
        *progress, last = events(capsys)
        steps = [(each["stage"], each["done"], each["total"]) for each in progress]
        assert [step for step in steps if step[0] == "encode"] == [("encode", 0, 1), ("encode", 1, 1)]
        assert (last["groups_encoded"], last["groups_bytes"] > 0) == (1, True)
        bench.write("b.txt", "The bay froze.")
        assert main([str(bench.docs), "--corpus", "tales", "--local"]) == 0
        assert "2 groups (1 encoded, 1 unchanged)" in capsys.readouterr().err

    def test_too_many_failures_exit_with_1(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        bench.write("a.txt", "")
        assert main([str(bench.docs), "--corpus", "tales", "--local", "--json"]) == 1
        *_, last = events(capsys)
        assert (last["event"], last["kind"]) == ("error", "LimitError")

    @pytest.mark.parametrize("moment", ["before the first parser is loaded", "before the first result is stored"])
    def test_a_full_disk_fails_the_job_and_the_next_one_goes_on(self, bench: Bench, moment: str) -> None:
        # The system refuses to let any file grow beyond a few kilobytes, which is how a full disk looks.
        bench.write_many(3)
        arguments = [str(bench.docs), "--corpus", "tales", "--local", "--json"]
        full = subprocess.run(
            [sys.executable, "-c", FULL_DISK, moment, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert full.returncode == 1, full.stderr
        last = json.loads(full.stdout.splitlines()[-1])
        assert (last["event"], last["kind"]) == ("error", "BackendError")
        assert "large" in last["message"]
        assert bench.log.latest() is None
        assert main(arguments) == 0
        assert len(bench.documents()) == 3

    def test_a_killed_run_is_resumed(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(8):
            bench.write(f"{number}.txt", story(number)[:500])
        environment = {**os.environ, "LRAG_INGEST__BATCH_BYTES": "1"}
        arguments = [str(bench.docs), "--corpus", "tales", "--local", "--json"]
        with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line).get("done", 0) >= 3:
                    break
            process.kill()
        assert bench.log.latest() is None
        assert main(arguments) == 0
        *_, last = events(capsys)
        assert last["resumed"] >= 3
        assert (last["new"], len(bench.documents())) == (8, 8)


def test_a_cluster_that_does_not_answer_is_said_at_once(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("a.txt", "The bell rang once.")
    assert main([str(bench.docs), "--corpus", "tales", "--address", "127.0.0.1:1", "--json"]) == 1
    *_, last = events(capsys)
    assert "no Ray cluster answers at '127.0.0.1:1'" in last["message"]


@pytest.mark.ray
@pytest.mark.slow
def test_runs_on_a_private_cluster_by_settings_alone_and_leaves_no_process_behind(
    bench: Bench, tiny_qwen2: Path
) -> None:
    import psutil

    bench.write_many(2)
    run = command(str(bench.docs), "--corpus", "tales", "--json")
    environment = {**os.environ, "LRAG_MEMORY__MODEL": str(tiny_qwen2)}
    pipe = subprocess.PIPE
    with subprocess.Popen(run, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as process:
        output, shown = process.communicate(timeout=150)
    assert process.returncode == 0, output + shown
    summary = json.loads(output.splitlines()[-1])
    assert (summary["new"], summary["groups_encoded"]) == (2, 1)
    # Neither Ray's announcements nor warnings about its own interfaces are any business of ours.
    assert "logging.cc" not in shown
    assert "eprecat" not in shown
    left = [each for each in psutil.process_iter(["pid"]) if _session(each.pid) == process.pid]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive
    again = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert json.loads(again.stdout.splitlines()[-1])["unchanged"] == 2


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
