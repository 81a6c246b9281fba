"""`atlas quarantine list | replay`: the rows that were refused and kept aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Name, Names, Streams
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.cli.stream_warnings import stream_warnings
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, ExitCode
from atlas_etl.model import QuarantinedRow

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See the rows that were refused and kept aside, and load them again.\n\n"
    "Example: atlas quarantine list shop",
)


@app.command("list")
def list_(
    context: typer.Context,
    names: Names = None,
    stream: Streams = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 100,
) -> None:
    """Which rows are not in the destination, and why; with --json also the rows themselves.

    Without names, a connector whose definition is wrong is told last, and the exit code is its error's then.

    Example: atlas quarantine list shop --stream orders

    Example: atlas quarantine list --json
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    found: list[tuple[str, QuarantinedRow]] = []
    wrong: list[AtlasError] = []
    for name in names or atlas.names():
        try:
            found += [(name, row) for row in atlas.quarantine(name).rows(stream or ())]
        except (ConfigError, DestinationError) as failure:
            if names:
                raise
            wrong.append(failure.located(connector=name))
    if session.output.as_json:
        rows = [documents.quarantined_document(name, row) for name, row in found[:limit]]
        session.output.document({"quarantine": rows, "total": len(found)})
    else:
        _show(session, found, limit)
    for each in wrong:
        session.output.failure(each)
    if wrong:
        raise typer.Exit(wrong[0].exit_code)


def _show(session: Session, found: Sequence[tuple[str, QuarantinedRow]], limit: int) -> None:
    render.table(
        ("connector", "stream", "key", "reason", "quarantined_at", "run_id"),
        [
            (name, row.stream, _key(row.key), row.reason, row.quarantined_at, row.run_id)
            for name, row in found[:limit]
        ],
    )
    if len(found) > limit:
        session.output.line(f"{limit} of {len(found)} rows; --limit {len(found)} shows all")


@app.command()
def replay(context: typer.Context, name: Name, stream: Streams = None) -> None:
    """Load refused rows again, after the table was changed. Those that land leave the quarantine.

    Exits with 7 where rows are refused again; they stay.

    Example: atlas quarantine replay shop --stream orders
    """
    session: Session = context.obj
    done = open_atlas(session, context.command_path).quarantine(name).replay(stream or ())
    if session.output.as_json:
        lines = [documents.replayed_document(replayed) for replayed in done]
        session.output.document({"connector": name, "streams": lines})
    else:
        for replayed in done:
            outcome = replayed.outcome
            text = f"{outcome.rows_loaded:,} rows loaded, {replayed.remaining:,} refused again"
            outdated = f", {replayed.outdated:,} outdated by newer ones" if replayed.outdated else ""
            session.output.line(f"{name} {outcome.name}: {text}{outdated}")
            for warning in stream_warnings(outcome):
                session.output.event(f"warning: {name} {outcome.name}: {warning}")
    if any(replayed.remaining for replayed in done):
        raise typer.Exit(ExitCode.DATA)


def _key(key: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in key.items())
