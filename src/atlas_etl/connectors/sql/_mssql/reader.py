"""Reading SQL Server: the dialect of its SELECTs, one snapshot of its rows, and the connector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Literal

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime
from atlas_etl.connectors.sql._late import UNSEEN_LAG, OpenWriters
from atlas_etl.connectors.sql._mssql.catalog import described, every_table, find_table, table_names
from atlas_etl.connectors.sql._mssql.connection import MSSQLConnection, Server
from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.open_writers import NOW, instant, probe, seen
from atlas_etl.connectors.sql._mssql.session import Session
from atlas_etl.connectors.sql._mssql.types import MSSQLColumn, family, source_column
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.connectors.sql._source import (
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    subquery,
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

# One snapshot of all statements, one of each statement, or none:
# https://learn.microsoft.com/sql/relational-databases/sql-server-transaction-locking-and-row-versioning-guide.
Isolation = Literal["snapshot", "statement", "locks"]
_ALIAS = "atlas_query"  # of what stands after FROM
_ISOLATION = """
SELECT snapshot_isolation_state, CAST(is_read_committed_snapshot_on AS int) FROM sys.databases
WHERE database_id = DB_ID()"""
_PLACE = """
SELECT CONVERT(nvarchar(256), SERVERPROPERTY('ServerName')), DB_NAME(), CONVERT(varchar(33), create_date, 126)
FROM sys.databases WHERE database_id = DB_ID()"""
_VERSION = """
SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')),
  CONVERT(nvarchar(128), SERVERPROPERTY('Edition')), DB_NAME(), SUSER_SNAME()"""
_WEAKER = {
    "statement": "the database does not allow snapshot isolation: each statement sees a moment of its own",
    "locks": "the database does not allow snapshot isolation: rows that change or move while they are read "
    "may be missed or read twice",
}
_ALLOW = "ALTER DATABASE {name} SET ALLOW_SNAPSHOT_ISOLATION ON"
_ORDERED = frozenset({
    CursorKind.INTEGER, CursorKind.DECIMAL, CursorKind.DATE, CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ,
})  # fmt: skip
_DIGITS = {"datetime": 3, "smalldatetime": 0}  # of a second, that the type's literals may have


class ReaderDialect:
    """How SQL Server writes a SELECT. Values stand in it as literals of the column's own type."""

    checksums = None  # what it hashes is no text that another system would hash alike
    subqueries_keep_names = True

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        kind, size, _ = family(column.native)
        if value.kind is CursorKind.TEXT:
            collation = column.collation if isinstance(column, MSSQLColumn) else None
            collated = f" COLLATE {collation}" if collation else ""
            # As the column's own kind of text: SQL collations order varchar and nvarchar differently.
            into = "nvarchar(max)" if kind.startswith("n") else "varchar(max)"
            return f"CAST({literal(value.text)}{collated} AS {into})", value.text
        if kind in ("timestamp", "rowversion"):
            # It is no number to the server, and a negative one's bytes would be the greatest.
            return f"CAST(CAST({max(int(value.text), 0)} AS bigint) AS binary(8))", value.text
        text = value.text
        if value.kind in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ):
            digits = _DIGITS.get(kind, int(size or 7))
            text = _with_digits(text.removesuffix("Z"), digits) + ("Z" if text.endswith("Z") else "")
        return f"CAST({literal(text)} AS {column.native})", value.text

    def in_order(self, sql: str, column: SourceColumn) -> str:
        # By the column and not by its wire form, which has the same name in the result.
        return f"{sql} ORDER BY {_ALIAS}.{self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"SELECT TOP ({rows}) {sql.removeprefix('SELECT ')}"


