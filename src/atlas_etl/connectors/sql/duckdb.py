"""DuckDB: a file (or memory) that is read and written, and the embedded default warehouse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import duckdb
import pyarrow as pa
from pydantic import Field

from atlas_etl import values
from atlas_etl.connectors.base import Adapter, ConnectionConfig, ProjectPath
from atlas_etl.connectors.hazards import mask_temporal
from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._ledger import CHECKPOINTS
from atlas_etl.connectors.sql._reader import Relation, Select, SourceColumn, SqlConnector, table_not_found
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.errors import (
    AtlasError,
    ConfigError,
    DestinationError,
    InterruptedRunError,
    SourceError,
    UsageError,
)
from atlas_etl.model import (
    BatchLimits,
    ColumnInfo,
    ConnectionStatus,
    CursorValue,
    Hazard,
    HazardCells,
    Stream,
    StreamInfo,
    TableName,
)

_HERE = "WHERE schema_name = ? AND table_name = ? AND database_name = current_database()"
_TEMPORAL = frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE})

# DuckDB's types with an exact Arrow form (https://duckdb.org/docs/stable/sql/data_types/overview).
_EXACT: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIME": pa.time64("us"),
    "INTERVAL": pa.month_day_nano_interval(),
    "UUID": pa.uuid(),
    "JSON": pa.json_(),
}
_BY_ARROW = {kind: name for name, kind in _EXACT.items()}


class DuckDBConnection(ConnectionConfig):
    """A DuckDB database."""

    path: ProjectPath | None = Field(default=None, description="the database file; left out: in memory")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="DuckDB settings, e.g. memory_limit, threads"
    )


def connect(config: DuckDBConnection, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open the database, sessions pinned to UTC. Raises duckdb.Error."""
    path = ":memory:" if config.path is None else str(config.path)
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        **config.options,
    }
    try:
        opened = duckdb.connect(path, read_only=read_only and config.path is not None, config=settings)
    except duckdb.ConnectionException:
        if not read_only:
            raise
        opened = duckdb.connect(path, config=settings)  # this process already writes to the file
    opened.execute("SET TimeZone = 'UTC'")
    return opened


def arrow_type(native: str) -> pa.DataType | None:
    """The exact Arrow type of a DuckDB type, or None where only its text is exact."""
    if native in _EXACT:
        return _EXACT[native]
    if decimal := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", native):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if native.endswith("[]"):
        item = arrow_type(native.removesuffix("[]"))
        return pa.list_(item) if item is not None and not pa.types.is_list(item) else None
    return None


def _source_column(name: str, native: str, nullable: bool) -> SourceColumn:
    quoted = _quote(name)
    exact = arrow_type(native)
    text = f"CAST({quoted} AS VARCHAR)"
    field = values.with_source_type(pa.field(name, exact or pa.string(), nullable), native)
    if exact is None:
        return SourceColumn(name, native, nullable, field, text, text)
    hazards = _TEMPORAL if pa.types.is_temporal(exact) and not pa.types.is_time(exact) else frozenset()
    if native == "TIME":
        hazards = frozenset({Hazard.TIME_RANGE})
    return SourceColumn(name, native, nullable, field, quoted, text, hazards)


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


