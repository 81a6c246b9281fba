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
        ("R 0 * * *", "'R', which crontab does not know"),
        ("H * * * *", "'H', which crontab does not know"),
        ("0 0 L * *", "'L', which crontab does not know"),
        ("0 0 * * 1#2", "'1#2', which crontab does not know"),
        ("5/15 * * * *", "'5/15', which crontab does not know"),
        ("@reboot", "no clock says when '@reboot' is"),
        ("@Hourly", "one of @hourly"),
        ("61 * * * *", "a value that it cannot have"),
        ("*/0 * * * *", "a value that it cannot have"),
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
