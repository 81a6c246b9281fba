"""`atlas report`: the runs of a project as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.report import ConnectorReport, connector_report, in_order
from atlas_etl.cli.completion import Names
from atlas_etl.cli.instants import instant_or_ago
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.report_page import Facts, page
from atlas_etl.cli.session import Session
from atlas_etl.cli.upcoming import upcoming
from atlas_etl.config.atomic import ORDINARY, write_atomically
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_path
from atlas_etl.connectors import registry
from atlas_etl.errors import ConfigError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MOST_RUNS = 20_000  # of a connector; more would make a page that no browser likes


@app.command()
def report(
    context: typer.Context,
    names: Names = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="The first day, or so long ago: 7d.")] = "30d",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "atlas-report.html",
) -> None:
    """Write runs, rows, durations, failures, freshness and schema changes as one HTML page.

    Example: atlas report --since 7d --output report.html
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    now = datetime.now(UTC)
    begins = instant_or_ago(since, "--since", now)
    for name in names or ():
        definition_path(session.project, name)
    chosen = list(names or atlas.names())
    reports = _reports(atlas, chosen, begins, now)
    facts = {name: _facts(atlas, session, name, now) for name in chosen}
    text = page(atlas.project.folder.resolve().name, begins, now, reports, facts)
    if output == "-":
        sys.stdout.write(text)
        return
    path = Path(output)
    write_atomically(path, text, ORDINARY)
    if session.output.as_json:
        session.output.document({"report": str(path.resolve()), "connectors": len(reports)})
        return
    session.output.line(f"{path}: {len(reports)} connectors, {sum(one.runs for one in reports)} runs")


def _reports(atlas: Atlas, names: list[str], begins: datetime, now: datetime) -> list[ConnectorReport]:
    found = atlas.histories(names, most=_MOST_RUNS)
    return [
        connector_report(name, *found[name], begins, now)
        for name in in_order({n: found[n][0] for n in found})
    ]


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
        )
    except ConfigError as failure:
        return Facts("", "", None, None, enabled=False, wrong=failure.message)
