"""`atlas audit`: who changed what, when and from where."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import CONNECTORS
from atlas_etl.cli.instants import instant_or_ago
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.folder import definition_path
from atlas_etl.model import Actor, AuditEntry, AuditKind, Change

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_LONGEST = 60


@app.command()
def audit(  # Typer passes by name
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The connector; all without it.", autocompletion=CONNECTORS)
    ] = None,
    kind: Annotated[
        list[AuditKind] | None, typer.Option(help="Only changes of this kind; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only since this time, or so long ago: 7d.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many changes.")] = 50,
) -> None:
    """Who changed what, the latest change first: definitions, secrets, checkpoints, schedules, breakers.

    What was changed by other means than Atlas is listed with who noticed it, and when.

    Example: atlas audit shop --kind checkpoint --since 7d
    """
    session: Session = context.obj
    atlas = open_atlas(session, context.command_path)
    after = instant_or_ago(since, "--since", datetime.now(UTC)) if since else None
    entries, total = atlas.audit(name, kinds=kind or (), since=after, limit=limit)
    if name is not None and not total:
        definition_path(session.project, name)
    if session.output.as_json:
        lines = [documents.audit_document(entry) for entry in entries]
        session.output.document({"entries": lines, "total": total})
        return
    render.table(
        ("at", "kind", "action", "connector", "subject", "change", "by", "command", "reason"),
        [_row(entry) for entry in entries],
    )
    if total > len(entries):
        session.output.line(f"{len(entries)} of {total} changes; --limit {total} shows all")


def _row(entry: AuditEntry) -> tuple[object, ...]:
    change = entry.change
    return (
        entry.at,
        change.kind,
        change.action,
        change.connector,
        change.subject,
        _difference(change),
        _who(entry.actor, outside=entry.outside),
        entry.actor.command,
        change.reason,
    )


def _who(actor: Actor, *, outside: bool) -> str:
    known = ", ".join(part for part in (actor.on_behalf_of, actor.address) if part)
    who = f"{actor.user}@{actor.host}" + (f" [{known}]" if known else "")
    return f"outside of Atlas, noticed by {who}" if outside else who


def _difference(change: Change) -> str:
    """What differs, on a line; nothing where the whole thing came or went."""
    before, after = change.before, change.after
    if (before is None and after is None) or change.action in ("added", "removed"):
        return ""
    keys = {**(before or {}), **(after or {})}
    return "; ".join(f"{key}: {_short(before, key)} → {_short(after, key)}" for key in keys)


def _short(values: Mapping[str, object] | None, key: str) -> str:
    text = "-" if values is None or key not in values else str(values[key])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
