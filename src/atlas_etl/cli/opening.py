"""The project of a session, opened, and which of its connectors are meant; brings in Arrow and SQLAlchemy."""

from __future__ import annotations

from atlas_etl.api.atlas import Atlas
from atlas_etl.cli.session import Session
from atlas_etl.errors import UsageError


def open_atlas(session: Session) -> Atlas:
    """The project. Raises ConfigError."""
    return Atlas.open(session.project, session.environ)


def chosen(atlas: Atlas, names: list[str] | None, every: bool) -> list[str]:
    """The connectors that a command line names. Raises UsageError where it names none, or both."""
    if every and names:
        raise UsageError("name connectors or give --all, not both")
    if names:
        return list(dict.fromkeys(names))
    if not every:
        raise UsageError("no connector was named", hint="name one, or give --all for every one")
    return atlas.names()
