"""`atlas quickstart`: a real source, a first sync, a day's changes, an incremental sync, a question."""

from __future__ import annotations

import shlex
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.audit import record_project_file
from atlas_etl.cli import documents, render
from atlas_etl.cli.init import make_project
from atlas_etl.cli.session import Session
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.config.definitions import add_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.yaml_source import Value
from atlas_etl.errors import UsageError
from atlas_etl.model import Run
from atlas_etl.pipeline.run import exit_code
from atlas_etl.quickstart.dataset import CURSOR, TABLES, apply_changes, create_database, example_query
from atlas_etl.state.holder import this_actor

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_NAME = "flights"
_DATABASE = "flights.db"


@app.command()
def quickstart(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder for it; atlas-quickstart without it.")
    ] = None,
) -> None:
    """See rows move, in seconds: a first sync, a change, an incremental sync, a query.

    Example: atlas quickstart
    """
    session: Session = context.obj
    folder = folder or _free_folder(session.start)
    project = session.start / folder
    if definition_names(project) or (project / _DATABASE).exists():
        raise UsageError(
            f"there is a project in {project} already",
            hint="name a new folder: atlas quickstart DIR",
            code="quickstart_exists",
        )
    make_project(project)
    record_project_file(project, session.environ, this_actor(session.environ, context.command_path))
    output = session.output
    output.event("1. A source: New York's flights of early 2013, real and public, in a SQLite file")
    made = create_database(project / _DATABASE)
    output.event(f"   {_DATABASE}: {made.rows:,} rows in {len(made.tables)} tables")
    add_definition(project, _NAME, _definition(), session.environ)
    output.event(f"   connectors.d/{_NAME}.yaml says what to read: {', '.join(TABLES)}")
    atlas = Atlas.open(project, session.environ)
    output.event("2. The first sync brings everything into a DuckDB file")
    first = _sync(session, atlas)
    changed = apply_changes(project / _DATABASE)
    output.event(
        f"3. A day passes at the source: {changed.inserted:,} new rows, {changed.updated:,} changed ones"
    )
    output.event("4. The second sync is incremental: it moves only those")
    second = _sync(session, atlas)
    output.event(
        "5. A question to the warehouse: where did the blizzard of 8 February 2013 keep people from?"
    )
    answer = atlas.query(example_query(_NAME))
    if output.as_json:
        runs = [documents.run_document(run) for run in (first, second)]
        output.document(
            {
                "project": str(project),
                "runs": runs,
                "columns": answer.column_names,
                "rows": documents.rows(answer),
            }
        )
        return
    render.data(answer.column_names, documents.rows(answer))
    output.line("")
    output.line("What to try next:")
    output.line(
        f"  cd {shlex.quote(str(folder))} && atlas connector discover {_NAME}     what else it could read"
    )
    output.line("  atlas connector history                       what was done")
    output.line("  atlas connector add                           your own data, question by question")


def _free_folder(start: Path) -> Path:
    """The first of atlas-quickstart, atlas-quickstart-2, ... that is not there yet."""
    names = (f"atlas-quickstart{f'-{number}' if number > 1 else ''}" for number in count(1))
    return next(Path(name) for name in names if not (start / name).exists())


def _definition() -> dict[str, Value]:
    return {
        "protocol": "sqlite",
        "description": "Flights from New York's airports; see SOURCE.md of atlas_etl.quickstart",
        "connection": {"database_path": _DATABASE},
        "streams": [{"table": table, "cursor": CURSOR} for table in TABLES],
        "schedule": "@hourly",
    }


def _sync(session: Session, atlas: Atlas) -> Run:
    report = SyncReport(session.output)
    with closing(atlas.sync([_NAME], triggered_by="quickstart")) as events, report:
        for event in events:
            report.tell(event)
    code = exit_code(report.runs)
    if code:
        raise typer.Exit(code)
    return report.runs[0]
