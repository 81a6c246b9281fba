"""One consistent snapshot of MySQL or MariaDB, and what is read in it."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime
from atlas_etl.connectors.sql._late import OpenWriters
from atlas_etl.connectors.sql._mysql.catalog import (
    CatalogTable,
    every_table,
    find_table,
    json_columns,
    table_names,
)
from atlas_etl.connectors.sql._mysql.columns import native_name, source_column
from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.parameters import Parameter
from atlas_etl.connectors.sql._mysql.ranges import SNAPSHOT, RangesRead, alike, conditions
from atlas_etl.connectors.sql._mysql.session import Session, version_of
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.connectors.sql._source import (
    READ_IN_ORDER,
    Forecast,
    Relation,
    Select,
    found_before,
    subquery,
    table_not_found,
)
from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.model import (
    BatchLimits,
    Stream,
    TableName,
)

_UNLOCKED = ("lock_timeout", "permission_denied")
_ROUNDING = timedelta(seconds=1)  # columns with whole seconds may round what they are given

# MySQL has server_uuid, MariaDB server_uid since 10.5.26; the others are for older ones.
_SERVER = """
SHOW GLOBAL VARIABLES
WHERE Variable_name IN ('server_uuid', 'server_uid', 'hostname', 'port', 'datadir')"""


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
        steps = self._session.rows(f"EXPLAIN {select.sql}", _parameters_of(select))
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
        ranges, unsplit = self._parted(table, stream.connections)
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
    for batch, cells in session.stream(select.sql, _parameters_of(select), limits):
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


def _parameters_of(select: Select) -> list[Parameter]:
    """What `ReaderDialect.bound` gave."""
    return [p for p in select.parameters if isinstance(p, int | float | str | Decimal)]
