"""The report of a job: numbers that agree with the summary, and a page that needs nothing but itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.ingestion.charts import HEIGHT, WIDTH, chart
from lightrag.ingestion.report import SHOWN_ERRORS, IngestReport
from lightrag.ingestion.summary import FailedDocument, IngestSummary

SUMMARY = IngestSummary(
    "acme/mills",
    3,
    committed=True,
    source="file:///docs",
    new=1200,
    failed=1,
    documents=1300,
    processed_chunks=5000,
    processed_tokens=900_000,
    processed_bytes=4_000_000,
    errors=[FailedDocument("<script>alert(1)</script>.pdf", "read", "damaged", "it ends & is cut off")],
    seconds={"list": 1.0, "process": 100.0, "publish": 5.0, "total": 107.0},
    stage_seconds={"read": 20.0, "embed": 180.0, "gist": 0.0},
    notes=["a note"],
)
SAMPLES = [
    {"stage": "process", "seconds": float(second), "done": second * 12, "total": 1200, "tokens": second * 9000}
    for second in range(0, 101, 5)
]


def report(summary: IngestSummary = SUMMARY, **more: object) -> IngestReport:
    return IngestReport("j1", "acme/mills", "succeeded", summary=json.loads(summary.to_json()), samples=SAMPLES, **more)


class Page(HTMLParser):
    """Tags, their addresses, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_stages_name_time_rates_and_costs() -> None:
    lines = {line.stage: line for line in report(worker_hour_price=0.36).stages}
    assert list(lines) == ["list", "process", "publish", "read", "embed"]
    assert lines["process"].wall_seconds == 100.0
    assert lines["embed"].tokens_per_second == pytest.approx(5000)
    assert lines["embed"].cost == pytest.approx(0.018)
    assert report().stages[-1].cost is None


def test_a_report_comes_back_from_json() -> None:
    made = report(worker_hour_price=0.5)
    assert IngestReport.from_plain(json.loads(made.to_json())).to_plain() == json.loads(made.to_json())


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = Page(report().to_html())
    assert page.addresses == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert "<script>alert(1)</script>.pdf" in page.text
    assert "url(" not in report().to_html()


def test_the_page_shows_what_was_done() -> None:
    text = Page(report(worker_hour_price=0.36).to_html()).text
    for shown in ("acme/mills", "1,200", "900,000", "4.0 MB", "107.0 s", "it ends & is cut off", "a note", "0.02"):
        assert shown in text, shown


def test_no_number_on_the_page_has_an_exponent() -> None:
    for price in (0.0, 1e-9, 0.36, 1e9):
        assert not re.search(r"\de[+-]\d", report(worker_hour_price=price).to_html())


def test_a_failed_job_has_a_page_too() -> None:
    page = Page(IngestReport("j1", "acme/mills", "failed", error="no <space> left").to_html())
    assert "no <space> left" in page.text
    assert "too short to be drawn" in page.text


def test_very_many_errors_are_counted_and_not_all_shown() -> None:
    errors = [FailedDocument(f"{number}.pdf", "read", "damaged", "broken") for number in range(SHOWN_ERRORS + 7)]
    plain = json.loads(
        report(IngestSummary("a/b", 1, committed=True, source="s", errors=errors, seconds={"total": 1.0})).to_json()
    )
    assert len(plain["summary"]["errors"]) == SHOWN_ERRORS
    assert plain["errors_left_out"] == 7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 1e9)), max_size=30))
def test_curves_stay_in_their_box(steps: list[tuple[float, float]]) -> None:
    seconds, points = 0.0, []
    for step, value in steps:
        seconds += step
        points.append((seconds, value))
    drawn = chart("rate", points)
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", drawn.area):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
    assert bool(drawn.line) == (len(points) > 1 and max(value for _, value in points) > 0)
