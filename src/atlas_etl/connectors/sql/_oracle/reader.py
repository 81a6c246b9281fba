"""Reading Oracle: the dialect of its SELECTs, one snapshot of its rows, and the connector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from atlas_etl import values
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime
from atlas_etl.connectors.sql._late import UNSEEN_LAG, OpenWriters
from atlas_etl.connectors.sql._oracle.catalog import every_table, find_table, table_names
from atlas_etl.connectors.sql._oracle.connection import OracleConnection, Server
from atlas_etl.connectors.sql._oracle.literals import (
    literal,
    moment,
    national_literal,
    number,
    quoted,
)
from atlas_etl.connectors.sql._oracle.open_writers import NOW, instant, probe, seen
from atlas_etl.connectors.sql._oracle.session import Session
from atlas_etl.connectors.sql._oracle.types import (
    UNREADABLE,
    Described,
    is_number,
    source_column,
)
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.connectors.sql._source import (
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    table_not_found,
)
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import (
    BatchLimits,
    ConnectionStatus,
    CursorKind,
    CursorValue,
    Stream,
    StreamInfo,
    TableName,
)

_ALIAS = "atlas_query"  # of what stands after FROM, where Oracle allows no AS
_PLACE = """
SELECT SYS_CONTEXT('USERENV', 'DB_UNIQUE_NAME'), SYS_CONTEXT('USERENV', 'CON_NAME'),
  SYS_CONTEXT('USERENV', 'DB_DOMAIN') FROM dual"""
_GRANTED = ("GV_$TRANSACTION", "GV_$SESSION")
_SCHEMA = "SELECT SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') FROM dual"
# What may be a query, behind comments: whatever else is parsed may be run by that (DDL is).
_QUERY = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)


class ReaderDialect:
    """How Oracle writes a SELECT. Values stand in it as literals of the column's own type.

    A value of another type would have the server convert the column, and pass its index by.
    """

    checksums = None  # what it hashes is no text that another system would hash alike
    subqueries_keep_names = True

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        native, text = column.native, value.text
        if is_number(native):
            return number(text), text
        if native == "DATE":
            return f"TO_DATE({literal(_with_digits(text, 0))}, '{moment(0)}')", text
        if native.startswith("TIMESTAMP"):
            plain = f"TO_TIMESTAMP({literal(_with_digits(text.removesuffix('Z'), 9))}, '{moment(9)}')"
            if "TIME ZONE" not in native:
                return plain, text
            zoned = f"FROM_TZ({plain}, '+00:00')"
            # With all digits, whatever the column has: a cast rounds, and so may pass by a row.
            return f"CAST({zoned} AS TIMESTAMP(9) WITH LOCAL TIME ZONE)" if "LOCAL" in native else zoned, text
        return (national_literal if native.startswith("N") else literal)(text), text

    def in_order(self, sql: str, column: SourceColumn) -> str:
        # By the column and not by its wire form, which has the same name in the result.
        return f"{sql} ORDER BY {_ALIAS}.{self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} FETCH FIRST {rows} ROWS ONLY"


class OracleSnapshot(OneFetchAtATime):
    """One read-only transaction: every statement sees what was committed when it began (_source.Snapshot).

    https://docs.oracle.com/en/database/oracle/oracle-database/23/sqlrf/SET-TRANSACTION.html.
    """

    def __init__(self, session: Session, writers: Writers) -> None:
        self._session = session
        self._writers = writers
        session.begin_read_only()
        ((now,),) = session.rows(NOW)
        self._taken = instant(now)

    def place(self) -> str:
        return f"oracle {self._session.rows(_PLACE)}"

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            query = (stream.query or "").strip().rstrip(";")
            if not _QUERY.match(query):
                raise _no_query(stream)
            sql = f"({query}\n) {_ALIAS}"
            relation = Relation(sql, self._columns(sql, stream, stream.primary_key))
            # By itself it has to be whole as well: nothing in it ends the parentheses that it is put in.
            self._session.described(query)
            return relation
        schema = current_schema(self._session)
        table = find_table(self._session.rows, stream.table, schema)
        if table is None:
            raise table_not_found(stream.table, table_names(self._session.rows, schema), stream.name)
        sql = f"{table.sql} {_ALIAS}"
        return Relation(
            sql,
            self._columns(sql, stream, stream.primary_key or table.primary_key),
            primary_key=table.primary_key,
            estimated_rows=None if table.is_view else table.estimated_rows,
            table=TableName(table.name, table.schema),
            unsplit="sessions of Oracle share no snapshot here" if stream.connections > 1 else None,
        )

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        return self._session.stream(select.sql, select.columns, limits)

    def interrupt(self) -> None:
        self._session.interrupt()

    def forecast(self, select: Select) -> Forecast:  # noqa: ARG002
        return Forecast(None, SORTED)  # EXPLAIN PLAN writes a table, which a read-only transaction may not

    def open_writers(self) -> OpenWriters:
        return seen(self._writers, self._taken)

    def _columns(self, sql: str, stream: Stream, key: Sequence[str]) -> tuple[SourceColumn, ...]:
        found = self._session.described(f"SELECT * FROM {sql}")
        for column in found:
            if column.native in UNREADABLE and stream.reads(column.name):
                raise _unreadable(column, stream)
        columns = tuple(
            source_column(column, counts=column.name == stream.cursor or column.name in key)
            for column in found
        )
        for each in columns:
            if each.name == stream.cursor:
                _require_order(each, stream)
        return columns


class OracleConnector(SqlConnector[OracleConnection]):
    """Reads an Oracle database."""

    dialect = ReaderDialect()

    def __init__(self, config: OracleConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._server = Server(config, SourceError)

    @contextmanager
    def snapshot(self) -> Iterator[OracleSnapshot]:
        with self._session() as session:
            snapshot = OracleSnapshot(session, probe(session))
            try:
                yield snapshot
            finally:
                snapshot.close()

    def look(self, *, first: bool) -> AbstractContextManager[OracleSnapshot] | None:
        return self.snapshot() if first else None

    def test(self) -> ConnectionStatus:
        with self._session() as session:
            writers, tables = probe(session), every_table(session.rows)
            warnings = []
            if writers.unproven is not None:
                user, minutes = quoted((self.config.username or "USER").upper()), UNSEEN_LAG.seconds // 60
                grants = "; ".join(f"GRANT SELECT ON SYS.{view} TO {user}" for view in _GRANTED)
                warnings.append(
                    f"{writers.unproven}, so rows that are committed more than {minutes} minutes late can be "
                    f"missed: {'set `lag`' if writers.replica else grants}"
                )
            found = f"{len(tables)} tables and views can be read{self.config.way}"
            return ConnectionStatus(found, f"Oracle {session.version}", tuple(warnings))

    def discover(self) -> Sequence[StreamInfo]:
        with self._session() as session:
            schema = current_schema(session)
            return [table.stream_info(schema) for table in every_table(session.rows)]

    def close(self) -> None:
        """Snapshots close their own connections."""
        self._server.close()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self._server, self.config.default_schema)
        try:
            yield session
        finally:
            session.close()


def current_schema(session: Session) -> str:
    """Of tables that are named without one."""
    ((schema,),) = session.rows(_SCHEMA)
    return str(schema)


def _no_query(stream: Stream) -> SourceError:
    return SourceError(
        "the query is no SELECT",
        hint="write one SELECT, and no other statement",
        code="sql",
        stream=stream.name,
    )


def _unreadable(column: Described, stream: Stream) -> SourceError:
    return SourceError(
        f"column {column.name!r} is of type {column.native}, whose values have no exact text",
        hint="leave it out with `exclude`, or read a query that selects what it holds",
        code="unsupported_type",
        stream=stream.name,
        column=column.name,
    )


def _require_order(column: SourceColumn, stream: Stream) -> None:
    kind = values.cursor_kind(column.field.type, stream=stream.name, column=column.name)
    if kind is CursorKind.FLOAT or (kind is CursorKind.TEXT and is_number(column.native)):
        raise ConfigError(
            f"column {column.name!r} is a {column.native}, of which no literal is exact",
            hint="choose a time or a NUMBER as the cursor",
            code="cursor_type",
            stream=stream.name,
            column=column.name,
        )


def _with_digits(text: str, digits: int) -> str:
    """An ISO time with so many digits of a second; more are cut."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:digits]:0<{digits}}" if digits else whole
