"""`atlas report`: the runs of a project as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.report import project_report
from atlas_etl.cli.completion import Names
from atlas_etl.cli.instants import instant_or_ago
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.report_page import Facts, page
from atlas_etl.cli.session import Session
from atlas_etl.cli.upcoming import upcoming
from atlas_etl.config.atomic import mode_for_data, write_atomically
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_path
from atlas_etl.connectors import registry
from atlas_etl.errors import ConfigError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def report(
    context: typer.Context,
    names: Names = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="The first day, or so long ago: 7d.")] = "30d",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "atlas-report.html",
) -> None:
    """Write runs, failures, freshness, schema changes and what was verified as one HTML page.

    Example: atlas report --since 7d --output report.html
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    now = datetime.now(UTC)
    begins = instant_or_ago(since, "--since", now)
    for name in names or ():
        definition_path(session.project, name)
    facts = {name: _facts(atlas, session, name, now) for name in names or atlas.names()}
    reports = project_report(atlas, {name: fact.streams for name, fact in facts.items()}, begins, now)
    text = page(atlas.project.folder.resolve().name, begins, now, reports, facts)
    if output == "-":
        sys.stdout.write(text)
        return
    path = Path(output)
    write_atomically(path, text, mode_for_data(path))
    if session.output.as_json:
        session.output.document({"report": str(path.resolve()), "connectors": len(reports)})
        return
    session.output.line(f"{path}: {len(reports)} connectors, {sum(one.runs for one in reports)} runs")


def _facts(atlas: Atlas, session: Session, name: str, now: datetime) -> Facts:
    """What the definition says; its error where it is wrong."""
    try:
        definition = load_definition(atlas.project.folder, name, session.environ).definition
        return Facts(
            registry.canonical(definition.protocol),
            atlas.project.destination_name(definition.destination),
            definition.schedule,
            upcoming(definition, atlas.project.settings.timezone, now),
            enabled=definition.enabled,
            streams=tuple(stream.name for stream in definition.streams),
        )
    except ConfigError as failure:
        return Facts("", "", None, None, enabled=False, wrong=failure.message)
