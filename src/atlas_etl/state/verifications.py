"""The VerificationStore (see contracts) in a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from atlas_etl.model import Verification
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.records import verification_of, verification_values
from atlas_etl.state.schema import verifications

_MOST_KEPT = 1000  # of each connector: three years of a daily verify of one stream


class SqlVerifications:
    """The results of `connector verify`; `SqlStateStore.verifications` gives it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, verification: Verification) -> None:
        with self._database.writing() as connection:
            connection.execute(insert(verifications).values(**verification_values(verification)))
            _keep_newest(connection, verification.connector)

    def verifications(
        self, connector: str | None = None, *, since: datetime | None = None, limit: int = 20
    ) -> Sequence[Verification]:
        found = verifications.c
        query = select(verifications).order_by(found.verification_id.desc()).limit(max(limit, 0))
        if connector is not None:
            query = query.where(found.connector == connector)
        if since is not None:
            query = query.where(found.verified_at >= since)
        with self._database.reading() as connection, reading_content(self._database.name):
            return [verification_of(row) for row in connection.execute(query)]

    def count(self, connector: str | None = None) -> int:
        query = select(func.count()).select_from(verifications)
        if connector is not None:
            query = query.where(verifications.c.connector == connector)
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def latest(self) -> Sequence[Verification]:
        found = verifications.c
        newest = select(func.max(found.verification_id)).group_by(found.connector, found.stream)
        query = select(verifications).where(found.verification_id.in_(newest))
        with self._database.reading() as connection, reading_content(self._database.name):
            latest = [verification_of(row) for row in connection.execute(query)]
        return sorted(latest, key=lambda each: (each.connector, each.stream))

    def prune(self, before: datetime) -> None:
        """Delete the results of before this instant."""
        with self._database.writing() as connection:
            connection.execute(delete(verifications).where(verifications.c.verified_at < before))


def _keep_newest(connection: Connection, connector: str) -> None:
    own = verifications.c.connector == connector
    newest = select(verifications.c.verification_id).where(own)
    oldest_kept = newest.order_by(verifications.c.verification_id.desc()).offset(_MOST_KEPT - 1).limit(1)
    old = verifications.c.verification_id < oldest_kept.scalar_subquery()
    connection.execute(delete(verifications).where(own, old))
