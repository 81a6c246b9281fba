"""`atlas explain`: what an error means, why it comes about, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli import explanations, render
from atlas_etl.cli.completion import ERROR_CODES
from atlas_etl.cli.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def explain(
    context: typer.Context,
    code: Annotated[
        str | None,
        typer.Argument(help="The error's code; without it, all are listed.", autocompletion=ERROR_CODES),
    ] = None,
) -> None:
    """What an error means, why it comes about, and what to do. Works without a network.

    An error that has a page says so in its last line; --json has the code of each.

    Example: atlas explain null_cursor
    """
    session: Session = context.obj
    if code is None:
        told = [(each, explanations.summary(each)) for each in explanations.codes()]
        if session.output.as_json:
            session.output.document({"errors": [{"code": each, "summary": text} for each, text in told]})
        else:
            render.table(("code", "what it is"), told)
        return
    text = explanations.page(code)
    if session.output.as_json:
        session.output.document({"code": code, "summary": explanations.summary(code), "page": text})
    else:
        render.markdown(text)
