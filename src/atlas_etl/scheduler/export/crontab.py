"""crontab(5): a line for each connector, for `crontab FILE`.

Cron takes the machine's zone; only some implementations know CRON_TZ, and Debian's takes it for a mere
variable. A schedule of another zone therefore looks at that zone's clock every quarter of an hour (no
zone's offset is finer) and runs where it shows the schedule's time, whatever cron and machine it is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from atlas_etl.errors import ConfigError
from atlas_etl.scheduler.export.calendars import Calendar, expression, field, only_calendars, shows_alike
from atlas_etl.scheduler.export.entries import Entry, Export

FILE = "atlas.crontab"
_LONGEST_COMMAND = 998  # Debian's cron: MAX_COMMAND


def export(of: Export) -> Mapping[str, str]:
    """The table."""
    lines = [
        f"# Atlas: the schedules of {of.installation.folder}",
        f"# Install with: crontab {FILE}   (this replaces the account's table, which `crontab -l` shows)",
    ]
    for entry in of.entries:
        lines += ["", f"# {entry.name}: {entry.schedule} ({entry.timezone})"]
        lines += [_line(calendar, entry, of) for calendar in only_calendars(entry, "a crontab")]
    return {FILE: "\n".join(lines) + "\n"}


def _line(calendar: Calendar, entry: Entry, of: Export) -> str:
    command = of.shell_line(entry, "crontab")
    minutes = set(calendar.cron.minutes)
    is_every_quarter = calendar.is_every_hour and minutes == {(minute + 15) % 60 for minute in minutes}
    if is_every_quarter or shows_alike(calendar, of.installation.timezone, of.now):
        fields = expression(calendar, entry, stars_need_both=True)
    else:
        command = _when(calendar, command)
        quarters = sorted({(minute + later) % 60 for minute in minutes for later in (0, 15, 30, 45)})
        fields = f"{field(quarters, 0, 59)} * * * *"
    escaped = command.replace("%", r"\%")  # a bare one ends the command: crontab(5)
    if len(escaped) > _LONGEST_COMMAND:
        raise ConfigError(
            f"its command has {len(escaped)} characters, and cron takes {_LONGEST_COMMAND}",
            hint="set `timezone` to the machine's own, or move the project to a folder with a shorter path",
            code="schedule_not_exportable",
            connector=entry.name,
        )
    return f"{fields} {escaped}"


def _when(calendar: Calendar, command: str) -> str:
    """The command, for the shell to run at the calendar's times only."""
    cron, days, weekdays = calendar.cron, calendar.days, calendar.weekdays
    conditions = [("$1", _listed(cron.minutes, 2))]
    if len(cron.hours) < 24:
        conditions.append(("$2", _listed(cron.hours, 2)))
    if len(cron.months) < 12:
        conditions.append(("$4", _listed(sorted(cron.months), 2)))
    if days and weekdays and cron.either_day:
        either = [*(f"{day:02}/*" for day in days), *(f"*/{weekday}" for weekday in weekdays)]
        conditions.append(("$3/$5", "|".join(either)))
    else:
        conditions += [("$3", _listed(days, 2))] if days else []
        conditions += [("$5", _listed(weekdays, 1))] if weekdays else []
    for word, patterns in reversed(conditions):
        command = f"case {word} in {patterns}) {command};; esac"
    return f"set -- $(TZ={calendar.timezone} date +'%M %H %d %m %w'); {command}"


def _listed(values: Iterable[int], digits: int) -> str:
    return "|".join(f"{value:0{digits}}" for value in values)
