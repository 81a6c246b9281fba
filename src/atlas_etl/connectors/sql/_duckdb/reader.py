"""Reading DuckDB: one transaction, rows as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import duckdb
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.hazards import mask_temporal, temporal_hazards
from atlas_etl.connectors.sql._checksums import CellText, form_of
from atlas_etl.connectors.sql._duckdb.database import (
    DISK_FULL,
    HERE,
    OUT_OF_MEMORY,
    DuckDBConnection,
    connect,
    quote,
    translated,
)
from atlas_etl.connectors.sql._duckdb.examined import DuckDBLook
from atlas_etl.connectors.sql._duckdb.memory import ReadMemory
from atlas_etl.connectors.sql._duckdb.names import schema_sql
from atlas_etl.connectors.sql._duckdb.types import arrow_type
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime, gathered
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._place import place_of_file
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._source import (
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    subquery,
    table_not_found,
)
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    BatchLimits,
    ColumnInfo,
    ConnectionStatus,
    CursorValue,
    Stream,
    StreamInfo,
    TableName,
)

_PIECE_ROWS = 2048  # DuckDB has as many in memory as it is
_TOO_LITTLE = (OUT_OF_MEMORY, DISK_FULL)  # to hold, or to spill; nothing else is written here
_TYPE_PER_VALUE = ("UNION(", "VARIANT")  # which the text of a bound does not tell


class DuckDBChecksums:
    def cell(self, select: str, native: str, kind: pa.DataType) -> CellText | None:  # noqa: ARG002
        form = form_of(kind)
        return CellText(form, f"CAST({select} AS VARCHAR)") if form else None

    def select(self, cells: Sequence[str], rows: str) -> str:
        text = " || ".join(f"coalesce(length({cell}) || ':' || {cell}, '-')" for cell in cells)
        return (
            "SELECT left(m, 3) AS bucket, CAST(count(*) AS VARCHAR) AS n, "
            "CAST(sum(CAST(CAST('0x' || right(m, 16) AS UBIGINT) AS HUGEINT)) AS VARCHAR) AS total "
            f"FROM (SELECT md5({text}) AS m FROM {rows}) AS hashed GROUP BY left(m, 3)"
        )


class ReaderDialect:
    """How DuckDB writes a SELECT."""

    checksums = DuckDBChecksums()
    subqueries_keep_names = True

    def quote(self, identifier: str) -> str:
        return quote(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        return f"CAST(? AS {column.native})", value.text

    def in_order(self, sql: str, column: SourceColumn) -> str:
        return f"{sql} ORDER BY {self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class DuckDBSnapshot(OneFetchAtATime):
    """One transaction of one DuckDB connection (_source.Snapshot); `kind` is what its failures raise."""

    def __init__(self, opened: duckdb.DuckDBPyConnection, kind: Failure) -> None:
        self._opened = opened
        self._kind = kind
        with translated(kind):
            opened.execute("SET SESSION arrow_lossless_conversion = true")
            opened.execute("BEGIN TRANSACTION")

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            sql = subquery(stream)
            self._refuse_several(f"SELECT * FROM {sql}")
            return Relation(sql, self._columns(stream, sql, frozenset()))
        schema, name = self._find(stream)
        ((database,),) = self.rows("SELECT current_database()")
        sql = f"{schema_sql(schema, str(database))}.{quote(name)}"
        with translated(self._kind):
            required = self._opened.execute(
                f"SELECT column_name FROM duckdb_columns() {HERE} AND NOT is_nullable",
                [schema, name],
            ).fetchall()
        return Relation(
            sql,
            self._columns(stream, sql, frozenset(str(row[0]) for row in required)),
            primary_key=self.primary_key(schema, name),
            estimated_rows=self.estimated_rows(schema, name),
            table=TableName(name, schema),
            unsplit="DuckDB reads with all cores as it is" if stream.connections > 1 else None,
        )

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """A statement and its rows."""
        with translated(self._kind):
            return self._opened.execute(sql, list(parameters)).fetchall()

    def _refuse_several(self, sql: str) -> None:
        """A query could else end our statement and begin its own."""
        with translated(self._kind):
            if len(self._opened.extract_statements(sql)) != 1:
                raise self._kind("the query is more than one statement", hint="leave one SELECT", code="sql")

    def interrupt(self) -> None:
        self._opened.interrupt()

    def place(self) -> str | None:
        with translated(self._kind):
            found = self._opened.execute(
                "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
            ).fetchall()
        path = found[0][0]
        return place_of_file(path) if path else None

    def tables(self) -> list[tuple[str, str]]:
        """Every table and view outside DuckDB's own schemas, as (schema, name)."""
        with translated(self._kind):
            found = self._opened.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                "WHERE table_catalog = current_database() "
                "AND table_schema NOT IN ('information_schema', 'pg_catalog') "
                "AND NOT starts_with(table_name, '_atlas_') ORDER BY ALL"
            ).fetchall()
        return [(str(schema), str(name)) for schema, name in found]

    def primary_key(self, schema: str, name: str) -> tuple[str, ...]:
        with translated(self._kind):
            rows = self._opened.execute(
                f"SELECT constraint_column_names FROM duckdb_constraints() {HERE} "
                "AND constraint_type = 'PRIMARY KEY'",
                [schema, name],
            ).fetchall()
        return tuple(rows[0][0]) if rows else ()

    def estimated_rows(self, schema: str, name: str) -> int | None:
        with translated(self._kind):
            rows = self._opened.execute(
                f"SELECT estimated_size FROM duckdb_tables() {HERE}",
                [schema, name],
            ).fetchall()
        return int(rows[0][0]) if rows else None

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        schema = pa.schema([column.field for column in select.columns])
        with translated(self._kind):
            rows = self._opened.sql(select.sql, params=list(select.parameters))
            pieces = ((piece, ()) for piece in rows.to_arrow_reader(min(_PIECE_ROWS, limits.rows)))
            for raw, _ in gathered(pieces, limits):
                columns = [
                    column if column.type == field.type else values.convert(column, field.type)
                    for column, field in zip(raw.columns, schema, strict=True)
                ]
                batch, cells = mask_temporal(pa.RecordBatch.from_arrays(columns, schema=schema))
                yield batch, cells

    def forecast(self, select: Select) -> Forecast:  # noqa: ARG002
        return Forecast(None, SORTED)  # its indexes give no order

    def open_writers(self) -> None:
        return None  # DuckDB has one writing process, and it is this one

    def _columns(self, stream: Stream, sql: str, required: frozenset[str]) -> tuple[SourceColumn, ...]:
        with translated(self._kind):
            described = self._opened.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
        for name, native, *_ in described:
            if name == stream.cursor and native.startswith(_TYPE_PER_VALUE):
                raise values.not_ordered(native, stream=stream.name, column=name)
        return tuple(
            source_column(str(row[0]), str(row[1]), str(row[0]) not in required) for row in described
        )

    def _find(self, stream: Stream) -> tuple[str, str]:
        wanted = stream.table or ""
        known = self.tables()
        for schema, name in known:
            if wanted in (f"{schema}.{name}", name if schema == "main" else None):
                return schema, name
        raise table_not_found(wanted, [f"{s}.{n}" if s != "main" else n for s, n in known], stream.name)


