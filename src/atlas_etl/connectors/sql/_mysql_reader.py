"""Reading MySQL and MariaDB: the dialect of its SELECTs, one consistent snapshot, and the connector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.examined import told
from atlas_etl.connectors.sql._checksums import CellText, form_of
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime
from atlas_etl.connectors.sql._late import OpenWriters
from atlas_etl.connectors.sql._mysql_catalog import (
    CatalogTable,
    every_table,
    find_table,
    json_columns,
    table_names,
)
from atlas_etl.connectors.sql._mysql_columns import bound_as, native_name, source_column
from atlas_etl.connectors.sql._mysql_connection import MySQLConnection, Server
from atlas_etl.connectors.sql._mysql_errors import quoted
from atlas_etl.connectors.sql._mysql_examined import MySQLLook, bound, open_transactions
from atlas_etl.connectors.sql._mysql_open_writers import WriterProbe
from atlas_etl.connectors.sql._mysql_parameters import Parameter
from atlas_etl.connectors.sql._mysql_ranges import SNAPSHOT, RangesRead, alike, conditions
from atlas_etl.connectors.sql._mysql_session import READING, Session, version_of
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.connectors.sql._source import (
    READ_IN_ORDER,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    found_before,
    subquery,
    table_not_found,
)
from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.model import (
    BatchLimits,
    ConnectionStatus,
    CursorKind,
    CursorValue,
    Severity,
    Stream,
    StreamInfo,
    TableName,
)

_UNLOCKED = ("lock_timeout", "permission_denied")
_ROUNDING = timedelta(seconds=1)  # columns with whole seconds may round what they are given

# MySQL has server_uuid, MariaDB server_uid since 10.5.26; the others are for older ones.
_SERVER = """
SHOW GLOBAL VARIABLES
WHERE Variable_name IN ('server_uuid', 'server_uid', 'hostname', 'port', 'datadir')"""


class MySQLChecksums:
    """A row longer than max_allowed_packet has no checksum; neither have FLOAT and DOUBLE an exact text."""

    def cell(self, select: str, native: str, kind: pa.DataType) -> CellText | None:
        form = form_of(kind)
        if form is None or pa.types.is_floating(kind) or native.startswith("bit"):
            return None
        if pa.types.is_timestamp(kind):
            # An instant is stored as a DATETIME in UTC, as which the session shows a TIMESTAMP.
            return CellText("timestamp", f"DATE_FORMAT({select}, '%Y-%m-%d %H:%i:%s.%f')")
        if pa.types.is_time(kind):
            return CellText(form, f"TIME_FORMAT({select}, '%H:%i:%s.%f')")
        if pa.types.is_binary(kind):
            return CellText(form, f"HEX({select})")
        return CellText(form, f"CONVERT({select} USING utf8mb4)")

    def select(self, cells: Sequence[str], rows: str) -> str:
        text = ", ".join(f"COALESCE(CONCAT(CHAR_LENGTH({cell}), ':', {cell}), '-')" for cell in cells)
        return (
            "SELECT LEFT(m, 3) AS bucket, CAST(COUNT(*) AS CHAR) AS n, "
            "CAST(SUM(CAST(CONV(RIGHT(m, 16), 16, 10) AS DECIMAL(20, 0))) AS CHAR) AS total "
            f"FROM (SELECT MD5(CONCAT({text})) AS m FROM {rows}) AS hashed GROUP BY LEFT(m, 3)"
        )


class ReaderDialect:
    """How MySQL writes a SELECT."""

    checksums = MySQLChecksums()

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        parameter: Parameter = value.text
        if value.kind is CursorKind.INTEGER:
            parameter = int(value.text)
        elif value.kind is CursorKind.FLOAT:
            parameter = float(value.text)
        elif value.kind is CursorKind.DECIMAL:
            parameter = Decimal(value.text)
        elif value.kind in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ):
            parameter = value.text.removesuffix("Z").replace("T", " ")
        return bound_as(column), parameter

    def in_order(self, sql: str, column: SourceColumn) -> str:
        return f"{sql} ORDER BY {self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class MySQLSnapshot(OneFetchAtATime):
    """One read-only transaction that sees what was committed when it began (_source.Snapshot)."""

    def __init__(self, session: Session, server: Server, writers: Writers | None = None) -> None:
        """`writers` were looked for before; without them, whoever looks does not ask for late rows."""
        self._session = session
        self._server = server
        self._database = server.config.database
        self._kind = server.kind
        session.run(SNAPSHOT)
        self._writers = writers
        self._stack = ExitStack()
        self._others: list[Session] = []  # which see what this one sees of the table that is read
        self._ranges: RangesRead | None = None
        ((now, folds, version),) = session.rows(
            "SELECT UTC_TIMESTAMP(6), @@lower_case_table_names, VERSION()"
        )
        self._taken = cast(datetime, now).replace(tzinfo=UTC)
        self._folds_case = bool(folds)
        session.version = version_of(version)

    def interrupt(self) -> None:
        if self._ranges is not None:
            self._ranges.interrupt(self._kind("the read was interrupted", code="interrupted"))
        self._session.hang_up()

    def end(self) -> None:
        """End what is read, and give the other sessions back; the first one is not ours to close."""
        self.close()
        self._stack.close()

    def forecast(self, select: Select) -> Forecast:
        # https://dev.mysql.com/doc/refman/8.4/en/explain-output.html: `rows` stands before `filtered`, which
        # MariaDB has not, and `Extra`.
        steps = self._session.rows(f"EXPLAIN {select.sql}", parameters_of(select))
        place = -2 if self._session.is_mariadb else -3
        counts = [int(str(step[place])) for step in steps if step[place] is not None]
        # With a long column it sorts keys and then seeks each row again, at five times the cost of a scan.
        sorts = any("filesort" in str(step[-1]) for step in steps)
        return Forecast(max(counts, default=None), None if sorts else READ_IN_ORDER)

    def open_writers(self) -> OpenWriters:
        writers = self._writers or Writers(self._taken, visible=True, replica=False)
        wrote = (writers.began - _ROUNDING).replace(microsecond=0)
        return OpenWriters(writers.began, wrote, self._taken, writers.unproven)

    def place(self) -> str:
        return f"mysql {sorted(self._session.rows(_SERVER))}"

    def tables(self) -> list[CatalogTable]:
        return every_table(self._session.rows, self._database)

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            sql = subquery(stream)
            described = self._session.describe(f"SELECT * FROM {sql}")
            columns = (source_column(column, native_name(column), True) for column in described)
            return Relation(sql, tuple(columns))
        table = self._find(stream)
        names = ", ".join(quoted(column.name) for column in table.columns)
        with found_before(stream):
            described = self._session.describe(f"SELECT {names or '*'} FROM {table.sql}")
        is_json = json_columns(self._session.rows, table) if self._session.is_mariadb else frozenset()
        ranges, unsplit = self._parted(table, stream.partitions)
        return Relation(
            table.sql,
            tuple(
                source_column(wire, column.native, column.nullable, is_json=column.name in is_json)
                for wire, column in zip(described, table.columns, strict=True)
            ),
            primary_key=table.primary_key,
            estimated_rows=table.estimated_rows,
            table=TableName(table.name, table.schema),
            ranges=ranges,
            unsplit=unsplit,
        )

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        if select.ranges and all(session.is_open for session in self._others):
            self._ranges = RangesRead(self._others, select, limits, _rows)
            return self._ranges.batches()
        return _rows(self._session, select, limits)

    def _parted(self, table: CatalogTable, count: int) -> tuple[tuple[str, ...], str | None]:
        """The table's ranges, with a session for each that sees what this one sees of it."""
        if count == 1:
            return (), None
        ranges, unsplit = conditions(self._session.rows, table, count)
        if ranges:
            sessions = alike(self._server, self._session, table, len(ranges))
            try:
                self._others = self._stack.enter_context(sessions)
            except AtlasError as failure:
                if failure.code not in _UNLOCKED:
                    raise
                return (), f"it cannot be locked for a moment ({failure.message})"
        return ranges, unsplit

    def _find(self, stream: Stream) -> CatalogTable:
        wanted, rows = stream.table or "", self._session.rows
        table = find_table(rows, wanted, self._database, folds_case=self._folds_case)
        if table is None:
            raise table_not_found(wanted, table_names(rows, self._database), stream.name)
        return table


