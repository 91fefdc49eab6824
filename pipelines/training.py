"""Training jobs on Ray Train: what the commands that train have in common.

Thin on purpose: it reads arguments, shows progress, and hands the job to workers, each of which runs the library's own
loop in a process group. Exit codes: 0 done, 1 failed (checkpoints are kept for the next run), 2 called wrongly.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_origin

from lightrag.errors import BackendError, ConfigurationError, DataError, LightRAGError, UsageError
from lightrag.training.jobs import TrainingJob
from lightrag.training.loop import TrainingReport
from lightrag.training.metrics import newest_loss
from pipelines.command import run, spec_text, write_event

_SECONDS_BETWEEN_LINES = 2.0

Progress = Callable[[dict[str, float]], object]
"""Takes a line of metrics."""


def main(kind: type[TrainingJob], arguments: Sequence[str] | None = None) -> int:
    """Run a job from the command line and return the exit code."""
    parsed = _parser(kind).parse_args(arguments)
    show = _Output(as_json=parsed.json is not None)

    def job() -> bool:
        described = _job(kind, parsed)
        summary = _run_locally(described, show) if parsed.local else run_on_ray(described, show.progress)
        show.write("summary", **summary)
        return True

    return run(job, show.failure, stopped="stopped; the next run goes on from the newest checkpoint")


def run_on_ray(job: TrainingJob, progress: Progress = lambda row: None) -> dict[str, Any]:
    """Run a job on the cluster that it names, or on a private one that ends with it; returns the summary.

    Workers that die are replaced, and the run goes on from its newest checkpoint.

    Args:
        job: what to train; its files must be where every worker sees them.
        progress: called with the newest line of metrics from time to time, where this process sees the output folder.

    Raises:
        UsageError: the job asks for something impossible.
        DataError: data or checkpoints are at fault.
        BackendError: there is no cluster, or the job failed more often than allowed.
    """
    # Only now: --help needs no Ray.
    from pipelines.cluster import cluster

    with cluster(job.address, cpus=job.workers), _watched(Path(job.output), progress):
        result = _fit(job.located())
    if "error" in result:
        raise _rebuilt(result)
    return result


def work(config: dict[str, Any]) -> dict[str, Any]:
    """What each worker runs; what the first one returns is the job's result."""
    import ray.train.torch

    job: TrainingJob = config["job"]
    try:
        return _summary(job.run(str(ray.train.torch.get_device())))
    except (UsageError, DataError) as error:
        # Trying again would not help, so this is no failure of the worker.
        return {"error": str(error), "kind": _kind(error), "subject": error.subject}


def _fit(job: TrainingJob) -> dict[str, Any]:
    import ray

    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ConfigurationError(f"install lightrag-ray[training], or use --local: {error}") from error

    gpus = ray.cluster_resources().get("GPU", 0)
    on_gpus = job.device == "cuda" or (job.device == "auto" and gpus >= job.workers)
    # Ray's own notes about the run; our checkpoints are in the output folder itself.
    notes = Path(job.output) / ".ray"
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=job.workers, use_gpu=on_gpus),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(notes),
            failure_config=FailureConfig(max_failures=job.max_failures),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise BackendError(
            f"training failed more than {job.max_failures} times, last with: {_last_line(error)}", subject=job.output
        ) from error
    shutil.rmtree(notes, ignore_errors=True)
    return dict(result.return_value)


def _run_locally(job: TrainingJob, show: _Output) -> dict[str, Any]:
    import torch

    if job.workers > 1:
        raise UsageError(f"{job.workers} workers need Ray; leave out --local")
    device = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    done = job.run(device, on_step=lambda step, steps, loss: show.progress({"step": step, "loss": loss}))
    return _summary(done)


def _summary(done: TrainingReport) -> dict[str, Any]:
    return {
        "steps": len(done.losses),
        "loss": done.losses[-1],
        "resumed_at": done.resumed_at,
        "model": str(done.model_folder),
    }


def _kind(error: LightRAGError) -> str:
    return "UsageError" if isinstance(error, UsageError) else "DataError"


def _rebuilt(result: dict[str, Any]) -> LightRAGError:
    kind = UsageError if result["kind"] == "UsageError" else DataError
    return kind(result["error"], subject=result["subject"])


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


@contextmanager
def _watched(folder: Path, progress: Progress) -> Iterator[None]:
    """Hand on the newest metrics that appear in ``folder`` while the block runs, where this process sees it."""
    ended = threading.Event()

    def watch() -> None:
        shown = newest_loss(folder)
        while not ended.wait(_SECONDS_BETWEEN_LINES):
            newest = newest_loss(folder)
            if newest is not None and newest != shown:
                shown = newest
                progress(newest)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class _Output:
    """A line now and then for people on standard error, or one JSON object for every event on standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._shown = float("-inf")

    def write(self, event: str, **values: Any) -> None:
        if self._as_json:
            write_event(event, **values)
        elif event == "progress":
            sys.stderr.write(f"step {values['step'] + 1:>7}  loss {values['loss']:.4f}\n")
        elif event == "error":
            sys.stderr.write(f"error: {values['message']}\n")
        else:
            sys.stderr.write(f"{values['steps']} steps, loss {values['loss']:.4f}; the model is in {values['model']}\n")

    def progress(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._as_json or now - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = now
            self.write("progress", **row)

    def failure(self, error: LightRAGError) -> None:
        self.write("error", kind=type(error).__name__, message=str(error), subject=error.subject)


# --- arguments --------------------------------------------------------------------------------------------------------


def _job(kind: type[TrainingJob], parsed: argparse.Namespace) -> TrainingJob:
    given = {name: value for name, value in vars(parsed).items() if name in kind.model_fields and value is not None}
    if not parsed.json:
        return kind.parse(given)
    if given:
        raise UsageError("give either a spec after --json, or options")
    return kind.parse(spec_text(parsed.json))


def _parser(kind: type[TrainingJob]) -> argparse.ArgumentParser:
    """One option per field of the job."""
    parser = argparse.ArgumentParser(prog=kind.program, description=kind.__doc__)
    for name, field in kind.model_fields.items():
        option, about = f"--{name.replace('_', '-')}", " ".join((field.description or "").replace("%", "%%").split())
        if field.annotation is bool:
            parser.add_argument(option, action="store_true", default=None, help=about)
        elif get_origin(field.annotation) is tuple:
            parser.add_argument(option, nargs="+", help=about)
        elif get_origin(field.annotation) is dict:
            parser.add_argument(option, type=json.loads, metavar="JSON", help=about)
        else:
            parser.add_argument(option, help=about)
    parser.add_argument("--local", action="store_true", help="run in this process, without Ray")
    parser.add_argument("--json", nargs="?", const="", metavar="SPEC", help="write JSON lines; a SPEC says all options")
    return parser


__all__ = ["main", "run_on_ray", "work"]
