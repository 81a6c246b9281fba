"""The two databases that can hold the state: what differs between SQLite and PostgreSQL, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Executable,
    FromClause,
    Table,
    Text,
    cast,
    event,
    extract,
    func,
    literal,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from atlas_etl.state.column_types import UtcDateTime
from atlas_etl.state.failures import state_error
from atlas_etl.state.holder import has_ended, this_process
from atlas_etl.state.lease import LeaseRecord
from atlas_etl.state.schema import SCHEMA

_WRITING = "atlas_writing"


class EachStream(Struct, frozen=True):
    """A run's list of streams as a table: a row for each. `name` is a JSON list that begins with it."""

    table: FromClause
    name: ColumnElement[str]
    rows_loaded: ColumnElement[int]
    rows_quarantined: ColumnElement[int]


class Database(ABC):
    """An engine, with the name that messages use; its errors come out as StateError."""

    schema: str | None

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writer = engine.execution_options(**{_WRITING: True})

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that only looks."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise state_error(error, self.name) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that waits for other writers and never for ever; an exception undoes it."""
        try:
            with self._writer.begin() as connection:
                self._bound_waits(connection)
                yield connection
        except SQLAlchemyError as error:
            raise state_error(error, self.name) from error

    @abstractmethod
    def upsert(self, table: Table, values: Mapping[str, object], keys: Sequence[str]) -> Executable:
        """Insert a row, or overwrite the one with the same keys."""

    @abstractmethod
    def insert_if_absent(self, table: Table, values: Mapping[str, object]) -> Executable:
        """Insert a row unless its primary key is there."""

    @abstractmethod
    def now(self) -> ColumnElement[datetime]:
        """The clock that all who share this database share."""

    @abstractmethod
    def seconds_between(
        self, earlier: ColumnElement[datetime], later: ColumnElement[datetime]
    ) -> ColumnElement[float]:
        """At milliseconds at least."""

    @abstractmethod
    def each_stream(self, streams: ColumnElement[object]) -> EachStream:
        """The streams of runs, whatever their texts hold."""

    @abstractmethod
    def clock(self) -> float:
        """Seconds that pass for a holder as they pass for whoever judges its lease."""

    @abstractmethod
    def is_dead(self, lease: LeaseRecord) -> bool:
        """Whether this lease may be taken from its holder."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Wait until nobody else makes or upgrades the tables, until this transaction ends."""

    @abstractmethod
    def lock_table(self, connection: Connection, table: Table) -> None:
        """Wait until nobody else writes to a table, until this transaction ends; readers go on."""

    @abstractmethod
    def lock_name(self, connection: Connection, name: str, *, longest_wait: float) -> None:
        """Wait until nobody else has locked this name; it is locked until this transaction ends."""

    @abstractmethod
    def _bound_waits(self, connection: Connection) -> None:
        """Keep this transaction from waiting for ever."""


