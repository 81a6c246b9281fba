"""`atlas dev`: for those who add to Atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.cli.checkout import Changes, Family, changes, find_checkout
from atlas_etl.cli.new_protocol import new_protocol, package_files
from atlas_etl.cli.session import Session
from atlas_etl.config.atomic import ORDINARY, write_atomically
from atlas_etl.errors import UsageError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="For those who add to Atlas: a new protocol, as a package or in a checkout.\n\n"
    "Example: atlas dev new-protocol ledger --package atlas-ledger",
)


@app.callback()
def dev() -> None:
    """A group, though it has one command."""


@app.command("new-protocol")
def write_protocol(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What definitions will call it, e.g. ledger.")],
    package: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a package of its own to this folder, which must be empty."),
    ] = None,
    driver: Annotated[
        str | None, typer.Option(metavar="PACKAGE", help="The client that it needs, as pip calls it.")
    ] = None,
    family: Annotated[
        Family | None, typer.Option(help="In a checkout: beside which protocols; documents without it.")
    ] = None,
    summary: Annotated[
        str | None, typer.Option(help="What `atlas connector types` shows, in a line.")
    ] = None,
) -> None:
    """Write a protocol that works, reads files and passes the contract's tests, to be made one's own.

    With --package, a package that anybody can install beside Atlas; without it, in a checkout of Atlas
    itself, all that a built-in protocol consists of. Nothing that is there is overwritten.

    Example: atlas dev new-protocol ledger --package atlas-ledger
    """
    session: Session = context.obj
    protocol = new_protocol(name, summary, driver)
    if package is not None:
        if family is not None:
            raise UsageError("--family is for a checkout, which --package does without", code="usage")
        root = session.start / package.expanduser()
        files = package_files(protocol)
        found = Changes({root / path: text for path, text in files.items()}, {})
        shown = str(package)
        steps = [f"pip install --editable {shown}", f"pytest {shown}", "atlas connector types"]
        _refuse_full(root)
    else:
        checkout = find_checkout(session.start)
        if checkout is None:
            raise UsageError(
                "this is no checkout of Atlas",
                hint=f"give a folder for a package: --package {protocol.distribution}",
                code="no_checkout",
            )
        root = checkout
        found = changes(root, protocol, family or Family.DOCUMENTS)
        steps = [
            *(("uv lock",) if protocol.driver else ()),
            f"scripts/test tests/contract -k {name}",
            "scripts/docs",
        ]
    _write(found)
    wrote = [str(path.relative_to(root)) for path in found.new]
    changed = [str(path.relative_to(root)) for path in found.edited]
    if session.output.as_json:
        session.output.document(
            {"protocol": name, "folder": str(root), "wrote": wrote, "changed": changed, "next": steps}
        )
        return
    for done, paths in (("wrote", wrote), ("changed", changed)):
        for path in paths:
            session.output.line(f"{done} {path}")
    session.output.line("next: " + "; ".join(steps))


def _refuse_full(folder: Path) -> None:
    try:
        is_empty = not folder.exists() or not any(folder.iterdir())
    except OSError:
        is_empty = False
    if not is_empty:
        raise UsageError(
            f"{folder} is not an empty folder: nothing was written",
            hint="name one that is not there yet",
            code="folder_not_empty",
        )


def _write(found: Changes) -> None:
    for path in found.new:
        if path.exists():
            raise UsageError(
                f"{path} is there already: nothing was written",
                hint="choose another name, or remove what is there",
                code="file_exists",
            )
    for path, text in (*found.new.items(), *found.edited.items()):
        write_atomically(path, text, ORDINARY)
