"""Calendars: the fields written for other schedulers name the instants that the schedule names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.config.schedule import Cron, parse_schedule
from atlas_etl.errors import ConfigError
from atlas_etl.scheduler.due import upcoming_slots
from atlas_etl.scheduler.export.calendars import calendars, expression, in_utc, only_calendars
from atlas_etl.scheduler.export.entries import Entry
from atlas_etl.scheduler.export.kubernetes import object_name

NOW = datetime(2026, 6, 1, 12, 34, tzinfo=UTC)
FIXED_ZONES = ["UTC", "Asia/Kolkata", "Asia/Tokyo", "America/Bogota", "Asia/Kathmandu", "Etc/GMT+12"]


def values(lowest: int, highest: int) -> st.SearchStrategy[str]:
    some = st.lists(st.integers(lowest, highest), min_size=1, max_size=4, unique=True)
    return some.map(lambda numbers: ",".join(map(str, numbers)))


MINUTES = st.one_of(st.just("*"), st.sampled_from(["*/7", "*/15", "3-40"]), values(0, 59))
HOURS = st.one_of(st.just("*"), st.sampled_from(["*/5", "8-18", "22-2"]), values(0, 23))
DAYS = st.one_of(st.just("*"), st.sampled_from(["*/2", "10-20"]), values(1, 28))
MONTHS = st.one_of(st.just("*"), st.sampled_from(["*/3", "feb-apr"]), values(1, 12))
WEEKDAYS = st.one_of(st.just("*"), st.sampled_from(["*/2", "mon-fri", "5-7"]), values(0, 7))
SCHEDULES = st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS).map(" ".join)
DATELESS = st.tuples(MINUTES, HOURS, WEEKDAYS).map(lambda fields: f"{fields[0]} {fields[1]} * * {fields[2]}")


@given(SCHEDULES)
def test_the_fields_of_vixies_cron_are_read_back_as_the_same_schedule(schedule: str) -> None:
    (calendar,) = calendars(schedule, "UTC")  # type: ignore[misc]
    again = parse_schedule(expression(calendar, Entry("shop", schedule, "UTC"), stars_need_both=True))
    assert isinstance(again, Cron)
    read = (again.minutes, again.hours, again.days, again.months, again.weekdays)
    cron = calendar.cron
    assert read == (cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays)
    # Where only one field of days restricts, how they combine makes no difference.
    assert again.either_day == cron.either_day or not (calendar.days and calendar.weekdays)


@settings(deadline=None)
@given(SCHEDULES)
def test_other_implementations_name_the_same_minutes_or_are_refused(schedule: str) -> None:
    entry = Entry("shop", schedule, "UTC")
    (calendar,) = calendars(schedule, "UTC")  # type: ignore[misc]
    try:
        fields = expression(calendar, entry, stars_need_both=False)
    except ConfigError:
        assert calendar.needs_both_days
        return
    theirs = croniter(fields, NOW)
    ours = upcoming_slots(parse_schedule(schedule), "UTC", NOW, 20)
    assert [theirs.get_next(datetime) for _ in range(20)] == list(ours)


@settings(deadline=None)
@given(DATELESS, st.sampled_from(FIXED_ZONES))
def test_a_zone_without_summer_time_is_told_in_utc(schedule: str, zone: str) -> None:
    entry = Entry("shop", schedule, zone)
    parts = [part for each in only_calendars(entry, "x") for part in in_utc(each, entry, NOW, "hint")]
    found: set[datetime] = set()
    for part in parts:
        slots = croniter(expression(part, entry, stars_need_both=False), NOW)
        found |= {slots.get_next(datetime) for _ in range(30)}
    assert sorted(found)[:30] == list(upcoming_slots(parse_schedule(schedule), zone, NOW, 30))


def test_summer_time_matters_only_to_schedules_that_name_hours() -> None:
    hourly = Entry("shop", "5,35 * * * *", "Europe/Berlin")
    (part,) = in_utc(only_calendars(hourly, "x")[0], hourly, NOW, "hint")
    assert expression(part, hourly, stars_need_both=False) == "5,35 * * * *"
    half_an_hour_off = Entry("shop", "5 * * * *", "Australia/Adelaide")
    (part,) = in_utc(only_calendars(half_an_hour_off, "x")[0], half_an_hour_off, NOW, "hint")
    assert expression(part, half_an_hour_off, stars_need_both=False) == "35 * * * *"
    # Its summer is half an hour: the minutes differ, too.
    lord_howe = Entry("shop", "5 * * * *", "Australia/Lord_Howe")
    with pytest.raises(ConfigError, match="wrong time for a part of the year"):
        in_utc(only_calendars(lord_howe, "x")[0], lord_howe, NOW, "hint")
    daily = Entry("shop", "0 6 * * *", "Europe/Berlin")
    with pytest.raises(ConfigError, match="wrong time for a part of the year") as refused:
        in_utc(only_calendars(daily, "x")[0], daily, NOW, "hint")
    assert (refused.value.connector, refused.value.code) == ("shop", "schedule_not_exportable")


def test_a_date_that_begins_on_another_date_in_utc_is_refused() -> None:
    monthly = Entry("shop", "0 2 1 * *", "Asia/Tokyo")
    with pytest.raises(ConfigError, match="another date in UTC"):
        in_utc(only_calendars(monthly, "x")[0], monthly, NOW, "hint")


@pytest.mark.parametrize("interval", ["1m", "15m", "90m", "2h", "7h", "1d", "45m", "48m"])
def test_an_interval_that_divides_a_day_is_one_or_a_few_calendars(interval: str) -> None:
    schedule = f"every {interval}"
    entry = Entry("shop", schedule, "Europe/Berlin")
    if interval == "7h":
        with pytest.raises(ConfigError, match="does not divide"):
            only_calendars(entry, "x")
        assert calendars(schedule, "UTC") == timedelta(hours=7)
        return
    found: set[datetime] = set()
    for each in only_calendars(entry, "x"):
        assert each.timezone == "UTC"
        slots = croniter(expression(each, entry, stars_need_both=False), NOW)
        found |= set(islice(slots.all_next(datetime), 30))
    assert sorted(found)[:30] == list(upcoming_slots(parse_schedule(schedule), "UTC", NOW, 30))


def test_names_of_objects_are_those_that_kubernetes_takes() -> None:
    assert object_name("Shop_EU") == "atlas-shop-eu"
    long = object_name("a" * 63)
    assert len(long) == 52
    assert long != object_name("a" * 62 + "b")
