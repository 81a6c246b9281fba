"""The project of a session, opened: what brings in drivers, Arrow and SQLAlchemy."""

from __future__ import annotations

from atlas_etl.api.atlas import Atlas
from atlas_etl.cli.session import Session


def open_atlas(session: Session) -> Atlas:
    """The project. Raises ConfigError."""
    return Atlas.open(session.project, session.environ)
