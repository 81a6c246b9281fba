"""`atlas reveal`: tokens of `protect` turned back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from atlas_etl.cli import render
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def reveal(
    context: typer.Context,
    tokens: Annotated[
        list[str] | None, typer.Argument(metavar="TOKEN", help="Without one: a token a line of stdin.")
    ] = None,
) -> None:
    """Turn tokens of `protect: {column: tokenize}` back into values, with this project's key.

    `atlas audit` lists who asked for how many values, and when.

    Example: atlas reveal ff4482f2d152d7695e1f98e4133ec7e5ff043ddde87ec5e38c4a42fe41ba1eee
    """
    session: Session = context.obj
    given = tokens or [line.strip() for line in sys.stdin if line.strip()]
    found = open_atlas(session, context.command_path).reveal(given)
    if session.output.as_json:
        lines = [{"token": token, "value": value} for token, value in zip(given, found, strict=True)]
        session.output.document({"values": lines})
        return
    for value in found:
        session.output.line(render.safe(value))
