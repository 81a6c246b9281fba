"""A schedule as the local minutes it names, or as a time between runs: targets write it their own way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from atlas_etl.config.schedule import Cron, parse_schedule
from atlas_etl.scheduler.export.entries import Entry, refused

_DAY = 24 * 60
_WEEKS_LOOKED_AHEAD = 5 * 52
_ANY_DAY = frozenset(range(1, 32))
_ANY_WEEKDAY = frozenset(range(7))


class Calendar(Struct, frozen=True):
    """Minutes of a zone's local time."""

    cron: Cron
    timezone: str

    @property
    def is_every_hour(self) -> bool:
        """Whether it says the same of every hour of every day."""
        return len(self.cron.hours) == 24 and self.is_every_date and not self.days and not self.weekdays

    @property
    def is_every_date(self) -> bool:
        """Whether it names no dates but by their weekdays."""
        return not self.days and len(self.cron.months) == 12

    @property
    def days(self) -> tuple[int, ...]:
        """The days of the month; none where any day will do."""
        return () if self.cron.days == _ANY_DAY else tuple(sorted(self.cron.days))

    @property
    def weekdays(self) -> tuple[int, ...]:
        """The weekdays, 0 (Sunday) to 6; none where any day will do."""
        return () if self.cron.weekdays == _ANY_WEEKDAY else tuple(sorted(self.cron.weekdays))

    @property
    def needs_both_days(self) -> bool:
        """Whether a date has to be among the days and among the weekdays, which few schedulers can say."""
        return bool(self.days and self.weekdays) and not self.cron.either_day


def calendars(schedule: str, timezone: str) -> tuple[Calendar, ...] | timedelta:
    """The calendars whose union the schedule is, or the time between runs that no calendar has."""
    parsed = parse_schedule(schedule)
    if isinstance(parsed, Cron):
        return (Calendar(parsed, timezone),)
    minutes = round(parsed.interval.total_seconds() / 60)
    if _DAY % minutes:
        return parsed.interval
    return tuple(Calendar(cron, "UTC") for cron in _grouped(range(0, _DAY, minutes)))


def only_calendars(entry: Entry, target: str) -> tuple[Calendar, ...]:
    """The calendars of a target that knows nothing else. Raises ConfigError (`schedule_not_exportable`)."""
    found = calendars(entry.schedule, entry.timezone)
    if isinstance(found, timedelta):
        raise refused(
            entry,
            f"cannot be said in {target}, whose schedules begin anew each day: it does not divide one",
            "choose a time that does, such as `every 2h`, or leave this one to `atlas schedule`",
        )
    return found


