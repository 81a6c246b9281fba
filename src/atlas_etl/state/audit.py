"""The AuditLog (see contracts) in a database, and what other rooms' transactions add to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from atlas_etl.config.recorded import definition_changes
from atlas_etl.model import Actor, AuditEntry, AuditKind, Change, Settings
from atlas_etl.redactor import redacted
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.records import entry_of
from atlas_etl.state.schema import audit_log, known_definitions


class SqlAuditLog:
    """The audit's side of a state store; `SqlStateStore.audit` gives it. `actor` is this process."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def add(self, connection: Connection, changes: Iterable[Change], *, outside: bool = False) -> None:
        """Record changes in the transaction that makes them."""
        now = datetime.now(UTC)
        rows = [
            {
                "at": now,
                "kind": change.kind.value,
                "action": change.action.value,
                "connector": change.connector,
                "subject": change.subject,
                "before": None if change.before is None else dict(change.before),
                "after": None if change.after is None else dict(change.after),
                "run_id": change.run_id,
                "reason": None if change.reason is None else redacted(change.reason),
                "outside": outside,
                "user_name": self._actor.user,
                "host": self._actor.host,
                "pid": self._actor.pid,
                "command": self._actor.command,
                "on_behalf_of": self._actor.on_behalf_of,
                "address": self._actor.address,
            }
            for change in changes
        ]
        if rows:
            connection.execute(insert(audit_log), rows)

    def record(self, changes: Collection[Change]) -> None:
        if changes:
            with self._database.writing() as connection:
                self.add(connection, changes)

    def define(self, name: str, before: Settings | None, after: Settings | None) -> None:
        with self._database.writing() as connection:
            self._database.lock_table(connection, known_definitions)
            known = self._known(connection).get(name)
            if before == {}:
                before = known or {}
            self.add(connection, definition_changes(*_of(name), known, before), outside=True)
            self.add(connection, definition_changes(*_of(name), before, after))
            self._keep(connection, name, after)

    def notice(self, seen: Mapping[str, Settings], *, gone_without: Collection[str] | None = None) -> None:
        with self._database.reading() as connection:
            if not self._news(self._known(connection), seen, gone_without):
                return
        with self._database.writing() as connection:
            self._database.lock_table(connection, known_definitions)
            known = self._known(connection)
            for name in self._news(known, seen, gone_without):
                found = definition_changes(*_of(name), known.get(name), seen.get(name))
                self.add(connection, found, outside=True)
                self._keep(connection, name, seen.get(name))

    def _news(
        self,
        known: Mapping[str, Settings],
        seen: Mapping[str, Settings],
        gone_without: Collection[str] | None,
    ) -> list[str]:
        changed = [
            name
            for name, settings in seen.items()
            if name not in known or definition_changes(None, None, known[name], settings)
        ]
        gone = set() if gone_without is None else known.keys() - seen.keys() - set(gone_without)
        return sorted({*changed, *gone})

    def _known(self, connection: Connection) -> dict[str, Settings]:
        with reading_content(self._database.name):
            return {row.name: dict(row.settings) for row in connection.execute(select(known_definitions))}

    def _keep(self, connection: Connection, name: str, settings: Settings | None) -> None:
        if settings is None:
            connection.execute(delete(known_definitions).where(known_definitions.c.name == name))
        else:
            values = {"name": name, "settings": dict(settings)}
            connection.execute(self._database.upsert(known_definitions, values, ["name"]))

    def entries(
        self,
        *,
        connector: str | None = None,
        kinds: Collection[AuditKind] = (),
        since: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[AuditEntry]:
        query = (
            select(audit_log)
            .where(*_matching(connector, kinds, since))
            .order_by(audit_log.c.entry_id.desc())
            .limit(max(limit, 0))
        )
        with self._database.reading() as connection, reading_content(self._database.name):
            return [entry_of(row) for row in connection.execute(query)]

    def count(
        self,
        *,
        connector: str | None = None,
        kinds: Collection[AuditKind] = (),
        since: datetime | None = None,
    ) -> int:
        query = select(func.count()).select_from(audit_log).where(*_matching(connector, kinds, since))
        with self._database.reading() as connection:
            return connection.scalar(query) or 0


def _of(name: str) -> tuple[str | None, str | None]:
    """The connector, or the file where it is none's: no connector's name has a dot."""
    return (None, name) if "." in name else (name, None)


def _matching(
    connector: str | None, kinds: Collection[AuditKind], since: datetime | None
) -> list[ColumnElement[bool]]:
    conditions = []
    if connector is not None:
        conditions.append(audit_log.c.connector == connector)
    if kinds:
        conditions.append(audit_log.c.kind.in_([kind.value for kind in kinds]))
    if since is not None:
        conditions.append(audit_log.c.at >= since)
    return conditions
