"""When connectors are due, pure: schedules, what was decided last and now in; slots out.

A slot is the nominal instant of a run, in UTC. In a zone with summer time a fixed local time has one slot
on every local date: in the gap of spring the first instant after it, in the doubled hour of autumn the
first of the two. Schedules by elapsed time (`*/15 * * * *`, `0 * * * *`) have one slot for every instant
whose local time matches, so that neither a gap nor a doubled hour changes what lies between them. Cron
itself tells the two apart by the same rule (cron(8), Debian: "jobs run at a fixed time").
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.config.schedule import CatchUp, Cron, Every, Schedule, parse_schedule

ON_TIME = timedelta(minutes=1)
"""A slot that is decided later than this was missed."""

MOST_AT_ONCE = 1000
"""How many missed slots of one connector are caught up at most, with `catch_up: all`; the newest ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))
_zone = lru_cache(maxsize=1024)(ZoneInfo)  # ZoneInfo's own cache is slower, and holds eight


class Timing(Struct, frozen=True):
    """When one connector runs: its schedule and zone, and what is done about slots that were missed.

    `jitter` is how far behind its slots a connector may start, so that not all start at once; the name
    decides how far, and the slots stay as they are.
    """

    connector: str
    expression: str
    timezone: str
    catch_up: CatchUp = CatchUp.ONCE
    window: timedelta = _DAY
    jitter: timedelta = timedelta()

    @property
    def schedule(self) -> Schedule:
        return parse_schedule(self.expression)

    @property
    def delay(self) -> timedelta:
        """This connector's share of the jitter: the same in every process and on every host."""
        if not self.jitter:
            return self.jitter
        share = int.from_bytes(sha256(self.connector.encode()).digest()[:8]) / 2**64
        return timedelta(seconds=int(self.jitter.total_seconds() * share))


class Pending(Struct, frozen=True):
    """A connector between two decisions: every slot before `upcoming` is decided."""

    timing: Timing
    upcoming: datetime | None  # None: the calendar ends first
    delay: timedelta

    @property
    def due_at(self) -> datetime | None:
        return None if self.upcoming is None else self.upcoming + self.delay


class Due(Struct, frozen=True):
    """What is decided about one connector: the slots to run, in order, and whether some are not.

    `missed` is the newest slot that was given up.
    """

    connector: str
    slots: tuple[datetime, ...]
    missed: datetime | None = None


def pending(timing: Timing, decided: datetime) -> Pending:
    """The connector, of which every slot up to this instant is decided."""
    return Pending(timing, next_slot(timing.schedule, timing.timezone, decided), timing.delay)


def decide(waiting: Iterable[Pending], now: datetime) -> tuple[list[Due], list[Pending]]:
    """What is due, the longest waiting first, and every connector as it waits from now on.

    Where the clock was set back, what lies between is decided again when its time comes: a slot is told
    by its instant, so whoever keeps the slots that ran sees it the second time.
    """
    due: list[Due] = []
    left: list[Pending] = []
    for each in waiting:
        if each.upcoming is None or each.upcoming + each.delay > now:
            left.append(each)
            continue
        decision, after = _decided(each, each.upcoming, now)
        due.append(decision)
        left.append(after)
    due.sort(key=lambda each: each.slots[0] if each.slots else now)
    return due, left


def _decided(each: Pending, slot: datetime, now: datetime) -> tuple[Due, Pending]:
    timing, until = each.timing, now - each.delay
    following = next_slot(timing.schedule, timing.timezone, slot)
    if until - slot <= ON_TIME and (following is None or following > until):
        return Due(timing.connector, (slot,)), replace(each, upcoming=following)
    since = max(slot, until - max(timing.window, ON_TIME))
    if timing.catch_up is CatchUp.ALL:
        run = tuple(slots_between(timing.schedule, timing.timezone, since, until))[-MOST_AT_ONCE:]
        newest = run[-1] if run else None
    else:
        newest = last_slot(timing.schedule, timing.timezone, since, until)
        run = () if newest is None else (newest,)
    if run and timing.catch_up is CatchUp.SKIP and until - run[0] > ON_TIME:
        run = ()
    missed = None if run else newest or slot
    upcoming = next_slot(timing.schedule, timing.timezone, until)
    return Due(timing.connector, run, missed), replace(each, upcoming=upcoming)