def _grouped(minutes_of_day: Iterable[int], like: Cron | None = None) -> list[Cron]:
    """The fewest expressions for these times of day: hours that have the same minutes share one."""
    of_hour: dict[int, list[int]] = {}
    for minute in minutes_of_day:
        of_hour.setdefault(minute // 60, []).append(minute % 60)
    hours_of: dict[tuple[int, ...], list[int]] = {}
    for hour, minutes in sorted(of_hour.items()):
        hours_of.setdefault(tuple(sorted(minutes)), []).append(hour)
    every_day = Cron((), (), _ANY_DAY, frozenset(range(1, 13)), _ANY_WEEKDAY, False, False)
    return [
        replace(like or every_day, minutes=minutes, hours=tuple(hours)) for minutes, hours in hours_of.items()
    ]


def expression(calendar: Calendar, entry: Entry, *, stars_need_both: bool) -> str:
    """Five cron fields that every implementation reads alike.

    Where both day fields restrict, either is enough, and neither may begin with `*`. Vixie's cron and its
    heirs (`stars_need_both`) take `*/2` there as one more condition; others cannot say that: ConfigError.
    """
    cron, days, weekdays = calendar.cron, calendar.days, calendar.weekdays
    day_field = ",".join(spans(days)) or "*"
    weekday_field = ",".join(spans(weekdays)) or "*"
    if calendar.needs_both_days:
        day_step, weekday_step = _steps(days, 1, 31), _steps(weekdays, 0, 6)
        if not stars_need_both or not (day_step or weekday_step):
            raise refused(
                entry,
                "names dates by day of the month and weekday together, which this target cannot say",
                "say it by one of them, or leave this one to `atlas schedule`",
            )
        day_field, weekday_field = (day_step or day_field), (weekday_field if day_step else str(weekday_step))
    return " ".join(
        (
            field(cron.minutes, 0, 59),
            field(cron.hours, 0, 23),
            day_field,
            field(sorted(cron.months), 1, 12),
            weekday_field,
        )
    )


def field(values: Sequence[int], lowest: int, highest: int) -> str:
    """Sorted values as a cron field: `*`, `*/15`, `1-5` or a list."""
    if len(values) == highest - lowest + 1:
        return "*"
    return _steps(values, lowest, highest) or ",".join(spans(values))


def _steps(values: Sequence[int], lowest: int, highest: int) -> str | None:
    step = values[1] - values[0] if len(values) > 1 else 0
    is_regular = step > 1 and tuple(values) == tuple(range(lowest, highest + 1, step))
    return f"*/{step}" if is_regular else None


def spans(values: Sequence[int], between: str = "-", digits: int = 1) -> list[str]:
    """Sorted values, three and more neighbours as their first and last."""
    found: list[list[int]] = []
    for value in values:
        if found and value == found[-1][-1] + 1:
            found[-1].append(value)
        else:
            found.append([value])
    return [
        part
        for run in found
        for part in (
            [f"{run[0]:0{digits}}{between}{run[-1]:0{digits}}"]
            if len(run) > 2
            else [f"{value:0{digits}}" for value in run]
        )
    ]


def shows_alike(calendar: Calendar, timezone: str | None, now: datetime) -> bool:
    """Whether another zone's clock shows the calendar's times at the same instants, in the coming years."""
    if timezone is None or timezone == calendar.timezone:
        return timezone is not None
    within = 60 if calendar.is_every_hour else _DAY
    pairs = zip(_offsets(calendar.timezone, now), _offsets(timezone, now), strict=True)
    return all((one - other) % within == 0 for one, other in pairs)


def _offsets(timezone: str, now: datetime) -> list[int]:
    """The minutes by which a zone is ahead of UTC, week by week."""
    zone = ZoneInfo(timezone)
    weeks = (now + timedelta(weeks=week) for week in range(_WEEKS_LOOKED_AHEAD))
    found = ((week.astimezone(zone).utcoffset() or timedelta()) for week in weeks)
    return [round(offset.total_seconds() / 60) for offset in found]


def in_utc(calendar: Calendar, entry: Entry, now: datetime, hint: str) -> tuple[Calendar, ...]:
    """The same instants as calendars of UTC.

    Raises ConfigError where cron has no words for them there: in a zone whose offset changes, unless the
    schedule says the same of every hour, and where days of the month begin on another date in UTC.
    """
    offsets = set(_offsets(calendar.timezone, now))
    if calendar.is_every_hour and len({offset % 60 for offset in offsets}) == 1:
        offsets = {offsets.pop() % 60}
    if len(offsets) > 1:
        raise refused(entry, "would be at the wrong time for a part of the year, for here is only UTC", hint)
    ahead = offsets.pop()
    times: dict[int, list[int]] = {}
    for hour in calendar.cron.hours:
        for minute in calendar.cron.minutes:
            day, minute_of_day = divmod(hour * 60 + minute - ahead, _DAY)
            times.setdefault(day, []).append(minute_of_day)
    if not calendar.is_every_date and set(times) != {0}:
        raise refused(entry, "begins on another date in UTC, and here is only UTC", hint)
    if calendar.is_every_hour:
        times = {0: [minute for of_day in times.values() for minute in of_day]}
    return tuple(
        Calendar(replace(cron, weekdays=_moved(cron.weekdays, day)), "UTC")
        for day, minutes in sorted(times.items())
        for cron in _grouped(minutes, like=calendar.cron)
    )


def _moved(weekdays: Iterable[int], days: int) -> frozenset[int]:
    return frozenset((weekday + days) % 7 for weekday in weekdays)
