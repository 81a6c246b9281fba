"""`atlas connector resume`: a person says that a connector works again."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from atlas_etl.cli.completion import Name
from atlas_etl.cli.session import Session
from atlas_etl.config.folder import definition_path
from atlas_etl.config.project import load_project
from atlas_etl.scheduler.stores import open_stores


def resume(context: typer.Context, name: Name) -> None:
    """Close a connector's circuit breaker, so that its schedule runs it again.

    Example: atlas connector resume shop
    """
    session: Session = context.obj
    definition_path(session.project, name)
    with open_stores(load_project(session.project, session.environ), context.command_path) as stores:
        before = stores.schedule.resume(name, datetime.now(UTC))
    if session.output.as_json:
        document = {"connector": name, "breaker": before.state, "failures": before.failures}
        session.output.document(document)
    elif before.failures:
        session.output.line(f"{name}: resumed, after {before.failures} failures in a row")
    else:
        session.output.line(f"{name}: nothing to resume, its last run did not fail")
