"""`atlas secret set | list | remove | rotate`: the encrypted secrets of a project."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli import render
from atlas_etl.cli.asking import ask_whole_secret
from atlas_etl.cli.completion import SECRETS
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.secret_names import check_secret_name
from atlas_etl.config.secret_references import used_secrets

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keep passwords and tokens encrypted; definitions refer to them.\n\n"
    "Example: atlas secret set shop/password",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME/FIELD", help="The secret, e.g. shop/password.", autocompletion=SECRETS)
]


@app.command("set")
def set_secret(context: typer.Context, name: Name) -> None:
    """Give a secret its value, typed unseen or from stdin; definitions say ${secret:NAME/FIELD}.

    Example: atlas secret set shop/password
    """
    session: Session = context.obj
    check_secret_name(name)
    open_atlas(session, context.command_path).secrets().set({name: ask_whole_secret(name)})
    if session.output.as_json:
        session.output.document({"secret": name, "result": "set"})
    else:
        session.output.line(f"set {name}; a definition refers to it as ${{secret:{name}}}")


@app.command("list")
def list_secrets(context: typer.Context) -> None:
    """The names of the secrets, when each was set, and whether a definition refers to it; never a value.

    Example: atlas secret list
    """
    session: Session = context.obj
    changed = open_atlas(session).secrets().changed()
    if session.output.as_json:
        lines = [{"name": name, "updated_at": moment} for name, moment in changed.items()]
        session.output.document({"secrets": lines, "total": len(lines)})
        return
    used = used_secrets(session.project)
    rows = [(name, moment, "yes" if name in used else "no") for name, moment in changed.items()]
    render.table(("name", "updated_at", "used"), rows)


@app.command()
def remove(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME/FIELD", help="The secrets, e.g. shop/password.", autocompletion=SECRETS),
    ],
) -> None:
    """Forget secrets. Definitions that still refer to them cannot connect any more.

    Example: atlas secret remove shop/password
    """
    session: Session = context.obj
    open_atlas(session, context.command_path).secrets().remove(list(dict.fromkeys(names)))
    still = sorted(used_secrets(session.project) & set(names))
    if session.output.as_json:
        session.output.document({"secrets": names, "result": "removed", "still_used": still})
        return
    session.output.line(f"removed {', '.join(names)}")
    if still:
        session.output.event(f"warning: definitions still refer to {', '.join(still)}")


@app.command()
def rotate(context: typer.Context) -> None:
    """Encrypt every secret with a new key. With ATLAS_SECRET_KEY, put the new key before the old one first.

    Example: atlas secret rotate
    """
    session: Session = context.obj
    count = open_atlas(session, context.command_path).secrets().rotate()
    if session.output.as_json:
        session.output.document({"rotated": count})
    else:
        session.output.line(f"{count} secret(s) are encrypted with the new key")