def slots_between(schedule: Schedule, timezone: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """The slots of an interval that includes both its ends, in order."""
    slot = next_slot(schedule, timezone, since - timedelta(microseconds=1))
    while slot is not None and slot <= until:
        yield slot
        slot = next_slot(schedule, timezone, slot)


def last_slot(schedule: Schedule, timezone: str, since: datetime, until: datetime) -> datetime | None:
    """The newest slot of such an interval, found without walking through all of it."""
    for length in (*_LOOK_BACK, until - since):
        newest = deque(slots_between(schedule, timezone, max(since, until - length), until), maxlen=1)
        if newest:
            return newest[0]
    return None


def upcoming_slots(schedule: Schedule, timezone: str, after: datetime, count: int) -> Iterator[datetime]:
    """The next slots after an instant."""

    def walk() -> Iterator[datetime]:
        slot = next_slot(schedule, timezone, after)
        while slot is not None:
            yield slot
            slot = next_slot(schedule, timezone, slot)

    return islice(walk(), count)


def next_slot(schedule: Schedule, timezone: str, after: datetime) -> datetime | None:
    """The first slot after this instant, in UTC; None where the calendar ends before it."""
    after = after.astimezone(UTC)
    try:
        if isinstance(schedule, Every):
            return after + schedule.interval - (after - _EPOCH) % schedule.interval
        zone = _zone(timezone)
        return (_elapsed if schedule.by_elapsed_time else _fixed)(schedule, zone, after)
    except OverflowError:
        return None


def _fixed(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime:
    wall = _wall(after, zone)
    while True:
        wall = _next_wall(cron, _next_minute(wall))
        slot = _instant(wall, zone)
        if slot is not None and slot > after:
            return slot


def _instant(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """When clocks show this; where they never do, when the gap ends; None if that swallows the date."""
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(first, zone) == wall:
        return first
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return None if first - before >= _DAY else _change(before, first, zone)


def _elapsed(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime:
    at = after + timedelta(microseconds=1)
    while True:
        wall = _wall(at, zone)
        begin = wall if wall == wall.replace(second=0, microsecond=0) else _next_minute(wall)
        match = _next_wall(cron, begin)
        reached = min(match, begin + _DAY)  # no zone changes twice within a day
        slot = at + (reached - wall)
        if _wall(slot, zone) != reached:
            at = _change(at, slot, zone)
        elif reached == match:
            return slot
        else:
            at = slot


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first whole second with the offset that holds at `high`, where another one holds at `low`."""
    offset = high.astimezone(zone).utcoffset()
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _next_minute(wall: datetime) -> datetime:
    return wall.replace(second=0, microsecond=0) + _MINUTE


def _next_wall(cron: Cron, wall: datetime) -> datetime:
    """The first local time from this one on, a whole minute, that the fields name. Raises OverflowError."""
    day = wall.date()
    if day.month in cron.months and cron.runs_on(day):
        found = _time_of_day(cron, wall.hour, wall.minute)
        if found is not None:
            return datetime(day.year, day.month, day.day, *found)
    day = _next_date(cron, day + _DAY)
    return datetime(day.year, day.month, day.day, cron.hours[0], cron.minutes[0])


def _time_of_day(cron: Cron, hour: int, minute: int) -> tuple[int, int] | None:
    at = bisect_left(cron.hours, hour)
    if at == len(cron.hours):
        return None
    if cron.hours[at] > hour:
        return cron.hours[at], cron.minutes[0]
    within = bisect_left(cron.minutes, minute)
    if within < len(cron.minutes):
        return hour, cron.minutes[within]
    return (cron.hours[at + 1], cron.minutes[0]) if at + 1 < len(cron.hours) else None


def _next_date(cron: Cron, day: date) -> date:
    while day.month not in cron.months or not cron.runs_on(day):
        if day.month not in cron.months:
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            day += _DAY
    return day
