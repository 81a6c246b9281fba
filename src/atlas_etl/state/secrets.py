"""The shelf of a project whose hosts share a database: a table of sealed secrets, one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from sqlalchemy import Connection, delete, select

from atlas_etl.config.recorded import secret_changes
from atlas_etl.model import SealedSecret
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.schema import secrets


class SecretTable:
    """A SecretShelf (see contracts) in the state store."""

    def __init__(self, database: Database, audit: SqlAuditLog) -> None:
        self._database = database
        self._audit = audit

    def sealed(self) -> Mapping[str, SealedSecret]:
        with self._database.reading() as connection:
            return sealed_secrets(self._database, connection)

    @contextmanager
    def changing(self) -> Iterator[MutableMapping[str, SealedSecret]]:
        with self._database.writing() as connection:
            self._database.lock_table(connection, secrets)
            before = sealed_secrets(self._database, connection)
            after = dict(before)
            yield after
            for name in before.keys() - after.keys():
                connection.execute(delete(secrets).where(secrets.c.name == name))
            for name, found in after.items():
                if before.get(name) != found:
                    values = {
                        "name": name,
                        "key_id": found.key_id,
                        "token": found.token,
                        "updated_at": found.updated_at,
                    }
                    connection.execute(self._database.upsert(secrets, values, ["name"]))
            self._audit.add(connection, secret_changes(before, after))


def sealed_secrets(database: Database, connection: Connection) -> dict[str, SealedSecret]:
    """By their names."""
    with reading_content(database.name):
        return {
            row.name: SealedSecret(row.key_id, bytes(row.token), row.updated_at)
            for row in connection.execute(select(secrets))
        }