class _ReaderDialect:
    def quote(self, identifier: str) -> str:
        return _quote(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        return f"CAST(? AS {column.native})", value.text

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class _Snapshot:
    """One transaction of one DuckDB connection."""

    def __init__(self, opened: duckdb.DuckDBPyConnection) -> None:
        self._opened = opened

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            sql = f"({(stream.query or '').strip().rstrip(';')}) AS atlas_query"
            return Relation(sql, self._columns(sql, frozenset()))
        schema, name = self._find(stream)
        sql = f"{_quote(schema)}.{_quote(name)}"
        with translated(SourceError):
            required = self._opened.execute(
                f"SELECT column_name FROM duckdb_columns() {_HERE} AND NOT is_nullable",
                [schema, name],
            ).fetchall()
        return Relation(
            sql,
            self._columns(sql, frozenset(str(row[0]) for row in required)),
            primary_key=self.primary_key(schema, name),
            estimated_rows=self.estimated_rows(schema, name),
        )

    def tables(self) -> list[tuple[str, str]]:
        """Every table and view outside DuckDB's own schemas, as (schema, name)."""
        with translated(SourceError):
            found = self._opened.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                "WHERE table_catalog = current_database() "
                "AND table_schema NOT IN ('information_schema', 'pg_catalog') "
                "AND NOT starts_with(table_name, '_atlas_') ORDER BY ALL"
            ).fetchall()
        return [(str(schema), str(name)) for schema, name in found]

    def primary_key(self, schema: str, name: str) -> tuple[str, ...]:
        with translated(SourceError):
            rows = self._opened.execute(
                f"SELECT constraint_column_names FROM duckdb_constraints() {_HERE} "
                "AND constraint_type = 'PRIMARY KEY'",
                [schema, name],
            ).fetchall()
        return tuple(rows[0][0]) if rows else ()

    def estimated_rows(self, schema: str, name: str) -> int | None:
        with translated(SourceError):
            rows = self._opened.execute(
                f"SELECT estimated_size FROM duckdb_tables() {_HERE}",
                [schema, name],
            ).fetchall()
        return int(rows[0][0]) if rows else None

    def fetch(
        self, select: Select, limits: BatchLimits
    ) -> Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]:
        schema = pa.schema([column.field for column in select.columns])
        with translated(SourceError):
            rows = self._opened.sql(select.sql, params=list(select.parameters))
            for raw in rows.to_arrow_reader(limits.rows):
                columns = [
                    column if column.type == field.type else values.convert(column, field.type)
                    for column, field in zip(raw.columns, schema, strict=True)
                ]
                batch, cells = mask_temporal(pa.RecordBatch.from_arrays(columns, schema=schema))
                yield batch, cells

    def oldest_writer_began(self) -> datetime | None:
        return None  # DuckDB has one writing process, and it is this one

    def _columns(self, sql: str, required: frozenset[str]) -> tuple[SourceColumn, ...]:
        with translated(SourceError):
            described = self._opened.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
        return tuple(
            _source_column(str(row[0]), str(row[1]), str(row[0]) not in required) for row in described
        )

    def _find(self, stream: Stream) -> tuple[str, str]:
        wanted = stream.table or ""
        known = self.tables()
        for schema, name in known:
            if wanted in (f"{schema}.{name}", name if schema == "main" else None):
                return schema, name
        raise table_not_found(wanted, [f"{s}.{n}" if s != "main" else n for s, n in known], stream.name)


class DuckDBConnector(SqlConnector[DuckDBConnection]):
    """Reads a DuckDB file."""

    dialect = _ReaderDialect()

    @contextmanager
    def snapshot(self) -> Iterator[_Snapshot]:
        path = self.config.path
        if path is not None and not path.exists():
            raise SourceError(
                f"there is no DuckDB file at {path}", hint="check `path`", code="database_not_found"
            )
        with translated(SourceError):
            opened = connect(self.config, read_only=True)
        try:
            with translated(SourceError):
                opened.execute("SET arrow_lossless_conversion = true")
                opened.execute("BEGIN TRANSACTION")
            yield _Snapshot(opened)
        finally:
            opened.close()

    def test(self) -> ConnectionStatus:
        with self.snapshot() as snapshot:
            count = len(snapshot.tables())
        return ConnectionStatus(f"{count} tables and views", server_version=f"DuckDB {duckdb.__version__}")

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return [_stream_info(snapshot, schema, name) for schema, name in snapshot.tables()]

    def close(self) -> None:
        """Snapshots close their own connections."""


def _stream_info(snapshot: _Snapshot, schema: str, name: str) -> StreamInfo:
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


class _WriterDialect(WriterDialect):
    fold_case = True

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(_stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return _column_type(field.type)

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
        return f"CAST(? AS {_column_type(scalar.type)})", text

    keeps_keys = (
        False  # a primary key is an index that DuckDB keeps in memory whole; merging does not need it
    )


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal128(kind) or kind in _BY_ARROW:
        return kind
    if pa.types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        nanoseconds = kind.unit == "ns" and kind.tz is None
        return pa.timestamp("ns") if nanoseconds else pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_stored_type(kind.value_type))
    simple = {
        pa.float16(): pa.float32(),
        pa.large_binary(): pa.binary(),
        pa.date64(): pa.date32(),
        pa.time32("s"): pa.time64("us"),
        pa.time32("ms"): pa.time64("us"),
    }
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return pa.json_()
    return simple.get(kind, pa.string())


def _column_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return f"{_column_type(kind.value_type)}[]"
    return _BY_ARROW[kind]


