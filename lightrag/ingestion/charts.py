"""A curve over time as the numbers of an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 640
HEIGHT: Final = 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 10, 22


class Tick(NamedTuple):
    """A labelled place on an axis, in pixels."""

    at: float
    label: str


class Chart(NamedTuple):
    """One curve, ready to be drawn in a box of ``WIDTH`` by ``HEIGHT``."""

    title: str
    line: str
    """``points`` of a polyline; empty where there is nothing to draw."""
    area: str
    """The same, closed at the bottom."""
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def chart(title: str, points: Sequence[tuple[float, float]]) -> Chart:
    """Draw values over seconds, both not negative."""
    highest = max((value for _, value in points), default=0.0)
    if len(points) < 2 or highest <= 0:
        return Chart(title, "", "", (), ())
    longest, top = points[-1][0], _round_up(highest)
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(seconds: float, value: float) -> tuple[float, float]:
        return _LEFT + across * seconds / longest, _TOP + down * (1 - value / top)

    drawn = [place(*point) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    floor = HEIGHT - _BOTTOM
    area = f"{drawn[0][0]:.1f},{floor} {line} {drawn[-1][0]:.1f},{floor}"
    return Chart(
        title,
        line,
        area,
        tuple(Tick(place(longest * part / 4, 0)[0], f"{_label(longest * part / 4)} s") for part in range(5)),
        tuple(Tick(place(0, top * part / 2)[1], _label(top * part / 2)) for part in range(3)),
    )


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def _round_up(value: float) -> float:
    """The next number that begins with 1, 2, 4 or 6."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 10) if step * power >= value)


__all__ = ["Chart", "Tick", "chart"]
