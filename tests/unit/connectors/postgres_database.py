"""A fresh PostgreSQL database for one test: who writes to it, and connectors and destinations on it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pyarrow as pa
from psycopg import sql

from atlas_etl import values
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.reader import PostgresConnector
from atlas_etl.connectors.sql._postgresql.writer import PostgresDestination
from atlas_etl.model import BatchLimits, Checkpoint, CursorValue, ReadRequest, Stream
from tests.servers import ServerAddress
from tests.servers.postgres import connect


@dataclass
class Database:
    """The database, as its superuser or as one of its roles."""

    address: ServerAddress
    opened: list[PostgresConnector | PostgresDestination] = field(default_factory=list)

    def config(self, **more: object) -> PostgresConnection:
        server = self.address
        settings = {
            "host": server.host, "port": server.port, "database": server.database,
            "username": server.username, "password": server.password, **more,
        }  # fmt: skip
        return PostgresConnection.model_validate(settings)

    def connector(self, **more: object) -> PostgresConnector:
        made = PostgresConnector(self.config(**more), protocol="postgresql")
        self.opened.append(made)
        return made

    def destination(self, **more: object) -> PostgresDestination:
        made = PostgresDestination(self.config(**more))
        self.opened.append(made)
        return made

    def session(self) -> psycopg.Connection:
        """A session of somebody else, in autocommit mode."""
        return connect(self.address)

    def execute(self, *statements: str) -> None:
        with self.session() as session:
            for statement in statements:
                session.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.session() as session:
            return session.execute(query.encode()).fetchall()

    @contextmanager
    def role(self) -> Iterator[Database]:
        """The same database, as a role that nothing was granted to."""
        name, password = f"atlas_role_{secrets.token_hex(4)}", secrets.token_hex(8)
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), password)
        with self.session() as session:
            session.execute(made)
        server = self.address
        as_role = Database(ServerAddress(server.host, server.port, name, password, server.database))
        try:
            yield as_role
        finally:
            as_role.close()
            with self.session() as session:
                for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                    session.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def close(self) -> None:
        for made in self.opened:
            made.close()


def read(connector: PostgresConnector, stream: Stream, since: CursorValue | None = None) -> pa.Table:
    """Every row of a stream."""
    return read_all(connector, stream, since)[0]


def read_all(
    connector: PostgresConnector,
    stream: Stream,
    since: CursorValue | None = None,
    limits: BatchLimits | None = None,
) -> tuple[pa.Table, Checkpoint | None, dict[str, int]]:
    """Every row of a stream, how far they reach, and what became NULL."""
    with connector.open(ReadRequest(stream, since=since, limits=limits or BatchLimits())) as extract:
        table = pa.Table.from_batches(list(extract.batches()), extract.schema)
        return table, extract.checkpoint(), dict(extract.nulled())


def texts(table: pa.Table, column: str) -> list[str | None]:
    """A column's cells as text."""
    found = table.column(column).combine_chunks()
    return list(values.to_text(found).to_pylist())