def _rows(session: Session, select: Select, limits: BatchLimits) -> Batches:
    schema = pa.schema([column.field for column in select.columns])
    for batch, cells in session.stream(select.sql, parameters_of(select), limits):
        columns = [_as_described(*each) for each in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema), cells


def _as_described(column: pa.Array, field: pa.Field) -> pa.Array:
    """The column in the type that the catalog told before; a statement that waited may find another one."""
    try:
        # Arrow would make numbers of instants, and times of day.
        counts_as = [
            (pa.types.is_temporal(kind), pa.types.is_time(kind)) for kind in (column.type, field.type)
        ]
        if pa.string() in (column.type, field.type) or counts_as[0] == counts_as[1]:
            return values.convert(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    raise SourceError(
        f"column {field.name!r} was {values.type_name(field.type)} and is {values.type_name(column.type)}: "
        "its table was changed while it was read",
        hint="run again when the other job is done",
        code="table_rewritten",
        column=field.name,
        retryable=True,
    )


def parameters_of(select: Select) -> list[Parameter]:
    """What `ReaderDialect.bound` gave."""
    return [p for p in select.parameters if isinstance(p, int | float | str | Decimal)]


class MySQLConnector(SqlConnector[MySQLConnection]):
    """Reads a MySQL or MariaDB server."""

    dialect = ReaderDialect()

    def __init__(self, config: MySQLConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._server = Server(config, SourceError)
        self._probe = WriterProbe()

    @contextmanager
    def snapshot(self) -> Iterator[MySQLSnapshot]:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            snapshot = MySQLSnapshot(session, self._server, writers)
            try:
                yield snapshot
            finally:
                snapshot.end()

    def look(self, *, first: bool) -> AbstractContextManager[MySQLSnapshot] | None:
        # InnoDB's list of writers would have to be read for each look, which it renews too seldom for that.
        return self._look() if first else None

    @contextmanager
    def _look(self) -> Iterator[MySQLSnapshot]:
        with session_of(self._server) as session:
            yield MySQLSnapshot(session, self._server)
        self._probe.forget()  # who writes has to be looked for after this

    @contextmanager
    def looking(self) -> Iterator[MySQLLook]:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            bound(session)
            snapshot = MySQLSnapshot(session, self._server, writers)
            yield MySQLLook(session, self.dialect, snapshot.relation, writers)

    def test(self) -> ConnectionStatus:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            tables = MySQLSnapshot(session, self._server, writers).tables()
            transactional = {
                str(name)
                for (name,) in session.rows(
                    "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'"
                )
            }
            ((account,),) = session.rows("SELECT CURRENT_USER()")
            seen = open_transactions(writers, str(account))
            doubts = [told(seen)] if seen.severity is Severity.WARNING else []
            warnings = [*doubts, *_no_snapshot(tables, transactional)]
            return ConnectionStatus(
                f"{len(tables)} tables and views can be read{self.config.way}",
                session.version,
                tuple(warnings),
            )

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return [table.stream_info(self.config.database) for table in snapshot.tables()]

    def close(self) -> None:
        """Snapshots close their own connections."""
        self._server.close()


@contextmanager
def session_of(server: Server) -> Iterator[Session]:
    """A session that reads, closed when the block is left."""
    session = Session(server, sql_mode=READING)
    try:
        yield session
    finally:
        session.close()


def _no_snapshot(tables: Sequence[CatalogTable], transactional: set[str]) -> Iterator[str]:
    found = [table for table in tables if not table.is_view and table.engine not in transactional]
    if found:
        names = ", ".join(f"{table.name} ({table.engine})" for table in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        yield f"no snapshot can be taken of {names}{more}: rows that change during a sync may be missed"
