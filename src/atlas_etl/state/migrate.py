"""Bringing a state store to the version this package knows: made new, upgraded, or refused."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, inspect, select
from sqlalchemy.schema import CreateSchema

from atlas_etl.errors import StateError
from atlas_etl.state import schema
from atlas_etl.state.database import Database
from atlas_etl.state.upgrades import UPGRADES


def migrate(database: Database) -> None:
    """Make or upgrade the tables, in one transaction that other processes wait for.

    Raises StateError: `state_newer` where a later version of this package wrote the store,
    `state_foreign` where its tables are somebody else's.
    """
    with database.reading() as connection:
        version = version_of(database, connection)
    if version < schema.SCHEMA_VERSION:
        with database.writing() as connection:
            database.lock_schema(connection)
            version = version_of(database, connection)  # another process may have been faster
            if version == 0:
                _create(database, connection)
            else:
                for step in range(version, schema.SCHEMA_VERSION):
                    UPGRADES[step](connection)
            if version < schema.SCHEMA_VERSION:
                connection.execute(
                    insert(schema.schema_version).values(
                        version=schema.SCHEMA_VERSION, migrated_at=datetime.now(UTC)
                    )
                )
    if version > schema.SCHEMA_VERSION:
        raise StateError(
            f"{database.name} has version {version}, and this atlas-etl knows versions up to "
            f"{schema.SCHEMA_VERSION}",
            hint="upgrade atlas-etl, or name another place for the state",
            code="state_newer",
        )


def version_of(database: Database, connection: Connection) -> int:
    """0: there is nothing yet. Raises StateError (`state_foreign`)."""
    present = set(inspect(connection).get_table_names(schema=database.schema))
    if schema.schema_version.name in present:
        version = connection.scalar(select(func.max(schema.schema_version.c.version)))
        if isinstance(version, int):
            return version
    foreign = sorted(present & {table.name for table in schema.metadata.sorted_tables})
    if foreign:
        raise StateError(
            f"{database.name} has a table {foreign[0]!r} that Atlas did not make",
            hint="name another place for the state",
            code="state_foreign",
        )
    return 0


def _create(database: Database, connection: Connection) -> None:
    if database.schema is not None and not inspect(connection).has_schema(database.schema):
        connection.execute(CreateSchema(database.schema))
    schema.metadata.create_all(connection, checkfirst=False)
