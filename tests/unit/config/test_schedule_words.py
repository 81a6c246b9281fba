"""Schedules in words, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.config.schedule import parse_schedule
from atlas_etl.config.schedule_words import in_words, schedule_of


@pytest.mark.parametrize(
    ("said", "written", "told"),
    [
        ("every hour", "@hourly", "every hour"),
        ("Hourly", "@hourly", "every hour"),
        ("every 15 minutes", "every 15m", "every 15 minutes"),
        ("every minute", "every 1m", "every minute"),
        ("every 2 hours", "every 2h", "every 2 hours"),
        ("every 2 weeks", "every 14d", "every 14 days"),
        ("once a day", "@daily", "every day at 00:00"),
        ("every day at 06:30", "30 6 * * *", "every day at 06:30"),
        ("every day at 06:30 and 18:30", "30 6,18 * * *", "every day at 06:30 and 18:30"),
        ("at 6:30 pm", "30 18 * * *", "every day at 18:30"),
        ("daily at 12 am", "0 0 * * *", "every day at 00:00"),
        ("at noon", "0 12 * * *", "every day at 12:00"),
        ("weekdays at 7", "0 7 * * 1-5", "from Monday to Friday at 07:00"),
        ("on weekends at 9", "0 9 * * 6,0", "every Saturday and Sunday at 09:00"),
        ("every monday and thursday at 8", "0 8 * * 1,4", "every Monday and Thursday at 08:00"),
        ("Fridays at 17:05", "5 17 * * 5", "every Friday at 17:05"),
        ("weekly", "@weekly", "every Sunday at 00:00"),
        ("every month on the 15th at 05:00", "0 5 15 * *", "on the 15th of every month at 05:00"),
        ("monthly", "@monthly", "on the 1st of every month at 00:00"),
        ("every hour at :15", "15 * * * *", "every hour at :15"),
        ("*/15  * * * *", "*/15 * * * *", "every 15 minutes"),
        ("0 9-17 * * 1-5", "0 9-17 * * 1-5", "from Monday to Friday every hour from 09:00 to 17:00"),
        ("*/5 9-17 * * *", "*/5 9-17 * * *", "every 5 minutes, hours from 09 to 17"),
        ("5,20 * * * *", "5,20 * * * *", "every hour at :05 and :20"),
        ("0 0 13 * 5", "0 0 13 * 5", "every Friday or on the 13th of every month at 00:00"),
        ("0 6 1 1 *", "0 6 1 1 *", "on the 1st of January at 06:00"),
    ],
)  # fmt: skip
def test_what_is_said_and_what_is_told_mean_the_same(said: str, written: str, told: str) -> None:
    assert schedule_of(said) == written
    assert in_words(written) == told


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "says nothing"),
        ("every dya at 3", "did you mean 'day'"),
        ("now and then", "is not understood; say e.g. every hour"),
        ("at 25:00", "25 is no hour"),
        ("at 6:75", "75 is no minute"),
        ("at 13 pm", "hours from 1 to 12"),
        ("at tea", "no time of day"),
        ("every day at 6 and 7:30", "same minute"),
        ("every month on the 32nd", "no day of a month"),
        ("every 0 minutes", "every 15m"),
        ("61 * * * *", "'61' for the minute"),
    ],
)
def test_what_is_not_understood_is_told(said: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        schedule_of(said)


def _fields(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.lists(st.integers(low, high), min_size=1, max_size=4, unique=True)
    return st.one_of(st.just("*"), st.just("*/7"), numbers.map(lambda found: ",".join(map(str, found))))


@given(st.tuples(_fields(0, 59), _fields(0, 23), _fields(1, 28), _fields(1, 12), _fields(0, 6)))
def test_every_schedule_has_words(fields: tuple[str, ...]) -> None:
    assert in_words(" ".join(fields))


@given(st.integers(0, 23), st.integers(0, 59), st.sets(st.integers(0, 6), min_size=1, max_size=6))
def test_words_for_a_time_of_the_week_are_understood_again(hour: int, minute: int, days: set[int]) -> None:
    written = f"{minute} {hour} * * {','.join(map(str, sorted(days)))}"
    told = in_words(written).replace("from Monday to Friday", "weekdays")
    assert parse_schedule(schedule_of(told)) == parse_schedule(written)
