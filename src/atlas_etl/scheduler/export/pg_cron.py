"""pg_cron: a job for each connector, as SQL. Its clock is UTC unless the whole server is told otherwise.

pg_cron runs SQL, inside the server. `COPY ... TO PROGRAM` is the one statement that starts a process, on the
server's machine and as its account, so this is for a server that has Atlas and the project beside it; the
role needs pg_execute_server_program. A run that fails fails its job, which cron.job_run_details shows.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.scheduler.export.calendars import expression, in_utc, only_calendars
from atlas_etl.scheduler.export.entries import Export

FILE = "atlas-pg-cron.sql"
_HINT = "set `timezone: UTC`, or export to a scheduler that knows zones, such as systemd or kubernetes"


def export(of: Export) -> Mapping[str, str]:
    """One script, for `psql -f` in the database that pg_cron is in."""
    lines = [
        f"-- Atlas: the schedules of {of.installation.folder}; cron.timezone is GMT, its default",
        f"-- Install with: psql -d postgres -v ON_ERROR_STOP=1 -f {FILE}",
        "BEGIN;",
        "SET LOCAL standard_conforming_strings = on;",
    ]
    for entry in of.entries:
        lines += ["", f"-- {entry.name}: {entry.schedule} ({entry.timezone})"]
        program = of.shell_line(entry, "pg_cron")
        job = f"COPY (SELECT) TO PROGRAM {_literal(program)}"
        parts = [
            part
            for calendar in only_calendars(entry, "pg_cron")
            for part in in_utc(calendar, entry, of.now, _HINT)
        ]
        for number, part in enumerate(parts, 1):
            name = f"atlas-{entry.name}" if number == 1 else f"atlas-{entry.name}-{number}"
            fields = expression(part, entry, stars_need_both=True)
            lines.append(f"SELECT cron.schedule({_literal(name)}, {_literal(fields)}, {_literal(job)});")
    return {FILE: "\n".join([*lines, "", "COMMIT;"]) + "\n"}


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
