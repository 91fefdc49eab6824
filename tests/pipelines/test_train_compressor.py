"""The command that trains compressors, alone and with two workers. Lost workers: ``test_train_memory``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lightrag.latents.checkpoint import find_part
from lightrag.latents.encoder import LatentEncoder
from lightrag.training.compressor_job import CompressorTraining
from lightrag.training.metrics import read_metrics
from pipelines.train_compressor import main
from pipelines.training import run_on_ray
from tests.pipelines.training_runs import text, write_rows

ROWS: dict[str, list[dict[str, Any]]] = {
    "pretraining": [{"text": text(60, number)} for number in range(8)],
    "finetuning": [
        {"query": text(4, n), "key": [text(20, n + 50), text(12, n + 90)], "answers": [text(3, n)]} for n in range(8)
    ],
    "passages": [
        {"query": text(4, n), "pos": [text(12, n)], "neg": [text(12, n + 20), text(12, n + 40)]} for n in range(8)
    ],
    "tokens": [
        {"query": text(4, n), "passage": f"{text(12, n)} mayor Lind {text(3, n)}", "gold": ["mayor Lind"]}
        for n in range(8)
    ],
}


def spec(stage: str, llama: Path, folder: Path, output: str = "run", **changes: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "language_model": str(llama),
        "data": [write_rows(folder / f"{stage}.jsonl", *ROWS[stage])],
        "output": str(folder / output),
        "window": 32,
        "min_tokens": 40,
        "passages": 2,
        "steps": 6,
        "batch_size": 4,
        "parts": 2,
        "learning_rate": 1e-3,
        "save_every": 2,
        "max_failures": 1,
        **changes,
    }


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_two_workers_train_what_one_trains(tiny_llama: Path, tmp_path: Path) -> None:
    changes = {"distillation": 0.5, "validation": [write_rows(tmp_path / "held.jsonl", *ROWS["finetuning"][:3])]}
    CompressorTraining.parse(spec("finetuning", tiny_llama, tmp_path, "alone", **changes)).run("cpu")
    job = spec("finetuning", tiny_llama, tmp_path, "together", workers=2, **changes)
    summary = run_on_ray(CompressorTraining.parse(job))
    assert (summary["steps"], summary["resumed_at"]) == (6, 0)
    alone, together = (read_metrics(tmp_path / name) for name in ("alone", "together"))
    for name in ("loss", "gradient_norm", "validation_loss"):
        expected = [row[name] for row in alone if name in row]
        assert [row[name] for row in together if name in row] == pytest.approx(expected, rel=1e-4)
    assert LatentEncoder.load(tmp_path / "together").model.config.num_hidden_layers == 2


@pytest.mark.parametrize("stage", list(ROWS))
def test_every_stage_runs_from_its_published_fields(
    stage: str, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--local", "--json", json.dumps(spec(stage, tiny_llama, tmp_path, steps=3))]) == 0
    *progress, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in progress] == [0, 1, 2]
    assert summary["resumed_at"] == 0
    role = "encoder" if stage in ("pretraining", "finetuning") else "estimator"
    trained, before = (find_part(path, role).build().state_dict() for path in (tmp_path / "run", tiny_llama))
    assert any(not trained[name].equal(before[name]) for name in before)
    # The next stage begins where this one ended, and fewer layers may be kept.
    further = spec(stage, tiny_llama, tmp_path, "further", steps=1, start=str(tmp_path / "run"), layers=1)
    assert main(["--local", "--json", json.dumps({**further, "precision": "bfloat16"})]) == 0
    assert find_part(tmp_path / "further", role).layers == 1


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("tuning", {}, "stage: Input should be 'pretraining'"),
        ("pretraining", {"window": 500}, "no text has 501 to 15999 tokens"),
        ("finetuning", {"data": ["{}/passages.jsonl"]}, "line 1 .* needs a field 'key'"),
        ("passages", {"passages": 9}, "needs a positive and 8 negatives, it has 1 and 2"),
        ("tokens", {"data": ["{}/lost.jsonl"]}, "line 1 .* marks 'Berg', which is not in its passage"),
    ],
)
def test_what_is_wrong_is_named(
    stage: str,
    changes: dict[str, Any],
    message: str,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(tmp_path / "passages.jsonl", *ROWS["passages"])
    write_rows(tmp_path / "lost.jsonl", {"query": "Who?", "passage": "The mayor.", "gold": ["Berg"]})
    job = {**spec("passages" if stage == "tuning" else stage, tiny_llama, tmp_path, **changes), "stage": stage}
    job["data"] = [path.format(tmp_path) for path in job["data"]]
    assert main(["--local", "--json", json.dumps(job)]) in (1, 2)
    *_, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert re.search(message, last["message"])
