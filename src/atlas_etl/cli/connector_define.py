"""`atlas connector update | remove | enable | disable`: the files of connectors.d/ that are there."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from atlas_etl.cli.completion import Name
from atlas_etl.cli.connector_settings import (
    Settings,
    assignments,
    tell_what_is_kept,
    tell_what_was_seen,
)
from atlas_etl.cli.opening import open_atlas, recording
from atlas_etl.cli.session import Session
from atlas_etl.config.definitions import load_definition, remove_definition, update_definition
from atlas_etl.config.folder import definition_path
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.project_folder import shown
from atlas_etl.config.yaml_source import Value, read_bytes
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, UsageError


def update(context: typer.Context, name: Name, settings: Settings = None) -> None:
    """Set keys of a definition; an empty VALUE removes the key.

    Example: atlas connector update shop --set schedule="0 6 * * *" --set host=db2.example.com

    Example: atlas connector update shop --set 'streams[0].cursor=updated_at'
    """
    session: Session = context.obj
    if not settings:
        raise UsageError("nothing to change", hint="--set KEY=VALUE, e.g. --set host=db2.example.com")
    definition = load_definition(session.project, name, session.environ).definition
    changes, secrets = assignments(settings, name, registry.load(definition.protocol).connection)
    tell_what_was_seen(session, settings, secrets)
    change(context, name, changes, secrets, reach=False)
    _changed(session, name, "updated")


def change(
    context: typer.Context,
    name: str,
    changes: Mapping[KeyPath, Value],
    secrets: Mapping[str, str],
    *,
    reach: bool,
) -> None:
    """Change a definition and its secrets where the connector is valid, and with `reach` works, with them.

    Raises AtlasError; then both are as they were. What the source gave in the place of a new secret, which is
    spent, is kept beside the old one, which may not be.
    """
    session: Session = context.obj
    file = definition_path(session.project, name)
    previous = read_bytes(file, shown(file, session.project))
    with recording(context, name):
        update_definition(session.project, name, changes, session.environ)
        atlas, pending = open_atlas(session, context.command_path), {**secrets}
        try:
            atlas.adopt(name, pending, reach=reach)
        except (AtlasError, KeyboardInterrupt):
            file.write_bytes(previous)
            replaced = {each: f"{each}.new" for each, value in pending.items() if secrets[each] != value}
            atlas.keep({kept: pending[each] for each, kept in replaced.items()})
            tell_what_is_kept(session.output, replaced)
            raise


def remove(context: typer.Context, name: Name) -> None:
    """Delete a definition and its secrets; what it loaded and its history stay.

    Example: atlas connector remove shop
    """
    session: Session = context.obj
    with recording(context, name):
        remove_definition(session.project, name)
    atlas = open_atlas(session, context.command_path)
    atlas.forget(name)
    gone = atlas.forget_secrets(name)
    if session.output.as_json:
        session.output.document({"connector": name, "result": "removed", "secrets": gone})
        return
    session.output.line(f"removed {name}" + (f" and its secrets {', '.join(gone)}" if gone else ""))


def enable(context: typer.Context, name: Name) -> None:
    """Let `sync --all` and the schedule run a connector.

    Example: atlas connector enable shop
    """
    _switch(context, name, True)


def disable(context: typer.Context, name: Name) -> None:
    """Keep `sync --all` and the schedule from running a connector.

    Example: atlas connector disable shop
    """
    _switch(context, name, False)


def _switch(context: typer.Context, name: str, enabled: bool) -> None:
    session: Session = context.obj
    with recording(context, name):
        update_definition(session.project, name, {("enabled",): enabled}, session.environ)
    _changed(session, name, "enabled" if enabled else "disabled")


def _changed(session: Session, name: str, what: str) -> None:
    if session.output.as_json:
        session.output.document({"connector": name, "result": what})
    else:
        session.output.line(f"{what} {name}")
