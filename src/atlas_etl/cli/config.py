"""`atlas config show | check | schema`: the configuration, where each key came from, and its schema."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import BaseModel

from atlas_etl.cli import render
from atlas_etl.cli.completion import CONNECTORS
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.schema import definition_schema
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, ConfigError, ExitCode

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See, check and document the configuration.\n\nExample: atlas config show shop --origin",
)

_HIDE = "`atlas connector update NAME --set KEY=-` encrypts it; or chmod 600 the file"

OptionalName = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The connector; atlas.yaml without it.", autocompletion=CONNECTORS),
]


@app.command()
def show(
    context: typer.Context,
    name: OptionalName = None,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value was written.")] = False,
) -> None:
    """Every effective value, secrets masked.

    Example: atlas config show shop --origin
    """
    session: Session = context.obj
    settings = open_atlas(session).effective(name)
    if session.output.as_json:
        lines = [{"key": found.key, "value": found.value, "origin": found.origin} for found in settings]
        session.output.document({"connector": name, "settings": lines})
        return
    columns = ("key", "value", "origin") if origin else ("key", "value")
    render.table(columns, [(found.key, found.value, found.origin)[: len(columns)] for found in settings])


@app.command()
def check(context: typer.Context, name: OptionalName = None) -> None:
    """Validate atlas.yaml and the definitions without connecting.

    Example: atlas config check
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    problems: list[AtlasError] = []
    warnings: list[tuple[str, str]] = []
    names = [name] if name else atlas.names()
    for one in names:
        try:
            atlas.check(one, reach=False)
            warnings += [(one, text) for text in atlas.exposed(one)]
        except AtlasError as wrong:
            problems.append(wrong.located(connector=one))
    if session.output.as_json:
        lines = [
            {"connector": wrong.connector, "message": wrong.message, "hint": wrong.hint} for wrong in problems
        ]
        told = [{"connector": one, "message": text, "hint": _HIDE} for one, text in warnings]
        session.output.document({"checked": names, "problems": lines, "warnings": told})
    elif not problems:
        session.output.line(f"{len(names)} connector(s): no problems")
    else:
        for problem in problems:
            session.output.failure(problem)
    for one, text in [] if session.output.as_json else warnings:
        session.output.error_line(render.safe(f"warning: {one}: {text}"))
        session.output.error_line(f"  hint: {_HIDE}")
    raise typer.Exit(ExitCode.USAGE if problems else ExitCode.DONE)


@app.command()
def schema(context: typer.Context) -> None:
    """The JSON schema of a definition, for editors.

    Example: atlas config schema > atlas-schema.json
    """
    session: Session = context.obj
    models: dict[str, type[BaseModel]] = {}
    for info in registry.protocols():
        try:
            model = registry.load(info.protocol).connection
        except ConfigError:  # a driver is missing, or another package's protocol cannot be loaded
            continue
        models |= dict.fromkeys((info.protocol, *info.aliases), model)
    session.output.document(definition_schema(models))
