"""What is exported: connectors with their schedules, and the installation that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from atlas_etl.errors import ConfigError


class Entry(Struct, frozen=True):
    """One connector that is to run: its schedule as the definition has it, in an IANA zone."""

    name: str
    schedule: str
    timezone: str


class Installation(Struct, frozen=True):
    """Where runs happen: the command that is `atlas`, the project's folder, both absolute, and the account.

    `timezone` is the machine's own zone, as cron takes it; None where it is not known.
    """

    command: tuple[str, ...]
    folder: Path
    account: str
    user_id: int
    group_id: int
    timezone: str | None
    image: str

    def __post_init__(self) -> None:
        for part in (*self.command, str(self.folder)):
            if not part.isprintable():
                raise ConfigError(
                    f"{part!r} has a character that no schedule's file can hold",
                    hint="move it to a folder without line breaks and control characters",
                    code="export_path",
                )

    def sync(self, name: str, cause: str) -> tuple[str, ...]:
        """The command line of one run; `cause` is what the history shows of it."""
        return (*self.command, *self.arguments(name, cause))

    def arguments(self, name: str, cause: str) -> tuple[str, ...]:
        """What stands behind the command."""
        return ("-C", str(self.folder), "connector", "sync", name, "--triggered-by", cause, "-q")


class Export(Struct, frozen=True):
    """What a target's room works from; `now` tells which rules of a zone still hold.

    `chosen` are the connectors that were asked for by name; none: all, also those that are yet to be defined.
    """

    entries: Sequence[Entry]
    chosen: Sequence[str]
    installation: Installation
    now: datetime

    def shell_line(self, entry: Entry, cause: str) -> str:
        """The run as one line for a POSIX shell."""
        return shlex.join(self.installation.sync(entry.name, cause))


def refused(entry: Entry, reason: str, hint: str) -> ConfigError:
    """A schedule that a target cannot keep; nothing is exported rather than something else."""
    message = f"{entry.schedule!r} in {entry.timezone} {reason}"
    return ConfigError(message, hint=hint, code="schedule_not_exportable", connector=entry.name)
