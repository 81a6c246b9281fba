"""`atlas init`: a project's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.api.audit import record_project_file
from atlas_etl.cli.session import Session
from atlas_etl.config.project_folder import DEFINITIONS, PROJECT_FILE
from atlas_etl.errors import UsageError
from atlas_etl.state.holder import this_actor

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_PROJECT = """\
# What the connectors of this project share. Every key may also come from the environment:
# ATLAS_TIMEZONE, ATLAS_DESTINATIONS__WAREHOUSE__PATH, ...
destinations:
  warehouse:
    protocol: duckdb
    path: warehouse.duckdb
timezone: UTC
"""
_IGNORED = """\
# Atlas: state, secrets and local warehouses
.atlas/
*.duckdb
*.duckdb.wal
"""


@app.command()
def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="The project's folder; here without it.")] = None,
) -> None:
    """Make a project: atlas.yaml, connectors.d/ and a .gitignore.

    Example: atlas init warehouse
    """
    session: Session = context.obj
    project = session.start / (folder or session.explicit_project or Path())
    made = make_project(project)
    if PROJECT_FILE in made:
        record_project_file(project, session.environ, this_actor(session.environ, context.command_path))
    if session.output.as_json:
        session.output.document({"project": str(project), "made": made})
        return
    for name in made:
        session.output.line(f"wrote {name}")
    session.output.line("next: atlas connector add")


def make_project(folder: Path) -> list[str]:
    """Write what is missing, and give back its names; what is there stays. Raises UsageError."""
    made: list[str] = []
    try:
        (folder / DEFINITIONS).mkdir(parents=True, exist_ok=True)
        for name, text in (
            (PROJECT_FILE, _PROJECT),
            (f"{DEFINITIONS}/.gitkeep", ""),
            (".gitignore", _IGNORED),
        ):
            file = folder / name
            if not file.exists():
                file.write_text(text, encoding="utf-8")
                made.append(name)
    except OSError as failure:
        raise UsageError(
            f"{folder} cannot be made a project: {failure.strerror}",
            hint="choose a folder that can be written to",
            code="folder_unwritable",
        ) from failure
    return made
