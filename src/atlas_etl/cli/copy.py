"""`atlas copy`: tables from one URI to another, again and again, only what is new."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, NoReturn

import typer

from atlas_etl.api.copy import Wanted, copy_job, run_once
from atlas_etl.api.ends import End, end_of, reference_context
from atlas_etl.cli import documents, render
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.session import Session
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.model import Disposition, Run
from atlas_etl.pipeline.run import exit_code

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def copy(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A URI or a file; ${env:NAME} keeps secrets out of it.")],
    destination: Annotated[str, typer.Argument(help="A URI, or a folder that ends in /.")],
    table: Annotated[
        list[str] | None, typer.Option(help="What is read; may be repeated, and hold * and ?.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="A query to read; needs --into.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="The column that grows; without one everything is read and replaced.")
    ] = None,
    primary_key: Annotated[
        list[str] | None,
        typer.Option("--key", "--primary-key", help="A key column; may be repeated. Default: the catalog's."),
    ] = None,
    disposition: Annotated[Disposition | None, typer.Option(help="How rows meet what is there.")] = None,
    schema: Annotated[
        str | None,
        typer.Option(help="Where the tables are made; default: the system's own (public, main)."),
    ] = None,
    into: Annotated[str | None, typer.Option(help="Another name for the one table that is made.")] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Read everything and replace what is there.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="How many tables go side by side.")] = 1,
    name: Annotated[
        str | None,
        typer.Option(help="What the destination remembers the source as; default: made of its address."),
    ] = None,
) -> None:
    """Copy tables from one URI to another: one line, no file, no project.

    The checkpoint is at the destination, committed with the rows: the same command again brings only what is
    new, also after it was killed.

    Example: atlas copy '${env:PG_URL}' duckdb:///shop.duckdb --table orders --cursor updated_at

    Example: atlas copy mysql://etl@db/shop parquet:///lake --table 'order*' --table customers
    """
    session: Session = context.obj
    looking = reference_context(session.start, session.environ, lambda: session.project)
    ends = end_of(source, "SOURCE", looking), end_of(destination, "DESTINATION", looking)
    warn_of_secrets(session, SOURCE=ends[0], DESTINATION=ends[1])
    wanted = Wanted(table or (), query, cursor, primary_key or (), disposition, schema, into, name)
    job = copy_job(*ends, wanted, full_refresh=full_refresh)
    report = SyncReport(session.output)
    events = run_once((job,), side_by_side=jobs)
    with interruptible() as look, closing(events), report:
        for event in events:
            look()
            report.tell(event)
    conclude(session, report)


def conclude(session: Session, report: SyncReport) -> NoReturn:
    """Show what came of the runs, and end with their exit code."""
    if session.output.as_json:
        runs = [documents.run_document(run) for run in report.runs]
        session.output.document({"status": report.status, "runs": runs})
    else:
        _summary(report.runs)
    raise typer.Exit(exit_code(report.runs))


def warn_of_secrets(session: Session, **ends: End) -> None:
    """Say which arguments have a password in them."""
    for called, end in ends.items():
        if end.shows_secret:
            session.output.event(
                f"warning: a command line is no secret: others saw the password of {called}; "
                "write ${env:NAME} in its place"
            )


def _summary(runs: list[Run]) -> None:
    """What came of each table, on standard output."""
    rows = [
        (
            stream.name,
            stream.table,
            stream.rows_loaded,
            stream.disposition,
            stream.checkpoint.high.text if stream.checkpoint else "",
        )
        for run in runs
        for stream in run.streams
        if stream.table is not None
    ]
    if rows:
        render.table(("read", "into", "rows", "how", "up to"), rows)
