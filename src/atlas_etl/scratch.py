"""Room for comparing more rows than memory holds: an embedded DuckDB that spills to disk."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa

from atlas_etl.errors import DestinationError
from atlas_etl.temporary import Purpose, TemporaryFolder

if TYPE_CHECKING:
    import duckdb

# The next one where a statement found the one before too little.
_MEMORY = ("64MB", "256MB", "1GB", "4GB")


class Scratch:
    """One DuckDB, opened when it is first needed: in memory up to a bound, then in temporary files.

    Opening one takes longer than most comparisons. `close` gives both back.
    """

    def __init__(self) -> None:
        self._opening = Lock()
        self._db: duckdb.DuckDBPyConnection | None = None
        self._spill: TemporaryFolder | None = None

    def tables(self, what: str, *, stream: str | None = None) -> ScratchTables:
        """Tables that nobody else sees; `what` names their rows in messages. To be closed."""
        import duckdb  # takes longer to load than most syncs, which compare nothing, should wait

        with self._opening:
            if self._db is None:
                self._spill = TemporaryFolder(Purpose.SCRATCH)
                self._db = duckdb.connect(
                    ":memory:",
                    config={
                        "memory_limit": _MEMORY[0],
                        "threads": 2,
                        "temp_directory": str(self._spill.path),
                    },
                )
                self._db.execute("SET enable_external_access = false")
            return ScratchTables(self._db.cursor(), duckdb.Error, duckdb.OutOfMemoryException, what, stream)

    def close(self) -> None:
        """May be called twice, and be followed by more work."""
        db, spill, self._db, self._spill = self._db, self._spill, None, None
        if db is not None:
            db.close()
        if spill is not None:
            spill.close()


class ScratchTables:
    """Temporary tables, gone with `close`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        failures: type[Exception],
        out_of_memory: type[Exception],
        what: str,
        stream: str | None,
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._out_of_memory = out_of_memory
        self._what = what
        self._stream = stream

    def execute(self, sql: str, **rows: pa.RecordBatch | pa.RecordBatchReader) -> duckdb.DuckDBPyConnection:
        """One statement, which sees these rows as tables. Raises DestinationError (`temporary_files`).

        What needs more memory than others may not read from a RecordBatchReader, which gives its rows once.
        """
        for name, given in rows.items():
            self._connection.register(name, given)
        is_repeatable = not any(isinstance(given, pa.RecordBatchReader) for given in rows.values())
        try:
            return self._connection.execute(sql) if not is_repeatable else self._repeated(sql)
        except self._failures as failure:
            raise DestinationError(
                f"{self._what} cannot be compared: {str(failure).partition(chr(10))[0][:80]}",
                hint="make room in the folder for temporary files (TMPDIR)",
                code="temporary_files",
                stream=self._stream,
            ) from failure
        finally:
            for name in rows:
                self._connection.unregister(name)

    def _repeated(self, sql: str) -> duckdb.DuckDBPyConnection:
        for more in _MEMORY[1:]:
            with suppress(self._out_of_memory):
                return self._connection.execute(sql)
            self._connection.execute(f"SET memory_limit = '{more}'")
        return self._connection.execute(sql)

    def batches(self, sql: str, size: int) -> pa.RecordBatchReader:
        """What a SELECT gives, in batches of this many rows."""
        return self._connection.sql(sql).to_arrow_reader(size)

    def close(self) -> None:
        with suppress(self._failures):
            self._connection.close()
