"""`atlas schedule`: the daemon itself, and the group whose commands live beside it."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli.lazy import Command, lazy_app

COMMANDS = {
    "next": Command(
        "schedule_look", "The coming slots, in UTC and in each connector's local time.", "coming"
    ),
    "list": Command("schedule_look", "What is scheduled: when, in which zone, under which rules.", "listed"),
    "status": Command(
        "schedule_status", "What runs, waits, is late or rests now; live on a terminal.", "status"
    ),
    "dead": Command("schedule_dead", "Runs that failed for good: list, retry or drop them."),
    "export": Command(
        "schedule_export",
        "Write the schedules for cron, systemd, Kubernetes, pg_cron, GitHub Actions, Airflow or Celery.",
        "export",
    ),
}
_DAEMON = Command("schedule_daemon", "", "serve")

app = lazy_app(COMMANDS, "Run connectors when they are due, here or by another scheduler.")


@app.callback(
    invoke_without_command=True,
    no_args_is_help=False,
    help="""Run connectors when they are due, here or by another scheduler.

Without a command this is the scheduler itself: it runs every enabled connector that has a `schedule`,
until SIGTERM or Ctrl-C; SIGHUP, or a file that changed, has it read the definitions again.

Example: atlas schedule --jobs 4""",
)
def daemon(
    context: typer.Context,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many runs go at once; default: as atlas.yaml says.")
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve /healthz, /readyz and /metrics here; 0: any free port."),
    ] = None,
    health_host: Annotated[
        str, typer.Option(help="The address that they are served on; whoever reaches it may read them.")
    ] = "127.0.0.1",
) -> None:
    if context.invoked_subcommand is None:
        _DAEMON.found()(context, jobs, health_host, health_port)