class SqliteDatabase(Database):
    """A file, or memory. Writers queue for the whole file (BEGIN IMMEDIATE, busy timeout)."""

    schema = None

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(engine, name)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)

    def upsert(self, table: Table, values: Mapping[str, object], keys: Sequence[str]) -> Executable:
        statement = sqlite.insert(table).values(**values)
        return statement.on_conflict_do_update(index_elements=keys, set_=dict(values))

    def insert_if_absent(self, table: Table, values: Mapping[str, object]) -> Executable:
        return sqlite.insert(table).values(**values).on_conflict_do_nothing()

    def now(self) -> ColumnElement[datetime]:
        return literal(datetime.now(UTC), UtcDateTime())

    def seconds_between(
        self, earlier: ColumnElement[datetime], later: ColumnElement[datetime]
    ) -> ColumnElement[float]:
        return (func.julianday(later, type_=Double()) - func.julianday(earlier, type_=Double())) * 86400

    def each_stream(self, streams: ColumnElement[object]) -> EachStream:
        table = func.json_each(streams).table_valued("value")
        return EachStream(
            table,
            # Of two paths SQLite gives a list of JSON, in which every escape stays as it is.
            func.json_extract(table.c.value, "$.name", "$.name", type_=Text()),
            func.json_extract(table.c.value, "$.rows_loaded", type_=BigInteger()),
            func.json_extract(table.c.value, "$.rows_quarantined", type_=BigInteger()),
        )

    def clock(self) -> float:
        return time.monotonic()

    def is_dead(self, lease: LeaseRecord) -> bool:
        """On the holder's own host its process and the time since boot tell; the wall clock may jump."""
        here = this_process()
        if has_ended(lease.holder, here):
            return True
        if lease.holder.shares_clock_with(here):
            return time.monotonic() - lease.heartbeat_tick > lease.expiry_seconds
        return lease.silent_too_long()

    def lock_schema(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE is that lock."""

    def lock_table(self, connection: Connection, table: Table) -> None:
        """BEGIN IMMEDIATE is that lock, too."""

    def lock_name(self, connection: Connection, name: str, *, longest_wait: float) -> None:
        """Processes that share a file are on one host, which has locks of its own."""

    def _bound_waits(self, connection: Connection) -> None:
        """The busy timeout of every connection does."""


class PostgresDatabase(Database):
    """A schema in a database. A lease is taken under a lock of its row and judged by the server's clock."""

    schema = SCHEMA

    def upsert(self, table: Table, values: Mapping[str, object], keys: Sequence[str]) -> Executable:
        from sqlalchemy.dialects import postgresql  # costs 0.1 s, which users of SQLite need not pay

        statement = postgresql.insert(table).values(**values)
        return statement.on_conflict_do_update(index_elements=keys, set_=dict(values))

    def insert_if_absent(self, table: Table, values: Mapping[str, object]) -> Executable:
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).values(**values).on_conflict_do_nothing()

    def now(self) -> ColumnElement[datetime]:
        return func.clock_timestamp(type_=UtcDateTime())  # now() would be the transaction's start

    def seconds_between(
        self, earlier: ColumnElement[datetime], later: ColumnElement[datetime]
    ) -> ColumnElement[float]:
        return cast(extract("epoch", later - earlier), Double)

    def each_stream(self, streams: ColumnElement[object]) -> EachStream:
        """Cut out of the text, of which `records` is the writer: PostgreSQL looks into no JSON with an escape
        that its text cannot hold, and patterns take several times as long. No value of a string has a quote
        without a backslash before it, so the marks are found nowhere else.
        """
        table = func.json_array_elements(streams).table_valued("value")
        written = cast(table.c.value, Text)

        def count_after(mark: str) -> ColumnElement[int]:
            number = func.split_part(func.split_part(written, mark, 2), ",", 1)
            return cast(func.nullif(number, ""), BigInteger)

        name = func.substr(func.split_part(written, ', "status": "', 1), len('{"name": ') + 1)
        return EachStream(
            table,
            literal("[").op("||")(name).op("||")(literal("]")),
            count_after('"rows_loaded": '),
            count_after('"rows_quarantined": '),
        )

    def clock(self) -> float:
        """The server's clock goes on while this machine sleeps, and so must this one."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def is_dead(self, lease: LeaseRecord) -> bool:
        """Only silence tells: hosts cloned from one snapshot share boot ids, so a pid proves nothing here."""
        return lease.silent_too_long()

    def lock_schema(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('atlas_etl.state', 0))"))

    def lock_table(self, connection: Connection, table: Table) -> None:
        quote = connection.dialect.identifier_preparer.quote
        connection.execute(
            text(f"LOCK TABLE {quote(self.schema)}.{quote(table.name)} IN SHARE ROW EXCLUSIVE MODE")
        )

    def lock_name(self, connection: Connection, name: str, *, longest_wait: float) -> None:
        bounds = text(
            "SELECT set_config('lock_timeout', :wait, true), set_config('statement_timeout', '0', true),"
            " set_config('idle_in_transaction_session_timeout', '0', true)"
        )
        connection.execute(bounds, {"wait": f"{longest_wait:.0f}s"})
        taken = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        connection.execute(taken, {"name": f"atlas_etl.{name}"})

    def _bound_waits(self, connection: Connection) -> None:
        connection.execute(
            text(
                "SELECT set_config('lock_timeout', '15s', true),"
                " set_config('statement_timeout', '60s', true),"
                " set_config('idle_in_transaction_session_timeout', '60s', true)"
            )
        )


def _configure_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Leave BEGIN to us; log ahead, so that readers and a writer do not wait for each other.

    Not every commit is fsynced: a power cut may cost the last lines of history.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # The busy timeout does not cover this statement; who holds the lock is making the same change.
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
