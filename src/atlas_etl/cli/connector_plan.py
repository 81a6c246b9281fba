"""`atlas connector plan`: what a sync would do, and which promise holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from atlas_etl.api.forecast import forecast_connector
from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Name, Streams
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.pipeline.forecast import StreamForecast


def plan(
    context: typer.Context,
    name: Name,
    stream: Streams = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="What reading everything again would replace.")
    ] = False,
) -> None:
    """What a sync would read, change and load, and which promise holds. Nothing is written anywhere.

    Example: atlas connector plan shop
    """
    session: Session = context.obj
    with interruptible():
        found = list(
            forecast_connector(
                open_atlas(session), name, streams=tuple(stream or ()), full_refresh=full_refresh
            )
        )
    if session.output.as_json:
        session.output.document(
            {"connector": name, "streams": [documents.forecast_document(each) for each in found]}
        )
        return
    for number, each in enumerate(found):
        if number:
            session.output.line("")
        session.output.line(render.safe(f"{each.stream} -> {each.table}"))
        for label, text in _lines(each):
            line = render.safe(f"  {label:<9} {text}")
            # Statements stay whole, to be pasted.
            session.output.line(line if label in ("", "changes") else render.hanging(line, 12))


def _lines(found: StreamForecast) -> Iterator[tuple[str, str]]:
    if found.disposition is None:
        yield "reads", "what its columns are, only its records will tell"
        return
    rows = f"about {found.estimated_rows:,} rows" if found.estimated_rows is not None else "rows"
    since = f"with {found.cursor} from {found.since} on" if found.since is not None else "from the beginning"
    yield "reads", f"{rows} {since}"
    for statement in found.statements:
        yield "", statement
    key = f" by {', '.join(found.primary_key)}" if found.disposition == "merge" else ""
    what = ", replacing what is there" if found.replaces else ""
    yield "loads", f"{found.disposition}{key}{what}, as {found.format}"
    if found.protect:
        yield "protects", ", ".join(f"{column} ({rule})" for column, rule in found.protect)
    for statement in found.changes:
        yield "changes", statement
    yield "promise", found.promise
