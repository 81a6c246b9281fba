"""Slots against a model that looks at every minute, and what is decided about those that passed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.config.schedule import CatchUp, parse_schedule
from atlas_etl.scheduler.due import (
    Due,
    Pending,
    Timing,
    decide,
    last_slot,
    next_slot,
    pending,
    slots_between,
    upcoming_slots,
)

ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Nuuk", "Asia/Kolkata"]
MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def local(zone: str, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[arg-type,misc]


def slots(text: str, zone: str, since: datetime, until: datetime) -> list[datetime]:
    return list(slots_between(parse_schedule(text), zone, since, until - TICK))


def year(text: str, zone: str) -> list[datetime]:
    return slots(text, zone, local(zone, 2026, 1, 1), local(zone, 2027, 1, 1))


def minutes(since: datetime, until: datetime) -> Iterator[datetime]:
    while since < until:
        yield since
        since += MINUTE


def model(minute: str, hour: str, day: str, zone: str, since: datetime, until: datetime) -> list[datetime]:
    """By looking at every minute, and at two hours before, with croniter on local times without a zone."""
    seen = minutes(since - timedelta(hours=2), until)
    walls = [(at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in seen]
    named = set()
    each = croniter(f"{minute} {hour} {day}", walls[0][1] - MINUTE)
    while (wall := each.get_next(datetime)) <= max(wall for _, wall in walls):
        named.add(wall)
    if "*" in f"{minute} {hour}":
        return [at for at, wall in walls if wall in named and at >= since]
    found = (next((at for at, shown in walls if shown >= wall), None) for wall in sorted(named))
    return sorted({at for at in found if at is not None and at >= since})


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", range(24))
def test_a_local_time_has_one_slot_on_each_of_365_dates(zone: str, hour: int) -> None:
    found = year(f"30 {hour} * * *", zone)
    assert len(found) == 365
    assert all(earlier < later for earlier, later in pairwise(found))
    shown = [slot.astimezone(ZoneInfo(zone)) for slot in found]
    assert sum((at.hour, at.minute) != (hour, 30) for at in shown) <= 1


@pytest.mark.parametrize("zone", ZONES)
def test_quarters_of_an_hour_follow_elapsed_time(zone: str) -> None:
    found = year("*/15 * * * *", zone)
    assert len(found) == 365 * 96
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


def test_summer_time_in_new_york() -> None:
    new_york = "America/New_York"
    assert len(year("30 1 * * *", new_york)) == 365
    gap = slots("30 2 * * *", new_york, local(new_york, 2026, 3, 8), local(new_york, 2026, 3, 9))
    assert gap == [local(new_york, 2026, 3, 8, 3)]
    doubled = slots("30 1 * * *", new_york, local(new_york, 2026, 11, 1), local(new_york, 2026, 11, 2))
    assert doubled == [datetime(2026, 11, 1, 5, 30, tzinfo=UTC)]
    between = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    assert next_slot(parse_schedule("30 1 * * *"), new_york, between) == local(new_york, 2026, 11, 2, 1, 30)
    hours = slots("0 * * * *", new_york, local(new_york, 2026, 11, 1), local(new_york, 2026, 11, 2))
    assert len(hours) == 25
    steps = slots("*/30 1 * * *", new_york, local(new_york, 2026, 11, 1), local(new_york, 2026, 11, 2))
    assert len(steps) == 4


def test_a_gap_over_midnight_is_that_dates_slot_and_a_date_that_never_was_has_none() -> None:
    nuuk = "America/Nuuk"
    assert next_slot(parse_schedule("30 23 * * *"), nuuk, local(nuuk, 2026, 3, 28, 12)) == local(
        nuuk, 2026, 3, 29
    )
    apia = "Pacific/Apia"
    found = slots("0 1 * * *", apia, local(apia, 2011, 12, 28), local(apia, 2012, 1, 2))
    dates = [slot.astimezone(ZoneInfo(apia)).date() for slot in found]
    assert dates == [date(2011, 12, 28), date(2011, 12, 29), date(2011, 12, 31), date(2012, 1, 1)]


numbers = st.integers(0, 59).map(str)
hours = st.integers(0, 23).map(str)
steps = st.sampled_from(["*", "*/2", "*/7", "*/15", "*/20"])
changes = st.sampled_from(
    [
        ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
        ("America/Nuuk", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(numbers, min_size=1, max_size=3).map(",".join) | steps,
    st.lists(hours, min_size=1, max_size=4).map(",".join) | steps | st.just("0-5"),
    st.sampled_from(["* * *", "8 * *", "* 3,10,11 *", "* * SUN", "29 * 6", "*/2 * *"]),
    changes,
    st.integers(-600, 120),
)
def test_slots_are_those_of_the_model(
    minute: str, hour: str, day: str, change: tuple[str, datetime], before: int
) -> None:
    zone, at = change
    since = at + before * MINUTE
    until = since + timedelta(hours=16)
    found = slots(f"{minute} {hour} {day}", zone, since, until)
    assert found == model(minute, hour, day, zone, since, until)


@given(
    st.sampled_from(["30 1 * * *", "*/20 3 * * 1", "0 0 29 2 *", "every 7h"]),
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_the_last_slot_is_the_one_that_the_next_follows(text: str, until: datetime) -> None:
    schedule, zone = parse_schedule(text), "Europe/Berlin"
    last = last_slot(schedule, zone, until - timedelta(days=9 * 366), until)
    assert last is not None
    assert last <= until
    following = next_slot(schedule, zone, last)
    assert following is not None
    assert following > until


def test_intervals_are_counted_from_1970() -> None:
    schedule = parse_schedule("every 15m")
    assert next_slot(schedule, "Asia/Kolkata", NOON) == NOON + timedelta(minutes=15)
    assert next_slot(schedule, "UTC", NOON - TICK) == NOON
    assert next_slot(parse_schedule("every 2d"), "UTC", NOON) == datetime(2026, 6, 2, tzinfo=UTC)


def test_the_calendars_end() -> None:
    end = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert next_slot(parse_schedule("@daily"), "UTC", end) is None
    assert next_slot(parse_schedule("every 1d"), "UTC", end) is None
    assert list(upcoming_slots(parse_schedule("@daily"), "UTC", end - timedelta(days=1), 5)) == [
        datetime(9999, 12, 31, tzinfo=UTC)
    ]


def waiting(catch_up: CatchUp, text: str = "0 * * * *", **more: timedelta) -> list[Pending]:
    return [pending(Timing("shop", text, "UTC", catch_up, **more), NOON)]


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_slot_in_time_runs(catch_up: CatchUp) -> None:
    first = NOON + timedelta(hours=1)
    due, left = decide(waiting(catch_up), first - TICK)
    assert due == []
    due, left = decide(left, first)
    assert due == [Due("shop", (first,))]
    assert decide(left, first + timedelta(minutes=59))[0] == []
    assert decide(left, first + timedelta(hours=1))[0] == [Due("shop", (first + timedelta(hours=1),))]


def test_three_hours_down() -> None:
    now = NOON + timedelta(hours=3, minutes=20)
    missed = [NOON + timedelta(hours=hour) for hour in (1, 2, 3)]
    assert decide(waiting(CatchUp.ONCE), now)[0] == [Due("shop", (missed[-1],))]
    assert decide(waiting(CatchUp.ALL), now)[0] == [Due("shop", tuple(missed))]
    assert decide(waiting(CatchUp.SKIP), now)[0] == [Due("shop", (), missed=missed[-1])]
    for catch_up in CatchUp:
        assert decide(decide(waiting(catch_up), now)[1], now)[0] == []


def test_skipping_what_was_missed_leaves_the_slot_of_this_minute() -> None:
    now = NOON + timedelta(hours=3)
    assert decide(waiting(CatchUp.SKIP), now)[0] == [Due("shop", (now,))]


def test_what_was_missed_before_the_window_is_given_up() -> None:
    now = NOON + timedelta(hours=30, minutes=20)
    due, _ = decide(waiting(CatchUp.ALL, window=timedelta(hours=2)), now)
    assert due[0].slots == (NOON + timedelta(hours=29), NOON + timedelta(hours=30))
    daily = waiting(CatchUp.ONCE, "0 13 * * *", window=timedelta(hours=2))
    assert decide(daily, now)[0] == [Due("shop", (), missed=NOON + timedelta(hours=1))]


def test_jitter_is_stable_and_leaves_the_slot_as_it_is() -> None:
    jitter = timedelta(minutes=10)
    names = [f"connector{number}" for number in range(50)]
    delays = [Timing(name, "0 * * * *", "UTC", jitter=jitter).delay for name in names]
    assert delays == [Timing(name, "5 * * * *", "UTC", jitter=jitter).delay for name in names]
    assert len(set(delays)) > 25
    assert all(timedelta() <= delay < jitter for delay in delays)
    slot = NOON + timedelta(hours=1)
    wait = waiting(CatchUp.ONCE, jitter=jitter)
    assert wait[0].due_at == slot + wait[0].delay
    assert decide(wait, slot + wait[0].delay)[0] == [Due("shop", (slot,))]


def test_the_longest_waiting_are_first() -> None:
    texts = {"late": "10 12 * * *", "early": "5 12 * * *", "middle": "7 12 * * *"}
    each = [pending(Timing(name, text, "UTC"), NOON) for name, text in texts.items()]
    due, _ = decide(each, NOON + timedelta(minutes=10))
    assert [found.connector for found in due] == ["early", "middle", "late"]
