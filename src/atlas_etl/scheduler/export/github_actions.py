"""GitHub Actions: a workflow for each connector, for a self-hosted runner on the project's machine.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#onschedule: POSIX cron, a
`timezone`, and never more often than every five minutes.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.config.yaml_source import Value
from atlas_etl.config.yaml_text import dump
from atlas_etl.scheduler.export.calendars import Calendar, expression, only_calendars
from atlas_etl.scheduler.export.entries import Entry, Export, refused

_SHORTEST = 5


def export(of: Export) -> Mapping[str, str]:
    """`.github/workflows/atlas-NAME.yml` of each connector."""
    return {f".github/workflows/atlas-{entry.name}.yml": dump(_workflow(entry, of)) for entry in of.entries}


def _workflow(entry: Entry, of: Export) -> Value:
    found = only_calendars(entry, "GitHub Actions")
    if any(_is_too_often(calendar) for calendar in found):
        raise refused(
            entry,
            f"is more often than every {_SHORTEST} minutes, the most that GitHub Actions does",
            "choose a longer time, or leave this one to `atlas schedule`",
        )
    times: list[Value] = [
        {"cron": expression(calendar, entry, stars_need_both=False), "timezone": calendar.timezone}
        for calendar in found
    ]
    return {
        "name": f"Atlas: sync {entry.name}",
        "on": {"schedule": times, "workflow_dispatch": {}},
        "permissions": {},
        "concurrency": {"group": f"atlas-{entry.name}", "cancel-in-progress": False},
        "jobs": {
            "sync": {
                "runs-on": "self-hosted",
                "steps": [
                    {"name": f"Sync {entry.name}", "run": _escaped(of.shell_line(entry, "github-actions"))}
                ],
            }
        },
    }


def _is_too_often(calendar: Calendar) -> bool:
    times = [hour * 60 + minute for hour in calendar.cron.hours for minute in calendar.cron.minutes]
    following = [*times[1:], times[0] + 24 * 60]
    return any(later - earlier < _SHORTEST for earlier, later in zip(times, following, strict=True))


def _escaped(command: str) -> str:
    """`${{` begins an expression of GitHub's, and has no escape but an expression that is this text."""
    return command.replace("${{", "${{ '${{' }}")
