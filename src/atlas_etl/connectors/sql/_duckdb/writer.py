"""Writing DuckDB: Arrow batches inserted in one transaction."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._duckdb.database import (
    OUT_OF_MEMORY,
    DuckDBConnection,
    connect,
    translated,
)
from atlas_etl.connectors.sql._duckdb.dialect import DuckDBWriterDialect
from atlas_etl.connectors.sql._duckdb.examined import DuckDBLook
from atlas_etl.connectors.sql._duckdb.load import COLUMNS, LoadConnection
from atlas_etl.connectors.sql._duckdb.memory import LoadMemory
from atlas_etl.connectors.sql._duckdb.names import database_name
from atlas_etl.connectors.sql._duckdb.reader import DuckDBSnapshot, ReaderDialect
from atlas_etl.connectors.sql._duckdb.types import arrow_type
from atlas_etl.connectors.sql._file_target import FileTargetLook
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import DestinationError, HazardError, UsageError
from atlas_etl.model import (
    BatchLimits,
    CommittedCheckpoint,
    ConnectionStatus,
    LoadPlan,
    TableName,
    TableState,
)

_STATEMENT_IS_WRONG = frozenset({"sql", "conflict"})  # a transaction that only reads conflicts by writing
# SHOW, DESCRIBE, SUMMARIZE and VALUES are SELECT, too; a PIVOT is several statements.
_MAKING = threading.Lock()  # whoever makes what another one is making, too, is refused
_READING = [
    [duckdb.StatementType.SELECT],
    [duckdb.StatementType.EXPLAIN],
    [duckdb.StatementType.MULTI],
]
_DAY = 86_400_000_000  # microseconds
_LOADS = 16  # until a checkpoint; before it each keeps a megabyte or two of its tables in memory


class DuckDBDestination(SqlDestination):
    """Writes a DuckDB file."""

    reader = ReaderDialect()

    def __init__(self, config: DuckDBConnection) -> None:
        self._config = config
        self._memory = LoadMemory(config.options)
        self.dialect = DuckDBWriterDialect(self._memory, database_name(config.path))
        self._root: duckdb.DuckDBPyConnection | None = None
        self._opening = threading.Lock()
        self._loads = 0  # since the last checkpoint

    @contextmanager
    def connect(self) -> Iterator[LoadConnection]:
        with self._cursor() as opened, closing(LoadConnection(opened)) as connection:
            is_limited = self._memory.limit(self._database())
            try:
                yield connection
            except DestinationError as failure:
                if is_limited and failure.code == OUT_OF_MEMORY:
                    self._memory.leave_to_duckdb(self._database())
                    failure.retryable = True
                raise

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        if not plan.version:
            self._make_ledger(plan)
        with self.connect() as connection:
            connection.begin()
            self._prepare(connection, plan)
            connection.go_into(self.dialect.table(plan.table))
            self._memory.to_write(self._database(), columns=len(plan.schema))
            yield SqlLoadSession(self.dialect, connection, plan)
        self._loads += 1
        if self._loads >= _LOADS:
            # While others write it is refused, and so tried again after the next load.
            with suppress(duckdb.Error), self._cursor() as opened:
                opened.execute("CHECKPOINT")
                self._loads = 0

    @contextmanager
    def reading(self) -> Iterator[DuckDBSnapshot]:
        with self._cursor() as opened, closing(DuckDBSnapshot(opened, DestinationError)) as snapshot:
            yield snapshot

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        return TableState() if self._is_missing() else super().inspect(connector, stream, table)

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        return not self._is_missing() and super().has_load(connector, stream, table, load_id)

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        return [] if self._is_missing() else super().checkpoints(connector)

    def _is_missing(self) -> bool:
        # Looking must not make a file: the source may yet turn out to be out of reach.
        path = self._config.path
        return self._root is None and path is not None and path.parent.is_dir() and not path.exists()

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        named = TableName(table.name, table.schema or "main")
        try:
            # duckdb_columns() would list the columns of every table first, and DESCRIBE take the table
            # `shop.csv` that is not there yet for a file.
            rows = connection.execute(COLUMNS, (self.dialect.table(named),))
        except DestinationError as failure:
            if isinstance(failure.__cause__, duckdb.CatalogException):
                return None
            raise
        return pa.schema([(str(name), arrow_type(str(native)) or pa.string()) for name, native in rows])

    def _make_ledger(self, plan: LoadPlan) -> None:
        """Schema and ledger, in a transaction of their own: one that is open would refuse other loads."""
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        with _MAKING, self.connect() as connection:
            connection.begin()
            connection.execute(self.dialect.create_schema(str(plan.table.schema)))
            ledger.create(connection)
            connection.commit()

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

    @contextmanager
    def looking(self) -> Iterator[FileTargetLook]:
        yield FileTargetLook(self._config.path, self._look)

    @contextmanager
    def _look(self) -> Iterator[DuckDBLook]:
        with translated(DestinationError):
            file = connect(self._config, read_only=True)

        @contextmanager
        def snapshot() -> Iterator[DuckDBSnapshot]:
            with closing(DuckDBSnapshot(file.cursor(), DestinationError)) as made:
                yield made

        with closing(file):
            yield DuckDBLook(snapshot, self.reader)

    @contextmanager
    def answer(self, sql: str, as_text: Collection[str] = ()) -> Iterator[Answer]:
        """Rows of DuckDB's own types, of which Arrow has every value but the time 24:00:00."""
        with self._cursor() as opened:
            with _asking():
                if [statement.type for statement in opened.extract_statements(sql)] not in _READING:
                    raise UsageError(
                        "a query is one statement that reads, such as a SELECT",
                        hint="to change the warehouse, open its file with DuckDB's own shell",
                        code="query",
                    )
                opened.execute("BEGIN TRANSACTION READ ONLY")
                asked = opened.sql(sql)
                if as_text:
                    texts = (
                        f"CAST({name} AS VARCHAR) AS {name}" for name in map(self.dialect.quote, as_text)
                    )
                    asked = asked.project(f"* REPLACE ({', '.join(texts)})")
                reader = asked.to_arrow_reader(BatchLimits().rows)
            yield Answer(reader.schema, _asked(reader))

    def close(self) -> None:
        if self._root is not None:
            self._root.close()
            self._root = None
            self._memory = LoadMemory(self._config.options)
            self.dialect = DuckDBWriterDialect(self._memory, database_name(self._config.path))

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        opened = self._database().cursor()
        try:
            opened.execute("SET TimeZone = 'UTC'")
            yield opened
        finally:
            opened.close()  # undoes a transaction that was not committed

    def _database(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._root is None:
                path = self._config.path
                if path is not None and not path.parent.is_dir():
                    raise DestinationError(
                        f"the folder {path.parent} does not exist",
                        hint="make it, or change the destination's `path`",
                        code="folder_not_found",
                    )
                with translated(DestinationError):
                    self._root = connect(self._config, read_only=_may_only_be_read(path))
            return self._root


def _may_only_be_read(path: Path | None) -> bool:
    return path is not None and path.exists() and not os.access(path, os.W_OK)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        with translated(DestinationError):
            yield
    except DestinationError as failure:
        if failure.code not in _STATEMENT_IS_WRONG:
            raise
        raise UsageError(failure.message, hint=failure.hint, code="query") from failure


def _asked(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _asking():
        for batch in reader:
            _refuse_midnight(batch)
            yield batch


def _refuse_midnight(batch: pa.RecordBatch) -> None:
    """Raise HazardError for 24:00:00, the end of a day, which DuckDB's TIME has."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        cells = column
        while pa.types.is_list(cells.type):
            cells = cells.flatten()
        if cells.type == pa.time64("us") and (pc.max(cells.cast(pa.int64())).as_py() or 0) >= _DAY:
            raise HazardError(
                f"column {name!r} has the time 24:00:00, which no file or table holds as a time",
                hint=f"read it as text: CAST({name} AS VARCHAR)",
                column=name,
            )
