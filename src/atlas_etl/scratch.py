"""A database of our own for comparing more rows than memory holds: an embedded DuckDB that spills to disk."""

from __future__ import annotations

from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from atlas_etl.errors import DestinationError

if TYPE_CHECKING:
    import duckdb

_MEMORY = "512MB"


class ScratchDatabase:
    """In memory up to a bound, then in temporary files. `close` gives both back."""

    def __init__(self, what: str, *, stream: str | None = None) -> None:
        """`what` names the rows in messages."""
        import duckdb  # takes longer to load than most syncs, which compare nothing, should wait

        self._what = what
        self._stream = stream
        self._spill = TemporaryDirectory(prefix="atlas-scratch-", ignore_cleanup_errors=True)
        self._failures = duckdb.Error
        self._db = duckdb.connect(
            ":memory:", config={"memory_limit": _MEMORY, "threads": 2, "temp_directory": self._spill.name}
        )

    def execute(self, sql: str, **rows: pa.RecordBatch | pa.RecordBatchReader) -> duckdb.DuckDBPyConnection:
        """One statement, which sees these rows as tables. Raises DestinationError (`temporary_files`)."""
        for name, given in rows.items():
            self._db.register(name, given)
        try:
            return self._db.execute(sql)
        except self._failures as failure:
            raise DestinationError(
                f"{self._what} cannot be compared: {str(failure).partition(chr(10))[0][:80]}",
                hint="make room in the folder for temporary files (TMPDIR)",
                code="temporary_files",
                stream=self._stream,
            ) from failure
        finally:
            for name in rows:
                self._db.unregister(name)

    def batches(self, sql: str, size: int) -> pa.RecordBatchReader:
        """What a SELECT gives, in batches of this many rows."""
        return self._db.sql(sql).to_arrow_reader(size)

    def close(self) -> None:
        with suppress(self._failures):
            self._db.close()
        self._spill.cleanup()
