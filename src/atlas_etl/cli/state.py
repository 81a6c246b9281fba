"""`atlas state show | set | reset`: how far each stream is committed."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Name
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See and set how far each stream is committed.",
)

OneStream = Annotated[str | None, typer.Option("--stream", help="The stream.")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; may be repeated.")]


@app.command()
def show(context: typer.Context, name: Name, stream: Streams = None) -> None:
    """What the destination has committed of each stream.

    Example: atlas state show shop
    """
    session: Session = context.obj
    found = open_atlas(session).checkpoints(name)
    lines = [documents.committed_document(c) for c in found if not stream or c.stream in stream]
    if session.output.as_json:
        session.output.document({"connector": name, "streams": lines})
        return
    columns = ("name", "high", "tail_from", "committed_at", "run_id")
    render.table(columns, [[line[column] for column in columns] for line in lines])


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    value: Annotated[str, typer.Argument(help="The cursor value from which the next sync reads.")],
    stream: OneStream = None,
) -> None:
    """Move a stream's checkpoint, e.g. back, so that the next sync reads again from there.

    Example: atlas state set shop 2026-03-01 --stream orders
    """
    session: Session = context.obj
    committed = open_atlas(session).set_checkpoint(name, stream, value, by="state set")
    if session.output.as_json:
        session.output.document({"connector": name, "streams": [documents.committed_document(committed)]})
        return
    session.output.line(
        f"{name} {committed.stream}: the next sync reads from {committed.checkpoint.high.text}"
    )


@app.command()
def reset(context: typer.Context, name: Name, stream: Streams = None) -> None:
    """Forget how far streams are committed: the next sync reads them from the beginning.

    Example: atlas state reset shop --stream orders
    """
    session: Session = context.obj
    streams = open_atlas(session).reset_checkpoint(name, stream or (), by="state reset")
    if session.output.as_json:
        session.output.document({"connector": name, "streams": streams})
        return
    session.output.line(f"{name}: the next sync reads {', '.join(streams)} from the beginning")
