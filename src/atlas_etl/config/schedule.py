"""Schedules as definitions may have them: five cron fields, one of crontab's names, or `every 15m`."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

_NAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY = re.compile(r"every ([1-9][0-9]{0,5}) ?(m|h|d)")
_UNITS: Mapping[str, timedelta] = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_NAME = "[A-Za-z]{3}"
_VALUE = rf"(?:[0-9]+|{_NAME})"
_FIELD = re.compile(rf"(?:\*|{_VALUE}-{_VALUE})(?:/[0-9]+)?|{_VALUE}")
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_LEAP_YEAR = 2024


class CatchUp(StrEnum):
    """What becomes of slots that passed while nothing was there to run them."""

    ONCE = "once"
    SKIP = "skip"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression: what each field lists, in order. Weekdays count from Sunday, 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # both day fields restrict, so either of them is enough: crontab(5)
    by_elapsed_time: bool  # minutes or hours are `*` or steps of it: what counts is the time between

    def runs_on(self, day: date) -> bool:
        on_weekday = day.isoweekday() % 7 in self.weekdays
        if self.either_day:
            return on_weekday or day.day in self.days
        return on_weekday and day.day in self.days


@dataclass(frozen=True, slots=True)
class Every:
    """An interval, counted from 1970-01-01 00:00 UTC: it knows no zone and no summer."""

    interval: timedelta


Schedule = Cron | Every


@lru_cache(maxsize=4096)
def parse_schedule(text: str) -> Schedule:
    """The schedule that a definition names. Raises ValueError where it names no date.

    Fields as in crontab(5): minute, hour, day of month, month, day of week. Extensions that crontab does
    not know (seconds, years, `L`, `#`, random `R` and hashed `H` fields) are refused.
    """
    expression = _one_spaced(text)
    every = _EVERY.fullmatch(expression)
    if every is not None:
        return Every(int(every[1]) * _UNITS[every[2]])
    if expression.startswith("every"):
        raise ValueError("should be `every` and a number of minutes, hours or days, as in `every 15m`")
    if expression.startswith("@") and expression not in _NAMES:
        known = ", ".join(_NAMES)
        raise ValueError(f"should be one of {known}: no clock says when {expression!r} is")
    fields = _NAMES.get(expression, expression).split(" ")
    if len(fields) != 5:
        raise ValueError(
            "should be five cron fields (minute hour day month weekday), as in `0 6 * * *`, "
            f"and has {len(fields)}"
        )
    return _cron(fields)


def check_schedule(text: str) -> str:
    """The schedule's text as it is kept, once it is known to name a date. Raises ValueError."""
    parse_schedule(text)
    return _one_spaced(text)


NEVER = "never"


def check_test_schedule(text: str) -> str:
    """Likewise for what may also be `never`. Raises ValueError."""
    if text.strip() == NEVER:
        return NEVER
    try:
        return check_schedule(text)
    except ValueError as wrong:
        raise ValueError(f"{wrong}; or `never`") from None


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _cron(fields: list[str]) -> Cron:
    from croniter import CroniterError, croniter  # takes longer to load than definitions without a schedule

    for name, field in zip(_FIELDS, fields, strict=True):
        wrong = next((part for part in field.split(",") if not _FIELD.fullmatch(part)), None)
        if wrong is not None:
            raise ValueError(
                f"has {wrong!r} for the {name}, which crontab does not know: a cron field is made of "
                "numbers, names of three letters, ranges `1-5`, steps `*/15` and commas"
            )
    try:
        listed = croniter.expand(" ".join(fields))[0]
    except (CroniterError, ValueError) as error:
        raise ValueError(_what_it_cannot_have(fields)) from error
    minutes, hours, days, months, weekdays = (
        tuple(sorted(range(low, high + 1) if "*" in found else (int(value) for value in found)))
        for found, (low, high) in zip(listed, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)), strict=True)
    )
    restricted = [not field.startswith("*") for field in fields]
    either_day = restricted[2] and restricted[4]
    if not either_day and min(days) > max(monthrange(_LEAP_YEAR, month)[1] for month in months):
        raise ValueError(f"names no date: no such month has a day {min(days)}")
    return Cron(
        minutes,
        hours,
        frozenset(days),
        frozenset(months),
        frozenset(weekdays),
        either_day=either_day,
        by_elapsed_time=not (restricted[0] and restricted[1]),
    )


def _what_it_cannot_have(fields: list[str]) -> str:
    """The first part of a field that croniter does not take, and what it takes there."""
    from croniter import CroniterError, croniter

    for place, (name, field) in enumerate(zip(_FIELDS, fields, strict=True)):
        for part in field.split(","):
            alone = ["*"] * len(fields)
            alone[place] = part
            try:
                croniter.expand(" ".join(alone))
            except (CroniterError, ValueError):
                return f"has {part!r} for the {name}, which is {_known(place)}, with steps of 1 or more"
    return "has a cron field with a value that it cannot have"


def _known(place: int) -> str:
    """What a field may have, as croniter has it."""
    from croniter import croniter

    low, high = croniter.RANGES[place]
    high = max([high, *croniter.LOWMAP[place]])  # 7 is Sunday, too
    names = [word for word in croniter.ALPHACONV[place] if re.fullmatch(_NAME, word)]
    return f"{low} to {high}" + (f" or {names[0]} to {names[-1]}" if names else "")
