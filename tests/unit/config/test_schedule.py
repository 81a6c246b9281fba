"""Which cron expressions a definition may have."""

from __future__ import annotations

import pytest

from atlas_etl.config.schedule import check_schedule


@pytest.mark.parametrize(
    "text", ["0 * * * *", "*/15 8-18 * * MON-FRI", "@daily", "  0  6 * * *  ", "0 0 29 2 *"]
)
def test_what_crontab_knows(text: str) -> None:
    assert check_schedule(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "0 0 31 2 *",
        "* * * * * *",
        "R 0 * * *",
        "H * * * *",
        "@reboot",
        "61 * * * *",
        "",
        "0 * * *",
        "@Hourly",
    ],
)
def test_what_it_does_not_or_what_never_comes(text: str) -> None:
    with pytest.raises(ValueError, match="five cron fields"):
        check_schedule(text)