class SourceSnapshot(DuckDBSnapshot):
    """One whose tables are read in little memory."""

    def __init__(self, opened: duckdb.DuckDBPyConnection, memory: ReadMemory) -> None:
        super().__init__(opened, SourceError)
        self._memory = memory

    def relation(self, stream: Stream) -> Relation:
        found = super().relation(stream)
        with translated(SourceError):
            if found.estimated_rows is None:  # a view
                self._memory.for_query(self._opened)
            else:
                self._memory.for_table(self._opened, columns=len(found.columns))
        return found

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        has_begun = False
        try:
            for batch in super().fetched(select, limits):
                has_begun = True
                yield batch
        except SourceError as failure:
            if failure.code not in _TOO_LITTLE or not self._memory.more(self._opened):
                raise
            if has_begun:
                failure.retryable = True
                raise
            with translated(SourceError):
                self._opened.execute("ROLLBACK")
                self._opened.execute("BEGIN TRANSACTION")  # of the same rows: nobody writes to the file
            yield from self.fetched(select, limits)


class DuckDBConnector(SqlConnector[DuckDBConnection]):
    """Reads a DuckDB file."""

    dialect = ReaderDialect()

    def __init__(self, config: DuckDBConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._memory = ReadMemory(config.options)

    @contextmanager
    def snapshot(self) -> Iterator[SourceSnapshot]:
        path = self.config.path
        if path is not None and not path.exists():
            raise SourceError(
                f"there is no DuckDB file at {path}", hint="check `path`", code="database_not_found"
            )
        with translated(SourceError):
            opened = connect(self.config, read_only=True)
        try:
            with closing(SourceSnapshot(opened, self._memory)) as snapshot:
                yield snapshot
        finally:
            opened.close()

    @contextmanager
    def looking(self) -> Iterator[DuckDBLook]:
        with self.snapshot():  # keeps the file open
            yield DuckDBLook(self.snapshot, self.dialect)

    def test(self) -> ConnectionStatus:
        with self.snapshot() as snapshot:
            count = len(snapshot.tables())
        return ConnectionStatus(f"{count} tables and views", server_version=f"DuckDB {duckdb.__version__}")

    def discover(self) -> Sequence[StreamInfo]:
        """What each table and view holds; a view that DuckDB itself cannot open is left out."""
        found: list[StreamInfo] = []
        with self.snapshot() as snapshot:  # keeps the file open
            for schema, name in snapshot.tables():
                with suppress(SourceError), self.snapshot() as its_own:  # a failure ends its transaction
                    found.append(_stream_info(its_own, schema, name))
        return found

    def close(self) -> None:
        """Snapshots close their own connections."""


def _stream_info(snapshot: DuckDBSnapshot, schema: str, name: str) -> StreamInfo:
    full = f"{schema}.{name}" if schema != "main" else name
    found = snapshot.relation(Stream(full, table=full))
    grows = [c.name for c in found.columns if c.native.startswith(("TIMESTAMP", "DATE"))]
    numbers = [k for k in found.primary_key if any(c.name == k and "INT" in c.native for c in found.columns)]
    return StreamInfo(
        full,
        tuple(ColumnInfo(column.name, column.native, column.nullable) for column in found.columns),
        primary_key=found.primary_key,
        cursor_candidates=(*grows, *(numbers if len(found.primary_key) == 1 else ())),
        estimated_rows=found.estimated_rows,
    )


def source_column(name: str, native: str, nullable: bool) -> SourceColumn:
    quoted = quote(name)
    exact = arrow_type(native)
    text = f"CAST({quoted} AS VARCHAR)"
    field = values.with_source_type(pa.field(name, exact or pa.string(), nullable), native)
    if exact is None:
        return SourceColumn(name, native, nullable, field, text, text)
    return SourceColumn(name, native, nullable, field, quoted, text, temporal_hazards(exact))
