"""Commands about jobs, as a user types them; no service runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("lightrag"))


def lightrag(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LRAG_")}
    environment |= {"LRAG_HOME": str(home), "LRAG_JOBS__RUNNER": "local", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [COMMAND, "jobs", *arguments], capture_output=True, text=True, timeout=400, check=False, env=environment
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_is_submitted_watched_reported_and_listed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "mill.txt").write_text("The mill was opened in 1874.")
    (docs / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    done = lightrag(tmp_path, "submit", str(docs), "--corpus", "mills", "--watch", "--json")
    assert done.returncode == 0, done.stderr
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert states[-1]["state"] == "succeeded"
    job = states[-1]["job_id"]

    page = tmp_path / "report.html"
    report = json.loads(lightrag(tmp_path, "report", job, "--html", str(page), "--json").stdout)
    assert [error["source"] for error in report["summary"]["errors"]] == ["torn.pdf"]
    assert page.read_text().startswith("<!doctype html>")

    (listed,) = json.loads(lightrag(tmp_path, "list", "--state", "succeeded", "--json").stdout)["jobs"]
    assert listed["usage"]["documents"] == 1
    assert lightrag(tmp_path, "cancel", job).returncode == 1  # it has ended
    assert json.loads(lightrag(tmp_path, "logs", job, "--json").stdout)["job_id"] == job


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("watch", "absent"), 1, "there is no job 'absent'"),
        (("list", "--state", "sleeping"), 2, "queued, running"),
        (("list", "--limit", "0"), 2, "between 1 and 200"),
        (("submit", "docs", "--corpus", "no/such"), 2, "not a valid name"),
    ],
)
def test_misuse_is_explained(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = lightrag(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
