"""When things were said: time stamps in, calendar dates out; days that a text names relative to its own date.

Knows nothing of messages. Never reads the machine's clock or time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from lightrag.conversation.types import comparable
from lightrag.errors import MessageError

_WRITTEN = re.compile(
    r"(?P<year>\d{4})[/.-](?P<month>\d{1,2})[/.-](?P<day>\d{1,2})\s*(?:[(（][^)）]*[)）])?"
    r"(?:[\sT]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?)?\Z"
)
_SPOKEN = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})\s*(?P<half>am|pm)\s+on\s+(?P<day>\d{1,2})\s+(?P<name>[A-Za-z]+),?\s+"
    r"(?P<year>\d{4})\Z",
    re.IGNORECASE,
)
_DOTTED = re.compile(
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?:,?\s+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?)?\Z"
)
MONTHS = {
    name: number
    for number, name in enumerate(
        (
            "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
            "november", "december",
        ),
        1,
    )
}  # fmt: skip
_MILLISECONDS_FROM = 1e11
"""Epoch numbers from here on are milliseconds: as seconds they would lie past the year 5100."""


def parse_time(value: object) -> datetime:
    """Read a time stamp.

    Accepted are ISO 8601 (``2025-01-10``, ``2024-01-15T10:30:00+02:00``), ``2023/05/20 (Sat) 02:21`` with the weekday
    in any language, ``1:56 pm on 8 May, 2023``, ``29.12.2023, 22:42:04``, epoch seconds or milliseconds (taken as UTC),
    and :class:`~datetime.datetime` and :class:`~datetime.date`.

    Raises:
        MessageError: the value is none of these, or lies outside the years 1 to 9999 in UTC.
    """
    parsed = _read(value)
    if parsed is None:
        raise MessageError(
            f"time stamp {value!r} is not understood: give ISO 8601, for example '2024-01-15T10:30:00'",
            subject=repr(value),
        )
    try:
        comparable(parsed)
    except OverflowError as error:
        raise MessageError(
            f"time stamp {value!r} lies outside the years 1 to 9999 in UTC", subject=repr(value)
        ) from error
    return parsed


def _read(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_epoch(float(value))
    return _from_text(value.strip()) if isinstance(value, str) and value.strip() else None


def _from_epoch(value: float) -> datetime:
    seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MessageError(f"time stamp {value!r} is no date: {error}", subject=repr(value)) from error


def _from_text(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for pattern in (_WRITTEN, _DOTTED, _SPOKEN):
        found = pattern.match(text)
        if found:
            return _build(found.groupdict(), text)
    return None


def _build(parts: dict[str, str | None], text: str) -> datetime | None:
    month = int(parts["month"] or 0) if "month" in parts else MONTHS.get((parts["name"] or "").lower(), 0)
    hour = int(parts.get("hour") or 0)
    if parts.get("half"):
        hour = hour % 12 + (12 if (parts["half"] or "").lower() == "pm" else 0)
    try:
        return datetime(
            int(parts["year"] or 0),
            month,
            int(parts["day"] or 0),
            hour,
            int(parts.get("minute") or 0),
            int(parts.get("second") or 0),
        )
    except ValueError as error:
        raise MessageError(f"time stamp {text!r} is no date: {error}", subject=text) from error


# --- Days named relative to the date of the text ----------------------------------------------------------------------

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT = {name[:3]: name for name in _WEEKDAYS} | {"tues": "tuesday", "thur": "thursday", "thurs": "thursday"}
_COUNTS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "couple of": 2, "a couple of": 2, "a few": 3, "few": 3,
}  # fmt: skip
_UNIT_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}
_DAY = re.compile(
    r"\b(?:(?P<fixed>day before yesterday|day after tomorrow|yesterday|last night|today|tonight|this morning|"
    r"this afternoon|this evening|tomorrow)"
    r"|(?P<dir>last|next|this past|past|this)\s+(?P<weekday>mon|tues?|wed|thu(?:rs?)?|fri|sat|sun)(?:[a-z]*day)?"
    r"|(?P<count>a couple of|couple of|a few|few|an?|one|two|three|four|five|six|seven|eight|nine|ten|\d{1,2})\s+"
    r"(?P<unit>day|week|month|year)s?\s+ago"
    r"|(?P<span_dir>last|next|this)\s+(?P<span>weekend|week|month|year|summer|winter|spring|fall|autumn))\b",
    re.IGNORECASE,
)
_FIXED = {
    "day before yesterday": -2, "yesterday": -1, "last night": -1, "today": 0, "tonight": 0, "this morning": 0,
    "this afternoon": 0, "this evening": 0, "tomorrow": 1, "day after tomorrow": 2,
}  # fmt: skip


def resolve_day(text: str, said: datetime) -> tuple[str, str] | None:
    """Find the first relative time in an English text.

    Returns:
        The words and the ISO date they mean, which is a whole day (``2023-05-07``), month (``2023-04``) or year
        (``2022``) as far as the words go; ``None`` where there is none, or the calendar ends before it.
    """
    found = _DAY.search(text)
    if found is None:
        return None
    try:
        return found.group(), _named(found, said.date())
    except (OverflowError, ValueError):
        return None


def _named(found: re.Match[str], day: date) -> str:
    parts = {name: (value or "").lower() for name, value in found.groupdict().items()}
    if parts["fixed"]:
        return (day + timedelta(days=_FIXED[parts["fixed"]])).isoformat()
    if parts["weekday"]:
        return _weekday(day, parts["dir"], parts["weekday"]).isoformat()
    if parts["unit"]:
        return _ago(day, parts["count"], parts["unit"])
    return _period(day, parts["span_dir"], parts["span"])


def _weekday(day: date, direction: str, name: str) -> date:
    wanted = _WEEKDAYS.index(_SHORT.get(name, _SHORT[name[:3]]))
    if direction in {"next", "this"}:
        return day + timedelta(days=(wanted - day.weekday() - 1) % 7 + 1)
    return day - timedelta(days=(day.weekday() - wanted - 1) % 7 + 1)


def _ago(day: date, count: str, unit: str) -> str:
    number = int(count) if count.isdecimal() else _COUNTS[count]
    if unit == "year":
        return _year(day.year - number)
    if unit == "month":
        return _month(day, -number)
    return (day - timedelta(days=number * _UNIT_DAYS[unit])).isoformat()


def _period(day: date, direction: str, span: str) -> str:
    step = {"last": -1, "this": 0, "next": 1}[direction]
    if span == "month":
        return _month(day, step)
    if span == "week":
        monday = day - timedelta(days=day.weekday())
        return (monday + timedelta(days=7 * step)).isoformat()
    if span == "weekend":
        saturday = day + timedelta(days=5 - day.weekday())
        return (saturday + timedelta(days=7 * step)).isoformat()
    return _year(day.year + step)


def _month(day: date, step: int) -> str:
    months = day.year * 12 + day.month - 1 + step
    return f"{_year(months // 12)}-{months % 12 + 1:02d}"


def _year(number: int) -> str:
    return f"{date(number, 1, 1).year:04d}"


__all__ = ["MONTHS", "parse_time", "resolve_day"]
