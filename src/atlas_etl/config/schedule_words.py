"""Schedules in plain words: "every day at 06:30" becomes a schedule's text, and such a text becomes words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from atlas_etl.config.schedule import Cron, check_schedule, parse_schedule
from atlas_etl.errors import nearest

EXAMPLES = "every hour, every 15 minutes, every day at 06:30, weekdays at 7, every monday at 08:00, monthly"

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_PLAIN: Mapping[str, str] = {
    "hourly": "@hourly", "hour": "@hourly",
    "daily": "@daily", "day": "@daily", "night": "@daily", "nightly": "@daily",
    "weekly": "@weekly", "week": "@weekly",
    "monthly": "@monthly", "month": "@monthly",
    "yearly": "@yearly", "year": "@yearly",
    "minute": "every 1m",
}  # fmt: skip
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_DAYS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("day", "days", "daily", "night", "nightly"), ()),
    **dict.fromkeys(("weekday", "weekdays", "workday", "workdays"), (1, 2, 3, 4, 5)),
    **dict.fromkeys(("weekend", "weekends"), (6, 0)),
    **{
        spelling: (number,)
        for number, name in enumerate(_WEEKDAYS)
        for spelling in (name, f"{name}s", name[:3])
    },
}
_INTERVAL = re.compile(r"([0-9]+) ?([a-z]+)")
_MINUTE_OF_HOUR = re.compile(r"(?:hour|hourly) at :?([0-9]{1,2})(?: past)?")
_TIME = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))? ?(am|pm)?")
_MONTHLY = re.compile(r"(?:monthly|month)(?: on)?(?: the)? ([0-9]{1,2})(?:st|nd|rd|th)?(?: at (.+))?")
_SPECIAL_TIMES: Mapping[str, tuple[int, int]] = {"noon": (12, 0), "midnight": (0, 0)}
_SUFFIXES: Mapping[int, str] = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


def schedule_of(words: str) -> str:
    """The text that a definition has for this, which may be such a text already. Raises ValueError."""
    said = " ".join(words.split())
    if not said:
        raise ValueError(f"says nothing; say e.g. {EXAMPLES}")
    if said[:1].isdigit() or said.startswith(("@", "*")):  # cron, or one of its names
        return check_schedule(said)
    said = said.lower().rstrip(".").replace(" o'clock", "")
    said = re.sub(r"^(?:once )?(?:(?:every|each|a|on) )+", "", said)
    return check_schedule(_understood(said))


def _understood(said: str) -> str:
    if said in _PLAIN:
        return _PLAIN[said]
    if (found := _INTERVAL.fullmatch(said)) and found[2] in _UNITS:
        return _interval(int(found[1]), _UNITS[found[2]])
    if found := _MINUTE_OF_HOUR.fullmatch(said):
        return f"{_at_most(int(found[1]), 59, 'minute')} * * * *"
    if found := _MONTHLY.fullmatch(said):
        day = _at_most(int(found[1]), 31, "day of a month")
        return f"{_times(found[2] or 'midnight')} {day} * *"
    days, at, times = said.partition("at ") if said.startswith("at ") else said.partition(" at ")
    if days in ("weekly", "week"):
        days = "sunday"
    numbers = _weekdays(days) if days else ()
    clock = _times(times) if at else "0 0"
    return f"{clock} * * {','.join(map(str, numbers)) if numbers else '*'}".replace("1,2,3,4,5", "1-5")


def _interval(number: int, unit: str) -> str:
    if number == 1:
        return {"m": "every 1m", "h": "@hourly", "d": "@daily", "w": "@weekly"}[unit]
    return f"every {number * 7}d" if unit == "w" else f"every {number}{unit}"


def _weekdays(text: str) -> list[int]:
    found: list[int] = []
    for word in re.split(r",? and |, ?| ", text):
        if word not in _DAYS:
            hint = nearest(word, {**_DAYS, **_PLAIN})
            raise ValueError(f"{word!r} is not understood{f'; {hint}' if hint else ''}; say e.g. {EXAMPLES}")
        found += _DAYS[word]
    return list(dict.fromkeys(found))


def _times(text: str) -> str:
    """`minute hour` of the clock times in a text."""
    read = [_time(each) for each in re.split(r",? and |, ?", text.removeprefix("at "))]
    if len({minute for _, minute in read}) > 1:
        raise ValueError("has several times, which must have the same minute, as 06:30 and 18:30 do")
    hours = ",".join(str(hour) for hour in sorted({hour for hour, _ in read}))
    return f"{read[0][1]} {hours}"


def _time(text: str) -> tuple[int, int]:
    if text in _SPECIAL_TIMES:
        return _SPECIAL_TIMES[text]
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time of day; write it as 06:30, 6:30 pm or noon")
    hour = int(found[1])
    if found[3]:
        if not 1 <= hour <= 12:
            raise ValueError(f"{text!r} is no time of day: {found[3]} goes with hours from 1 to 12")
        hour = hour % 12 + (12 if found[3] == "pm" else 0)
    return _at_most(hour, 23, "hour"), _at_most(int(found[2] or 0), 59, "minute")


def _at_most(number: int, most: int, what: str) -> int:
    if number > most:
        raise ValueError(f"{number} is no {what}: at most {most}")
    return number


def in_words(text: str) -> str:
    """What a schedule's text means, for people. Raises ValueError where it is none."""
    schedule = parse_schedule(text)
    if isinstance(schedule, Cron):
        return " ".join(part for part in (_days_in_words(schedule), _clock_in_words(schedule)) if part)
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if schedule.interval % length == timedelta():
            return _every(schedule.interval // length, unit)
    return _every(schedule.interval // timedelta(minutes=1), "minute")


def _every(number: int, unit: str) -> str:
    return f"every {unit}" if number == 1 else f"every {number} {unit}s"


def _clock_in_words(cron: Cron) -> str:
    """The times of day, or how often within the hours."""
    minutes, hours = cron.minutes, cron.hours
    if _is_clocked(cron):
        return f"at {_listed([f'{hour:02}:{minute:02}' for hour in hours for minute in minutes])}"
    if len(minutes) == 1:
        often = "every hour"
        if len(hours) < 24:
            often += _from_to([f"{hour:02}:{minutes[0]:02}" for hour in hours], hours)
        elif minutes != (0,):
            often += f" at :{minutes[0]:02}"
        return often
    of_hours = "" if len(hours) == 24 else f", hours{_from_to([f'{hour:02}' for hour in hours], hours)}"
    step = 60 // len(minutes)
    if minutes == tuple(range(0, 60, step)):
        return _every(step, "minute") + of_hours
    return f"every hour at {_listed([f':{minute:02}' for minute in minutes])}{of_hours}"


def _is_clocked(cron: Cron) -> bool:
    """Whether its times of a day are few enough to be told one by one."""
    return len(cron.minutes) * len(cron.hours) <= 6


def _from_to(texts: Sequence[str], numbers: Sequence[int]) -> str:
    whole = len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1
    return f" from {texts[0]} to {texts[-1]}" if whole else f" {_listed(texts)}"


def _days_in_words(cron: Cron) -> str:
    by_month = len(cron.days) < 31
    by_week = len(cron.weekdays) < 7
    parts = []
    if by_week:
        parts.append(_weekdays_in_words(cron.weekdays))
    if by_month:
        numbered = [f"{day}{_SUFFIXES.get(day, 'th')}" for day in sorted(cron.days)]
        parts.append(f"on the {_listed(numbered)}")
    between = " or " if cron.either_day else ", where that is "
    said = between.join(parts) or ("every day" if _is_clocked(cron) and len(cron.months) == 12 else "")
    if len(cron.months) < 12:
        named = _listed([_MONTHS[month - 1] for month in sorted(cron.months)])
        return f"{said} of {named}" if by_month else f"{said or 'every day'} in {named}"
    return f"{said} of every month" if by_month else said


def _weekdays_in_words(days: Iterable[int]) -> str:
    found = sorted(days, key=lambda day: (day - 1) % 7)
    if found == [1, 2, 3, 4, 5]:
        return "from Monday to Friday"
    return f"every {_listed([_WEEKDAYS[day].capitalize() for day in found])}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
