"""`atlas schedule export`: the same schedules, for another scheduler."""

from __future__ import annotations

import os
import pwd
import sys
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.cli.completion import Names
from atlas_etl.cli.session import Session
from atlas_etl.config.atomic import ORDINARY, write_atomically
from atlas_etl.errors import ConfigError, UsageError
from atlas_etl.scheduler.export.entries import Export, Installation
from atlas_etl.scheduler.export.scheduled import scheduled
from atlas_etl.scheduler.export.targets import TARGETS

TargetName = StrEnum("TargetName", {name: name for name in TARGETS})  # type: ignore[misc]  # Typer lists it
_LOCALTIME = Path("/etc/localtime")


def export(
    context: typer.Context,
    to: Annotated[TargetName, typer.Option("--to", help="The scheduler.")],
    names: Names = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files here; without it, to stdout.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Kubernetes: the image that has Atlas.")] = None,
) -> None:
    """Write the schedules for cron, systemd, Kubernetes, pg_cron, GitHub Actions, Airflow or Celery.

    A schedule that the other scheduler cannot keep, its time zone included, is refused.

    Example: atlas schedule export --to systemd --output units

    Example: atlas schedule export --to crontab > atlas.crontab
    """
    session: Session = context.obj
    target = TARGETS[to.value]
    if not target.is_one_file and output is None and not session.output.as_json:
        raise UsageError(f"{to.value} takes several files", hint="give the folder for them with --output DIR")
    folder = session.project
    found = scheduled(folder, session.environ, names or ())
    for name, reason in found.left_out.items():
        session.output.event(f"{name} is left out: {reason}", connector=name)
    if not found.entries:
        raise ConfigError(
            "there is nothing to export: no enabled connector has a schedule",
            hint='`atlas connector update NAME --set schedule="0 6 * * *"` gives it one',
            code="nothing_scheduled",
        )
    files = target.export(Export(found.entries, names or (), _installation(folder, image), datetime.now(UTC)))
    if output is not None:
        for name, text in files.items():
            write_atomically(output / name, text, ORDINARY)
    if session.output.as_json:
        written = [
            {"name": name, "path": output and str(output.absolute() / name), "text": text}
            for name, text in files.items()
        ]
        left_out = [{"connector": name, "reason": reason} for name, reason in found.left_out.items()]
        session.output.document({"target": to.value, "files": written, "left_out": left_out})
    elif output is not None:
        for name in files:
            session.output.line(str(output / name))
    else:
        sys.stdout.write("".join(files.values()))


def _installation(folder: Path, image: str | None) -> Installation:
    owner = folder.stat()
    return Installation(
        command=_command(),
        folder=folder,
        account=pwd.getpwuid(os.geteuid()).pw_name,
        user_id=owner.st_uid,
        group_id=owner.st_gid,
        timezone=_machine_timezone(),
        image=image or f"atlas-etl:{version('atlas-etl')}",
    )


def _command() -> tuple[str, ...]:
    """`atlas` by its absolute path: the script beside this Python, else this Python with the package."""
    python = Path(os.path.abspath(sys.executable))
    script = python.with_name("atlas")
    return (str(script),) if os.access(script, os.X_OK) else (str(python), "-m", "atlas_etl")


def _machine_timezone() -> str | None:
    """The zone that cron takes, which no TZ of this process changes; without a file it is UTC (tzset(3))."""
    if not _LOCALTIME.exists():
        return "UTC"
    name = str(_LOCALTIME.resolve()).rpartition("/zoneinfo/")[2]
    return name if name and not name.startswith("/") else None
