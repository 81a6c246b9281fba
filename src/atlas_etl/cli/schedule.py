"""`atlas schedule`: the group; its commands live beside it."""

from __future__ import annotations

from atlas_etl.cli.lazy import Command, lazy_app

COMMANDS = {
    "export": Command(
        "schedule_export",
        "Write the schedules for cron, systemd, Kubernetes, pg_cron, GitHub Actions, Airflow or Celery.",
        "export",
    ),
}

app = lazy_app(COMMANDS, "Run connectors when they are due, here or by another scheduler.")


@app.callback()
def _group() -> None:
    """Typer would make a group of one command that command."""
