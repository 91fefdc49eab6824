"""The report of an ingest job: what it read, where its time went, what failed; as JSON, and as one page of HTML.

The page needs nothing but itself: no script, no font, no address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import jinja2

from lightrag.ingestion.charts import Chart, chart

SHOWN_ERRORS: Final = 1000
"""Failed documents on the page and in its JSON; the corpus's errors table has all of them."""
_WORKERS: Final = ("read", "embed", "gist", "encode")


class StageLine(NamedTuple):
    """One line of the table of stages."""

    stage: str
    wall_seconds: float | None
    """``None`` for stages that run side by side within ``process``."""
    cpu_seconds: float | None
    """All workers together; ``None`` where it is not counted."""
    bytes_per_second: float | None
    tokens_per_second: float | None
    cost: float | None
    """``None`` where no price is known."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """One attempt of a job."""

    job_id: str
    corpus: str
    state: str
    _: KW_ONLY
    attempt: int = 1
    error: str = ""
    began: str = ""
    ended: str = ""
    """ISO 8601."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """:class:`~lightrag.ingestion.summary.IngestSummary` as JSON; empty where the attempt did not end well."""
    samples: Sequence[Mapping[str, Any]] = ()
    """:class:`~lightrag.ingestion.summary.Progress` over time."""
    worker_hour_price: float = 0.0

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_plain` gave."""
        return cls(**{name: value for name, value in plain.items() if name not in ("stages", "errors_left_out")})

    def to_plain(self) -> dict[str, Any]:
        """As values of JSON, with the table of stages for readers."""
        plain = asdict(self)
        errors = list(self.summary.get("errors", ()))
        if errors:
            plain["summary"] = {**self.summary, "errors": errors[:SHOWN_ERRORS]}
        left_out = max(0, len(errors) - SHOWN_ERRORS)
        return {**plain, "stages": [line._asdict() for line in self.stages], "errors_left_out": left_out}

    def to_json(self) -> str:
        """As text."""
        return json.dumps(self.to_plain(), ensure_ascii=False, indent=1)

    @property
    def stages(self) -> list[StageLine]:
        """Where the time went: steps by the clock, then stages by processors."""
        wall: Mapping[str, float] = self.summary.get("seconds", {})
        spent: Mapping[str, float] = self.summary.get("stage_seconds", {})
        steps = [name for name in wall if name not in ("total", *_WORKERS)]
        lines = [StageLine(step, wall[step], None, None, None, None) for step in steps]
        size, tokens = self.summary.get("processed_bytes", 0), self.summary.get("processed_tokens", 0)
        for stage, seconds in spent.items():
            if seconds > 0:
                cost = seconds / 3600 * self.worker_hour_price if self.worker_hour_price else None
                lines.append(StageLine(stage, wall.get(stage), seconds, size / seconds, tokens / seconds, cost))
        return lines

    @property
    def charts(self) -> list[Chart]:
        """Throughput over time."""
        return [
            chart("documents per second", self._rates("done")),
            chart("tokens per second", self._rates("tokens")),
        ]

    def _rates(self, counter: str) -> list[tuple[float, float]]:
        samples = [sample for sample in self.samples if sample["stage"] == "process"]
        return [
            (after["seconds"], max(0.0, (after[counter] - before[counter]) / (after["seconds"] - before["seconds"])))
            for before, after in pairwise(samples)
            if after["seconds"] > before["seconds"]
        ]

    def to_html(self) -> str:
        """As one self-contained page."""
        errors = list(self.summary.get("errors", ()))
        return _template().render(
            report=self,
            summary=self.summary,
            errors=errors[:SHOWN_ERRORS],
            left_out=max(0, len(errors) - SHOWN_ERRORS),
            cost=sum(line.cost or 0.0 for line in self.stages) if self.worker_hour_price else None,
        )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "count": "{:,}".format,
        "seconds": _seconds,
        "size": _size,
        "whole": "{:,.0f}".format,
        "cost": _cost,
    }
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _cost(cost: float) -> str:
    return f"{cost:,.4f}" if cost >= 0.0001 else "< 0.0001"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


__all__ = ["SHOWN_ERRORS", "IngestReport", "StageLine"]
