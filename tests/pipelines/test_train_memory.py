"""The command that trains memory models, alone and with two workers of which one dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightrag.memory.memory_model import load_memory_model
from lightrag.training.memory_job import MemoryTraining
from lightrag.training.metrics import read_metrics
from pipelines.train_memory import main
from pipelines.training import run_on_ray
from tests.pipelines.training_runs import FragileMemoryTraining, text, write_rows


def spec(tiny_qwen2: Path, folder: Path, output: str = "run", **changes: Any) -> dict[str, Any]:
    rows = [{"text": text(40 + 30 * (number % 2), number)} for number in range(10)]
    return {
        "model": str(tiny_qwen2),
        "data": [write_rows(folder / "texts.jsonl", *rows)],
        "output": str(folder / output),
        "window": 16,
        "ratios": [2, 4],
        "max_tokens": 60,
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
def test_two_workers_train_what_one_trains_even_if_one_of_them_dies(tiny_qwen2: Path, tmp_path: Path) -> None:
    validated = {"validation": [write_rows(tmp_path / "held.jsonl", {"text": text(50, 99)})], "validate_every": 3}
    MemoryTraining.parse(spec(tiny_qwen2, tmp_path, "alone", **validated)).run("cpu")
    job = FragileMemoryTraining.parse(spec(tiny_qwen2, tmp_path, "together", workers=2, **validated))
    summary = run_on_ray(job)
    assert (tmp_path / "together/died").exists()
    assert (summary["steps"], summary["resumed_at"]) == (6, 4)
    alone, together = (read_metrics(tmp_path / name) for name in ("alone", "together"))
    for name in ("loss", "gradient_norm", "validation_loss"):
        expected = [row[name] for row in alone if name in row]
        assert [row[name] for row in together if name in row] == pytest.approx(expected, rel=1e-4)
    assert load_memory_model(summary["model"], ratios=4).identity.architecture == "qwen2"
    assert not (tmp_path / "together/.ray").exists()


def test_conversations_are_learnt_from_the_command_line(
    tiny_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = [
        {"conversations": [{"role": "user", "content": text(30, n)}, {"role": "assistant", "content": text(9, n)}]}
        for n in range(6)
    ]
    data = write_rows(tmp_path / "talks.jsonl", *talks)
    options = ["--model", str(tiny_qwen2), "--data", data, "--output", str(tmp_path / "run"), "--window", "16"]
    options += ["--ratios", "2", "4", "--steps", "3", "--batch-size", "2", "--recompute", "--local", "--json"]
    assert main(options) == 0
    *progress, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in progress] == [0, 1, 2]
    assert (summary["event"], summary["steps"], summary["resumed_at"]) == ("summary", 3, 0)
    assert load_memory_model(summary["model"]).identity.architecture == "qwen2"
    further = ["--model", summary["model"], "--data", data, "--output", str(tmp_path / "further")]
    assert main([*further, "--epochs", "0.5", "--batch-size", "2", "--local"]) == 0
    assert "2 steps" in capsys.readouterr().err


def test_a_spec_says_everything(tiny_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = spec(tiny_qwen2, tmp_path, blocks=[40, 60], beacon={"beacon_sink_size": 2}, precision="bfloat16", steps=2)
    (tmp_path / "spec.json").write_text(json.dumps(job), encoding="utf-8")
    assert main(["--local", "--json", f"@{tmp_path / 'spec.json'}"]) == 0
    *_, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    written = json.loads((Path(summary["model"]) / "config.json").read_text(encoding="utf-8"))
    assert (written["beacon_window"], written["beacon_ratio"], written["beacon_sink_size"]) == (16, [2, 4], 2)
    assert MemoryTraining.parse(MemoryTraining.parse(job).to_json()) == MemoryTraining.parse(job)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 200}, "no example in .* can be used: none has 201 to 300 tokens"),
        ({"parts": 3}, "parts must divide the batch size 4"),
        ({"ratios": [2, 64, 5]}, r"ratios \[64, 5\] do not divide the window of 16 tokens"),
        ({"blocks": [16]}, "blocks must be longer than a window"),
        ({"workers": 2}, "2 workers need Ray"),
        ({"data": ["nowhere.jsonl"]}, "'nowhere.jsonl' cannot be read"),
        ({"validate_every": 2}, "needs validation data"),
        ({"batch_size": 0, "windows": 3}, "batch_size: .* windows: Extra inputs"),
    ],
)
def test_wrong_calls_exit_with_2_and_say_what_to_change(
    changes: dict[str, Any], message: str, tiny_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = spec(tiny_qwen2, tmp_path, **{"max_tokens": 300, **changes})
    assert main(["--local", "--json", json.dumps(job)]) == 2
    *_, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert last["event"] == "error"
    import re

    assert re.search(message, last["message"])


def test_options_that_are_missing_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().err
    for name in ("output", "data", "model"):
        assert f"{name}: Field required" in shown
    assert main(["--model", "x", "--json", "{}"]) == 2
    assert "either a spec" in json.loads(capsys.readouterr().out)["message"]
