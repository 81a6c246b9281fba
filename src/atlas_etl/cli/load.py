"""`atlas load`: files or standard input into a table."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from atlas_etl.api.ends import end_of, reference_context
from atlas_etl.api.inputs import STDIN, FileFormat, input_of
from atlas_etl.api.load import Landing, load_jobs
from atlas_etl.api.load import load as run_load
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.copy import conclude, warn_of_secrets
from atlas_etl.cli.session import Session
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.config.scalars import plain_scalar
from atlas_etl.errors import UsageError
from atlas_etl.model import Disposition
from atlas_etl.temporary import Purpose, TemporaryFolder

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def load(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    destination: Annotated[str, typer.Argument(help="A URI; ${env:NAME} keeps secrets out of it.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Files; without one, or as -, standard input.")
    ] = None,
    table: Annotated[str, typer.Option(help="The table, or schema.table.")] = "",
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="Default: by the file's ending, or its content.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "--primary-key", help="A column to merge by; may be repeated."),
    ] = None,
    disposition: Annotated[
        Disposition | None, typer.Option(help="Default: merge with a --key, else append.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the format: delimiter=;")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also append what was loaded before, once more.")
    ] = False,
) -> None:
    """Load CSV, JSON lines, JSON or Parquet into a table, which is made where it is missing.

    Each file is one commit. A file that was appended before adds nothing: its bytes tell it, not its name.

    Example: cat orders.csv | atlas load '${env:PG_URL}' --table orders

    Example: atlas load duckdb:///shop.duckdb --table raw.orders --key id orders-*.jsonl.gz
    """
    session: Session = context.obj
    if not table:
        raise UsageError("--table is missing", hint="atlas load DESTINATION --table orders orders.csv")
    given = files or [STDIN]
    if STDIN in given and sys.stdin.isatty():
        raise UsageError("nothing is piped into standard input", hint="or name files after DESTINATION")
    if given.count(STDIN) > 1:
        raise UsageError("standard input can be read once")
    looking = reference_context(session.start, session.environ, lambda: session.project)
    target = end_of(destination, "DESTINATION", looking)
    warn_of_secrets(session, DESTINATION=target)
    landing = Landing(table, key or (), disposition, again, _settings(settings or []))
    report = SyncReport(session.output)
    with interruptible() as look, TemporaryFolder(Purpose.LOAD) as scratch:
        inputs = [input_of(each, form, sys.stdin.buffer, scratch.path) for each in given]
        with closing(run_load(inputs, load_jobs(inputs, target, landing, looking))) as events, report:
            for event in events:
                look()
                report.tell(event)
    conclude(session, report)


def _settings(given: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for setting in given:
        name, separator, text = setting.partition("=")
        if not separator or not name:
            raise UsageError(f"--set takes KEY=VALUE, not {name!r}", hint="e.g. --set delimiter=';'")
        *above, last = name.split(".")
        inner = found
        for part in above:
            below = inner.setdefault(part, {})
            if not isinstance(below, dict):
                raise UsageError(f"{part!r} is set both as a value and as a mapping")
            inner = below
        inner[last] = plain_scalar(text)
    return found
