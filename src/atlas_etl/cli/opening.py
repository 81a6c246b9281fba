"""The project of a session, opened, and which of its connectors are meant; brings in Arrow and SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import typer

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.audit import recorded
from atlas_etl.cli.session import Session
from atlas_etl.errors import UsageError
from atlas_etl.state.holder import this_actor


def open_atlas(session: Session, command: str = "atlas") -> Atlas:
    """The project; `command` is what the audit says of this process. Raises ConfigError."""
    return Atlas.open(session.project, session.environ, command)


def recording(context: typer.Context, name: str) -> AbstractContextManager[None]:
    """Have the audit know what this command makes of a definition in the block."""
    session: Session = context.obj
    actor = this_actor(session.environ, context.command_path)
    return recorded(session.project, session.environ, name, actor)


def chosen(atlas: Atlas, names: list[str] | None, every: bool) -> list[str]:
    """The connectors that a command line names. Raises UsageError where it names none, or both."""
    if every and names:
        raise UsageError("name connectors or give --all, not both")
    if names:
        return list(dict.fromkeys(names))
    if not every:
        raise UsageError("no connector was named", hint="name one, or give --all for every one")
    return atlas.names()


def tell_nothing(session: Session, what: str, known: Sequence[str]) -> None:
    """Say that --all found nothing to do, and where: in a crontab that is the wrong folder."""
    why = "no connector is enabled" if known else "there are no connectors"
    session.output.event(f"nothing to {what}: {why} in {session.project}", event="nothing_to_do")
