"""`atlas query`: ask the warehouse, or any database that a URI names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated, BinaryIO, cast

import typer

from atlas_etl.api.ends import end_of, reference_context
from atlas_etl.api.export import export_to, write_file, write_rows
from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import DESTINATIONS
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.copy import warn_of_secrets
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.quantities import counted
from atlas_etl.cli.session import Session
from atlas_etl.cli.streams import BinaryStdout
from atlas_etl.contracts import Destination
from atlas_etl.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help="One statement that reads.")],
    destination: Annotated[
        str | None,
        typer.Option(help="Another destination than the default, or a URI.", autocompletion=DESTINATIONS),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FORMAT",
            help="A file (orders.parquet, .csv.gz, .jsonl), or a format for standard output; - is csv.",
        ),
    ] = None,
) -> None:
    """Ask the warehouse with SQL.

    Example: atlas query "SELECT count(*) FROM shop.orders"

    Example: atlas query "SELECT * FROM orders" --destination duckdb:///shop.duckdb --to orders.parquet
    """
    session: Session = context.obj
    if to is not None:
        _export(session, sql, destination, to)
        return
    with _opened(session, destination) as opened:
        answer = opened.query(sql)
    rows = documents.rows(answer)
    if session.output.as_json:
        session.output.document({"columns": answer.column_names, "rows": rows})
        return
    render.data(answer.column_names, rows)


@contextmanager
def _opened(session: Session, destination: str | None) -> Iterator[Destination]:
    if destination is not None and ("://" in destination or "${" in destination):
        looking = reference_context(session.start, session.environ, lambda: session.project)
        end = end_of(destination, "--destination", looking)
        warn_of_secrets(session, **{"--destination": end})
        prepared = end.as_destination()
    else:
        prepared = open_atlas(session).destination(destination)
    with closing(prepared.open()) as opened:
        yield opened


def _export(session: Session, sql: str, destination: str | None, to: str) -> None:
    export = export_to(to)
    if export.path is None and session.output.as_json:
        raise UsageError("--json and rows cannot both go to standard output", hint="--to a file")
    if export.path is None and export.protocol == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is nothing for a terminal", hint="--to orders.parquet, or into a pipe")
    out = BinaryStdout()
    with interruptible() as look, _opened(session, destination) as opened, opened.answer(sql) as answer:

        def is_over() -> bool:
            look()
            return export.path is None and out.given_up

        if export.path is None:
            write_rows(answer, export, cast(BinaryIO, out), is_over)
            return
        rows = write_file(answer, export, export.path, is_over)
    if session.output.as_json:
        session.output.document({"file": str(export.path), "format": export.protocol, "rows": rows})
    else:
        session.output.event(f"{counted(rows, 'row')} into {to}", rows=rows)