class _Connection:
    """A cursor on the destination's database."""

    def __init__(self, opened: duckdb.DuckDBPyConnection) -> None:
        self._opened = opened

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with translated(DestinationError):
            return self._opened.execute(sql, list(parameters)).fetchall()

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        names = ", ".join(map(_quote, batch.schema.names))
        with translated(DestinationError):
            self._opened.register("atlas_batch", batch)
            try:
                self._opened.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM atlas_batch")
            finally:
                with suppress(duckdb.Error):  # after a failure the transaction is over, and so is the view
                    self._opened.unregister("atlas_batch")

    def begin(self) -> None:
        self.execute("BEGIN TRANSACTION")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        self.execute("ROLLBACK")


class DuckDBDestination(SqlDestination):
    """Writes a DuckDB file."""

    dialect = _WriterDialect()

    def __init__(self, config: DuckDBConnection) -> None:
        self._config = config
        self._root: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def connect(self) -> Iterator[_Connection]:
        opened = self._database().cursor()
        try:
            opened.execute("SET TimeZone = 'UTC'")
            yield _Connection(opened)
        finally:
            opened.close()  # undoes a transaction that was not committed

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        rows = connection.execute(
            f"SELECT column_name, data_type FROM duckdb_columns() {_HERE} ORDER BY column_index",
            (table.schema or "main", table.name),
        )
        if not rows:
            return None
        return pa.schema([(str(name), arrow_type(str(native)) or pa.string()) for name, native in rows])

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        rows = connection.execute(
            "SELECT schema_name FROM duckdb_tables() "
            "WHERE table_name = ? AND database_name = current_database()",
            (CHECKPOINTS,),
        )
        return [str(row[0]) for row in rows]

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            connection.begin()
            connection.execute("CREATE TABLE _atlas_test (n INTEGER)")
            connection.rollback()
        return ConnectionStatus("tables can be made", server_version=f"DuckDB {duckdb.__version__}")

    def query(self, sql: str) -> pa.Table:
        opened = self._database().cursor()
        try:
            opened.execute("SET TimeZone = 'UTC'")
            with translated(DestinationError):
                return opened.sql(sql).to_arrow_table()
        except DestinationError as failure:
            if failure.code != "sql":
                raise
            raise UsageError(failure.message, hint=failure.hint, code="query") from failure
        finally:
            opened.close()

    def close(self) -> None:
        if self._root is not None:
            self._root.close()
            self._root = None

    def _database(self) -> duckdb.DuckDBPyConnection:
        if self._root is None:
            path = self._config.path
            if path is not None and not path.parent.is_dir():
                raise DestinationError(
                    f"the folder {path.parent} does not exist",
                    hint="make it, or change the destination's `path`",
                    code="folder_not_found",
                )
            with translated(DestinationError):
                self._root = connect(self._config)
        return self._root


def _first_line(failure: Exception) -> str:
    return str(failure).strip().partition("\n")[0]


@contextmanager
def translated(kind: type[SourceError] | type[DestinationError]) -> Iterator[None]:
    """Turn DuckDB's errors into ours, at the call that raised them."""
    try:
        yield
    except RuntimeError as stopped:  # a signal came: DuckDB swallows what its handler raised
        raise InterruptedRunError("stopped by a signal") from stopped
    except duckdb.IOException as failure:
        raise _unreachable(kind, failure) from failure
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as failure:
        raise kind(
            _first_line(failure), hint="check the table, the query and its columns", code="sql"
        ) from failure
    except duckdb.TransactionException as failure:
        raise kind(_first_line(failure), code="conflict", retryable=True) from failure
    except duckdb.Error as failure:
        raise kind(_first_line(failure)) from failure


def _unreachable(kind: type[SourceError] | type[DestinationError], failure: duckdb.Error) -> AtlasError:
    line = _first_line(failure)
    if "lock" in line:
        return kind(
            "another process has the DuckDB file open",
            hint="close it (a shell, a notebook, another sync), or wait for it",
            code="database_locked",
            retryable=True,
        )
    if "not a valid DuckDB database" in line:
        return kind("the file is not a DuckDB database", hint="check `path`", code="not_a_database")
    return kind(line, hint="check that the file and its folder can be read and written", code="unreachable")


def _client(config: DuckDBConnection) -> duckdb.DuckDBPyConnection:
    return connect(config)


def _dispose(client: object) -> None:
    if not isinstance(client, duckdb.DuckDBPyConnection):
        raise ConfigError("not a DuckDB connection")
    client.close()


def _connector(config: DuckDBConnection) -> DuckDBConnector:
    return DuckDBConnector(config, protocol="duckdb")


ADAPTER = Adapter(
    connection=DuckDBConnection,
    client=_client,
    dispose=_dispose,
    connector=_connector,
    destination=DuckDBDestination,
    thread_bound=True,  # one DuckDB connection is one transaction
)
