"""`atlas query`: ask the warehouse."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help="One statement that reads.")],
    destination: Annotated[str | None, typer.Option(help="Another destination than the default.")] = None,
) -> None:
    """Ask the warehouse with SQL.

    Example: atlas query "SELECT count(*) FROM shop.orders"
    """
    session: Session = context.obj
    answer = open_atlas(session).query(sql, destination)
    rows = documents.rows(answer)
    if session.output.as_json:
        session.output.document({"columns": answer.column_names, "rows": rows})
        return
    render.data(answer.column_names, rows)
