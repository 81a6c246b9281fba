"""systemd: a service and a timer for each connector, for /etc/systemd/system; OnCalendar= knows zones.

systemd.time(7), systemd.timer(5), systemd.syntax(7). A weekday and a date in one OnCalendar= have both to be
true, so a schedule where either is enough has two: a timer elapses once where both fall on one instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from atlas_etl.scheduler.export.calendars import Calendar, calendars, spans
from atlas_etl.scheduler.export.entries import Entry, Export

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_LOCKED = 6


def export(of: Export) -> Mapping[str, str]:
    """`atlas-NAME.service` and `atlas-NAME.timer` of each connector."""
    files: dict[str, str] = {}
    for entry in of.entries:
        files[f"atlas-{entry.name}.service"] = _service(entry, of)
        files[f"atlas-{entry.name}.timer"] = _timer(entry)
    return files


def _service(entry: Entry, of: Export) -> str:
    command = " ".join(_argument(word) for word in of.installation.sync(entry.name, "systemd"))
    return f"""\
[Unit]
Description={_text(f"Atlas: sync {entry.name}")}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={of.installation.account}
WorkingDirectory={_text(str(of.installation.folder))}
ExecStart={command}
# Another run of this connector is in progress, and brings the same rows.
SuccessExitStatus={_LOCKED}
"""


def _timer(entry: Entry) -> str:
    found = calendars(entry.schedule, entry.timezone)
    if isinstance(found, timedelta):
        times = [f"OnActiveSec=0\nOnUnitActiveSec={round(found.total_seconds())}"]
    else:
        times = [f"OnCalendar={line}" for calendar in found for line in on_calendar(calendar)]
        times.append("# What was missed while the machine was off is made up for, once.\nPersistent=true")
    return f"""\
[Unit]
Description={_text(f"Atlas: {entry.name}, {entry.schedule} ({entry.timezone})")}

[Timer]
{chr(10).join(times)}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def on_calendar(calendar: Calendar) -> list[str]:
    """The calendar as OnCalendar= expressions, of which each adds its times."""
    cron = calendar.cron
    time = f"{_field(cron.hours, 0, 23)}:{_field(cron.minutes, 0, 59)}:00 {calendar.timezone}"
    months = _field(sorted(cron.months), 1, 12)
    date = f"*-{months}-{_field(calendar.days or range(1, 32), 1, 31)}"
    of_week = ",".join(_WEEKDAYS[day] for day in calendar.weekdays)
    if of_week and calendar.days and cron.either_day:
        return [f"{date} {time}", f"{of_week} *-{months}-* {time}"]
    return [f"{of_week} {date} {time}".lstrip()]


def _field(values: Iterable[int], lowest: int, highest: int) -> str:
    listed = tuple(values)
    return "*" if len(listed) == highest - lowest + 1 else ",".join(spans(listed, "..", 2))


def _text(value: str) -> str:
    return value.replace("%", "%%")


def _argument(word: str) -> str:
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return f'"{quoted}"' if quoted != word or any(mark in word for mark in " ';\t") else word
