"""A fresh MariaDB database for one test: who writes to it, and connectors and destinations on it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
from pymysql.connections import Connection

from atlas_etl import values
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection
from atlas_etl.connectors.sql._mysql.reader import MySQLConnector
from atlas_etl.connectors.sql._mysql.writer import MySQLDestination
from atlas_etl.model import (
    BatchLimits,
    Checkpoint,
    CursorValue,
    Disposition,
    LoadPlan,
    LoadResult,
    ReadRequest,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import conform, evolve
from tests.servers import ServerAddress
from tests.servers.mysql import connect


@dataclass
class Database:
    """The database, as the server's root or as one of its accounts."""

    address: ServerAddress

    def config(self, **more: object) -> MySQLConnection:
        server = self.address
        settings = {
            "host": server.host, "port": server.port, "database": server.database,
            "username": server.username, "password": server.password, **more,
        }  # fmt: skip
        return MySQLConnection.model_validate(settings)

    def connector(self, **more: object) -> MySQLConnector:
        return MySQLConnector(self.config(**more), protocol="mysql")

    def destination(self, **more: object) -> MySQLDestination:
        return MySQLDestination(self.config(**more))

    @contextmanager
    def client(self) -> Iterator[Connection]:
        """A client of somebody else, in autocommit mode."""
        with connect(self.address) as client:
            yield client

    def execute(self, *statements: str) -> None:
        with self.client() as client, client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.client() as client, client.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    @contextmanager
    def account(self, *grants: str) -> Iterator[Database]:
        """The same database, as an account that was granted only these, e.g. `SELECT ON {}.people`."""
        name, password = f"atlas_{secrets.token_hex(4)}", secrets.token_hex(8)
        who = f"'{name}'@'127.0.0.1'"
        self.execute(f"CREATE USER {who} IDENTIFIED BY '{password}'")
        self.execute(*(f"GRANT {grant.format(f'`{self.address.database}`')} TO {who}" for grant in grants))
        try:
            yield Database(replace(self.address, username=name, password=password))
        finally:
            self.execute(f"DROP USER {who}")


def read(connector: MySQLConnector, stream: Stream, since: CursorValue | None = None) -> pa.Table:
    """Every row of a stream."""
    return read_all(connector, stream, since)[0]


def read_all(
    connector: MySQLConnector,
    stream: Stream,
    since: CursorValue | None = None,
    limits: BatchLimits | None = None,
) -> tuple[pa.Table, Checkpoint | None, dict[str, int]]:
    """Every row of a stream, how far they reach, and what became NULL."""
    with connector.open(ReadRequest(stream, since=since, limits=limits or BatchLimits())) as extract:
        table = pa.Table.from_batches(list(extract.batches()), extract.schema)
        return table, extract.checkpoint(), dict(extract.nulled())


def load(
    destination: MySQLDestination,
    batches: Sequence[pa.RecordBatch],
    disposition: Disposition = Disposition.APPEND,
    *,
    into: TableName,
    checkpoint: Checkpoint | None = None,
    **more: object,
) -> LoadResult:
    """A load as the pipeline drives it."""
    state = destination.inspect("shop", "orders", into)
    schema, changes = evolve(state.schema, batches[0].schema, destination.storable)
    settings = {"primary_key": (), "cursor": None, "changes": changes, **more}
    plan = LoadPlan("run-1", "shop", "orders", into, disposition, schema, **settings)
    with destination.begin(plan) as session:
        for batch in batches:
            session.write(conform(batch, plan.schema))
        return session.commit(checkpoint)


def texts(table: pa.Table, column: str) -> list[str | None]:
    """A column's cells as text."""
    return list(values.to_text(table.column(column).combine_chunks()).to_pylist())