class MSSQLSnapshot(OneFetchAtATime):
    """One transaction that sees what was committed when it first read rows (_source.Snapshot)."""

    def __init__(self, session: Session, config: MSSQLConnection, writers: Writers) -> None:
        self._session = session
        self._config = config
        self._writers = writers
        self.isolation = isolation_of(session)
        self._taken = writers.began
        if self.isolation == "snapshot":
            session.run("SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION")

    def place(self) -> str:
        return f"mssql {self._session.rows(_PLACE)}"

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            sql = subquery(stream)
            # By itself it has to be whole as well: nothing in it ends the parentheses that it is put in.
            described(self._session.rows, (stream.query or "").strip().rstrip(";"), stream.name)
            columns = self._columns(f"SELECT * FROM {sql}", stream)
            relation = Relation(sql, columns, caveat=_WEAKER.get(self.isolation))
        else:
            table = find_table(self._session.rows, stream.table, self._config.default_schema)
            if table is None:
                names = table_names(self._session.rows, self._config.default_schema)
                raise table_not_found(stream.table, names, stream.name)
            sql = f"{table.sql} AS {_ALIAS}"
            relation = Relation(
                sql,
                self._columns(f"SELECT * FROM {sql}", stream),
                primary_key=table.primary_key,
                estimated_rows=None if table.is_view else table.estimated_rows,
                table=TableName(table.name, table.schema),
                unsplit="SQL Server has no snapshot that sessions share" if stream.connections > 1 else None,
                caveat=_WEAKER.get(self.isolation),
            )
        self._take(sql, stream)
        return relation

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        return self._session.stream(select.sql, select.columns, limits)

    def interrupt(self) -> None:
        self._session.hang_up()

    def forecast(self, select: Select) -> Forecast:  # noqa: ARG002
        return Forecast(None, SORTED)  # its plans may only be seen with rights that few logins have

    def open_writers(self) -> OpenWriters:
        # Without a snapshot, rows of the next minutes may be read as well, whose writers are not seen here.
        late_by = timedelta() if self.isolation == "snapshot" else UNSEEN_LAG
        return seen(self._writers, self._taken, late_by=late_by)

    def _columns(self, query: str, stream: Stream) -> tuple[MSSQLColumn, ...]:
        columns = tuple(map(source_column, described(self._session.rows, query, stream.name)))
        for column in columns:
            if column.name == stream.cursor:
                self._require_order(column, stream)
            if column.native == "sql_variant" and stream.reads(column.name):
                raise SourceError(
                    f"column {column.name!r} is a sql_variant, whose values have no common type",
                    hint="leave it out with `exclude`, or read a query that casts it to what it holds",
                    code="unsupported_type",
                    stream=stream.name,
                    column=column.name,
                )
        return columns

    def _take(self, sql: str, stream: Stream) -> None:
        """Read a row, if there is a cursor: the snapshot is of the first read, and has been taken by then."""
        if stream.cursor is not None:
            self._session.rows(f"SELECT TOP (1) 1 AS n FROM {sql}")
            ((now,),) = self._session.rows(NOW)
            self._taken = instant(now)

    def _require_order(self, column: MSSQLColumn, stream: Stream) -> None:
        if column.field.type == pa.uuid():
            raise ConfigError(
                f"column {column.name!r} is a uniqueidentifier, which does not grow with the rows",
                hint="choose a rowversion, a time or a number as the cursor",
                code="cursor_type",
                stream=stream.name,
                column=column.name,
            )
        kind = values.cursor_kind(column.field.type, stream=stream.name, column=column.name)
        if self.isolation != "snapshot" and kind not in _ORDERED:
            raise ConfigError(
                f"column {column.name!r} is a {kind}, whose greatest value only a second statement tells, "
                "and the database does not allow that both see the same rows",
                hint=_ALLOW.format(name=quoted(self._config.database or "DATABASE")),
                code="cursor_type",
                stream=stream.name,
                column=column.name,
            )


def isolation_of(session: Session) -> Isolation:
    """What the database allows. A readable secondary always reads by snapshots."""
    ((state, versions),) = session.rows(_ISOLATION)
    if int(str(state)) == 1:
        return "snapshot"
    return "statement" if versions else "locks"


class MSSQLConnector(SqlConnector[MSSQLConnection]):
    """Reads a SQL Server or an Azure SQL database."""

    dialect = ReaderDialect()

    def __init__(self, config: MSSQLConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._server = Server(config, SourceError)

    @contextmanager
    def snapshot(self) -> Iterator[MSSQLSnapshot]:
        with self._session() as session:
            snapshot = MSSQLSnapshot(session, self.config, probe(session))
            try:
                yield snapshot
            finally:
                snapshot.close()

    def look(self, *, first: bool) -> AbstractContextManager[MSSQLSnapshot] | None:
        return self.snapshot() if first else None

    def test(self) -> ConnectionStatus:
        with self._session() as session:
            writers, isolation = probe(session), isolation_of(session)
            tables = every_table(session.rows)
            ((version, edition, database, login),) = session.rows(_VERSION)
            name, minutes = quoted(str(database)), UNSEEN_LAG.seconds // 60
            warnings = []
            if isolation in _WEAKER:
                warnings.append(f"{_WEAKER[isolation]}: {_ALLOW.format(name=name)}")
            if writers.unproven is not None:
                grant = f"GRANT VIEW SERVER STATE TO {quoted(str(login))}"
                remedy = (
                    "set `lag`" if writers.replica else f"{grant}, in Azure SQL Database VIEW DATABASE STATE"
                )
                warnings.append(
                    f"{writers.unproven}, so rows that are committed more than {minutes} minutes late can be "
                    f"missed: {remedy}"
                )
            found = f"{len(tables)} tables and views can be read{self.config.way}"
            return ConnectionStatus(found, f"SQL Server {version} {edition}", tuple(warnings))

    def discover(self) -> Sequence[StreamInfo]:
        with self._session() as session:
            return [table.stream_info(self.config.default_schema) for table in every_table(session.rows)]

    def close(self) -> None:
        """Snapshots close their own connections."""
        self._server.close()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self._server)
        try:
            yield session
        finally:
            session.close()


def _with_digits(text: str, digits: int) -> str:
    """An ISO time with so many digits of a second at most; the others are cut."""
    whole, _, fraction = text.partition(".")
    kept = fraction[:digits]
    return f"{whole}.{kept}" if kept else whole
