"""`atlas state show | history | set | reset`: how far each stream is committed, and what became of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import STREAMS, Name, Streams
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.errors import UsageError

if TYPE_CHECKING:
    from atlas_etl.api.checkpoints import MovedCheckpoint

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See and set how far each stream is committed.\n\nExample: atlas state show shop",
)

OneStream = Annotated[str | None, typer.Option("--stream", help="The stream.", autocompletion=STREAMS)]
Reason = Annotated[str | None, typer.Option(help="Why; `state history` shows it.")]


@app.command()
def show(context: typer.Context, name: Name, stream: Streams = None) -> None:
    """What the destination has committed of each stream.

    Example: atlas state show shop
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    found = atlas.checkpoints(name).committed()
    lines = [documents.committed_document(c) for c in found if not stream or c.stream in stream]
    if stream and not lines:
        atlas.connector(name).chosen(tuple(stream))
    if session.output.as_json:
        session.output.document({"connector": name, "streams": lines})
        return
    columns = ("name", "high", "tail_from", "committed_at", "run_id")
    render.table(columns, [[line[column] for column in columns] for line in lines])


@app.command()
def history(
    context: typer.Context,
    name: Name,
    stream: OneStream = None,
    limit: Annotated[int, typer.Option(min=1, help="How many changes.")] = 20,
) -> None:
    """What became of the checkpoints, the latest change first: by whom, when and why.

    Example: atlas state history shop --stream orders --limit 5
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    with atlas.state_to_read() as store:
        changes = store.checkpoint_changes(name, stream=stream, limit=limit)
    if not changes:
        atlas.connector(name).chosen((stream,) if stream else ())
    if session.output.as_json:
        lines = [documents.change_document(change) for change in changes]
        session.output.document({"connector": name, "changes": lines})
        return
    rows = [
        (
            change.change_id,
            change.changed_at,
            change.stream,
            change.action,
            change.before.high.text if change.before else None,
            change.after.high.text if change.after else None,
            change.changed_by,
            change.reason,
        )
        for change in changes
    ]
    render.table(("change", "at", "stream", "action", "before", "after", "by", "reason"), rows)


@app.command("set")
def set_(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Name,
    value: Annotated[
        str | None, typer.Argument(help="The cursor value from which the next sync reads.")
    ] = None,
    to: Annotated[
        int | None, typer.Option(metavar="CHANGE", help="The checkpoint that this change had made.")
    ] = None,
    stream: OneStream = None,
    reason: Reason = None,
) -> None:
    """Move a stream's checkpoint, mostly back, so that the next sync reads again from there.

    Example: atlas state set shop 2026-03-01 --stream orders --reason "prices were wrong in March"

    Example: atlas state set shop --to 12
    """
    session: Session = context.obj
    checkpoints = open_atlas(session, context.command_path).checkpoints(name)
    warnings: list[str] = []
    if value is not None and to is None:
        committed = checkpoints.set(stream, value, reason=reason)
        warnings = _unread(name, committed)
    elif to is not None and value is None:
        committed = checkpoints.put_back(to, stream=stream, reason=reason)
    else:
        raise UsageError(
            "either a cursor value or --to, please",
            hint=f"`atlas state history {name}` lists the changes that --to can go back to",
            connector=name,
        )
    for warning in warnings:
        session.output.event(f"warning: {name} {committed.stream}: {warning}")
    if session.output.as_json:
        line = {**documents.committed_document(committed), "warnings": warnings}
        session.output.document({"connector": name, "streams": [line]})
        return
    session.output.line(
        f"{name} {committed.stream}: the next sync reads from {committed.checkpoint.tail_from.text}"
    )


def _unread(name: str, moved: MovedCheckpoint) -> list[str]:
    if moved.passes_over is None:
        return []
    begin, end = moved.passes_over.text, moved.checkpoint.tail_from.text
    back = f"atlas state set {shlex.quote(name)} {shlex.quote(begin)} --stream {shlex.quote(moved.stream)}"
    return [
        f"no sync reads rows whose {moved.checkpoint.cursor!r} is from {begin} up to {end} any more: those "
        f"that are not loaded yet never will be; `{back}` goes back"
    ]


@app.command()
def reset(context: typer.Context, name: Name, stream: Streams = None, reason: Reason = None) -> None:
    """Forget how far streams are committed: the next sync reads them from the beginning.

    Example: atlas state reset shop --stream orders
    """
    session: Session = context.obj
    streams = open_atlas(session, context.command_path).checkpoints(name).reset(stream or (), reason=reason)
    if session.output.as_json:
        session.output.document({"connector": name, "streams": streams})
        return
    session.output.line(f"{name}: the next sync reads {', '.join(streams)} from the beginning")
