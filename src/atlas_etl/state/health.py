"""The HealthStore (see contracts) in a database: turns to test a connector, and what the tests found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, update

from atlas_etl.model import ConnectionTest, ConnectorHealth
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.records import AnyRow, health_of, test_document, test_of, test_values
from atlas_etl.state.schema import connection_tests, connector_health, leases

_MOST_KEPT = 1000  # of each connector: ten days of the default schedule
_LONGEST = timedelta(hours=2)  # a turn that seems to last longer is of before the clock was set back


class SqlHealth:
    """The tests' side of a state store; `SqlStateStore.health` gives it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, connector: str, slot: datetime, *, now: datetime, limit: timedelta) -> bool:
        with self._database.writing() as connection:
            connection.execute(self._database.insert_if_absent(connector_health, {"connector": connector}))
            row = self._locked(connection, connector)
            if row is None:
                return False  # forgotten in between
            if row.slot is not None and slot <= row.slot <= now:
                return False
            if row.claimed_until is not None and now < row.claimed_until <= now + _LONGEST:
                return False
            holder = select(leases.c.run_id).where(leases.c.connector == connector)
            if (
                connection.scalar(holder.with_for_update()) is not None
            ):  # who is about to take it is waited for
                return False
            self._set(connection, connector, slot=slot, claimed_until=now + limit)
            return True

    def finish(self, slot: datetime, test: ConnectionTest) -> ConnectorHealth | None:
        connector = test.connector
        with self._database.writing() as connection:
            row = self._locked(connection, connector)
            if row is None:
                return None  # its definition was removed meanwhile
            with reading_content(self._database.name):
                before = health_of(row)
            is_same = before is not None and before.is_healthy == (test.error is None)
            since = before.since if before is not None and is_same else test.tested_at
            claim = {"claimed_until": None} if row.slot == slot else {}
            self._set(connection, connector, since=since, last_test=test_document(test), **claim)
            connection.execute(insert(connection_tests).values(**test_values(test)))
            _keep_newest(connection, connector)
        return before

    def give_back(self, connector: str, slot: datetime) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(connector_health)
                .where(connector_health.c.connector == connector, connector_health.c.slot == slot)
                .values(slot=None, claimed_until=None)
            )

    def tested_slots(self) -> Mapping[str, datetime]:
        query = select(connector_health).where(connector_health.c.slot.is_not(None))
        with self._database.reading() as connection:
            return {row.connector: row.slot for row in connection.execute(query)}

    def health(self) -> Mapping[str, ConnectorHealth]:
        with self._database.reading() as connection, reading_content(self._database.name):
            found = [health_of(row) for row in connection.execute(select(connector_health))]
        return {health.connector: health for health in found if health is not None}

    def tests(self, connector: str | None = None, *, limit: int = 20) -> Sequence[ConnectionTest]:
        query = select(connection_tests).order_by(connection_tests.c.test_id.desc()).limit(max(limit, 0))
        if connector is not None:
            query = query.where(connection_tests.c.connector == connector)
        with self._database.reading() as connection, reading_content(self._database.name):
            return [test_of(row) for row in connection.execute(query)]

    def count_tests(self, connector: str | None = None) -> int:
        query = select(func.count()).select_from(connection_tests)
        if connector is not None:
            query = query.where(connection_tests.c.connector == connector)
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def forget(self, connectors: Collection[str]) -> None:
        with self._database.writing() as connection:
            gone = connector_health.c.connector.in_(connectors)
            connection.execute(delete(connector_health).where(gone))

    def prune(self, before: datetime) -> None:
        """Delete the tests of before this instant."""
        with self._database.writing() as connection:
            connection.execute(delete(connection_tests).where(connection_tests.c.tested_at < before))

    def _locked(self, connection: Connection, connector: str) -> AnyRow | None:
        query = select(connector_health).where(connector_health.c.connector == connector)
        return connection.execute(query.with_for_update()).one_or_none()

    def _set(self, connection: Connection, connector: str, **values: object) -> None:
        where = connector_health.c.connector == connector
        connection.execute(update(connector_health).where(where).values(**values))


def _keep_newest(connection: Connection, connector: str) -> None:
    own = connection_tests.c.connector == connector
    newest = select(connection_tests.c.test_id).where(own).order_by(connection_tests.c.test_id.desc())
    oldest_kept = newest.offset(_MOST_KEPT - 1).limit(1).scalar_subquery()
    connection.execute(delete(connection_tests).where(own, connection_tests.c.test_id < oldest_kept))
