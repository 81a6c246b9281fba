"""Which schedules a definition may have."""

from __future__ import annotations

from datetime import timedelta

import pytest

from atlas_etl.config.schedule import Every, check_schedule, check_test_schedule, parse_schedule


@pytest.mark.parametrize(
    "text",
    [
        "0 * * * *",
        "*/15 8-18 * * MON-FRI",
        "0 6 1,15 jan-MAR 7",
        "@daily",
        "@yearly",
        "  0  6 * * *  ",
        "0 0 29 2 *",
        "0 0 30 2 MON",
        "every 15m",
        "every 2 h",
    ],
)
def test_what_is_taken(text: str) -> None:
    assert check_schedule(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("soon", "five cron fields .* has 1"),
        ("", "five cron fields"),
        ("* * * * * *", "five cron fields .* has 6"),
        ("0 * * *", "five cron fields .* has 4"),
        ("R 0 * * *", "'R' for the .*, which crontab does not know"),
        ("H * * * *", "'H' for the .*, which crontab does not know"),
        ("0 0 L * *", "'L' for the .*, which crontab does not know"),
        ("0 0 * * 1#2", "'1#2' for the .*, which crontab does not know"),
        ("5/15 * * * *", "'5/15' for the .*, which crontab does not know"),
        ("@reboot", "no clock says when '@reboot' is"),
        ("@Hourly", "one of @hourly"),
        ("5 6 x * *", "has 'x' for the day of month, which crontab does not know"),
        ("0 6 * * monday", "has 'monday' for the day of week, .* names of three letters"),
        ("61 * * * *", "has '61' for the minute, which is 0 to 59,"),
        ("*/0 * * * *", r"has '\*/0' for the minute, which is 0 to 59, with steps of 1 or more"),
        ("5,6,60,70 * * * *", "has '60' for the minute"),
        ("0 8-24 * * *", "has '8-24' for the hour, which is 0 to 23,"),
        ("0 24 * * 8", "has '24' for the hour"),
        ("0 0 0 * *", "has '0' for the day of month, which is 1 to 31,"),
        ("0 0 mon * *", "has 'mon' for the day of month"),
        ("0 0 1 may-foo *", "has 'may-foo' for the month, which is 1 to 12 or jan to dec,"),
        ("0 0 * * 8", "has '8' for the day of week, which is 0 to 7 or sun to sat,"),
        ("0 0 31 2 *", "no such month has a day 31"),
        ("0 0 31 4,6 *", "no such month has a day 31"),
        ("every", "as in `every 15m`"),
        ("every 0m", "as in `every 15m`"),
        ("every 15", "as in `every 15m`"),
        ("every 30s", "as in `every 15m`"),
    ],
)
def test_what_is_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_schedule(text)


def test_an_interval() -> None:
    assert parse_schedule("every 90m") == Every(timedelta(minutes=90))


def test_tests_may_never_be_due() -> None:
    assert check_test_schedule(" never ") == "never"
    assert check_test_schedule("every  5m") == "every 5m"
    for text in ("sometimes", "0 0 31 2 *"):
        with pytest.raises(ValueError, match=r"or `never`$"):
            check_test_schedule(text)
