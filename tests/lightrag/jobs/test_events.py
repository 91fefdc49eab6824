"""What a job's process says, folded."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.jobs.events import SAMPLES, EventLog


def line(event: str, **values: object) -> str:
    return json.dumps({"event": event, **values})


def progress(stage: str, done: int, seconds: float) -> str:
    return line("progress", stage=stage, done=done, total=10, tokens=done * 5, bytes=0, failed=0, seconds=seconds)


def test_steps_have_times_of_their_own() -> None:
    log = EventLog()
    assert log.read([progress("list", 0, 0.0), progress("process", 0, 2.0), progress("process", 5, 6.0)])
    assert [(stage.stage, stage.done, stage.seconds) for stage in log.progress] == [
        ("list", 0, 0.0),
        ("process", 5, 4.0),
    ]
    assert log.progress[1].seconds_left == 4.0


def test_chatter_and_half_lines_are_passed_over() -> None:
    log = EventLog()
    assert not log.read(["", "Loading weights: 100%", '{"event": "progr', '{"event": "unheard of"}', "[1]"])
    assert (log.progress, log.summary, log.error) == ((), None, "")


def test_the_end_is_a_summary_or_an_error() -> None:
    good, bad = EventLog(), EventLog()
    good.read([line("summary", corpus="a/b", new=3)])
    bad.read([line("error", kind="BackendError", message="no space")])
    assert (good.summary, good.error) == ({"corpus": "a/b", "new": 3}, "")
    assert (bad.summary, bad.error) == (None, "no space")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3000))
def test_the_course_is_thinned_out_evenly(count: int) -> None:
    log = EventLog()
    log.read(progress("process", number, float(number)) for number in range(1, count + 1))
    times = [sample["seconds"] for sample in log.samples]
    assert len(times) <= SAMPLES
    assert count == 0 or len(times) >= min(count, SAMPLES // 2)
    assert len({after - before for before, after in pairwise(times)}) <= 1
