"""The table of paths: from where to where, how rows meet what is there, and what to hold the path against.

A new path is one line here; a new system is one class in ends.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks import data, limits
from benchmarks.ends import (
    Destination,
    DuckDBDestination,
    DuckDBSource,
    FileSource,
    MySQLSource,
    ParquetDestination,
    PostgresDestination,
    PostgresSource,
    Source,
    SQLiteSource,
)
from benchmarks.limits import Limit

Load = Literal["append", "merge"]
"""`append`: a first load into an empty destination. `merge`: every row again, over the row of its key."""


@dataclass(frozen=True, slots=True)
class Path:
    """One way that rows take."""

    source: Source
    destination: Destination
    limit: Limit | None = None
    load: Load = "append"
    cursor: str = data.CURSOR

    @property
    def name(self) -> str:
        """`postgres->duckdb`, with what it does otherwise than most after a colon each."""
        loads = [] if self.load == "append" else [self.load]
        cursors = [] if self.cursor == data.CURSOR else [self.cursor]
        return ":".join([f"{self.source.name}->{self.destination.name}", *loads, *cursors])


POSTGRES, MYSQL, SQLITE, DUCKDB = PostgresSource(), MySQLSource(), SQLiteSource(), DuckDBSource()
PARQUET, CSV, JSONL = FileSource("parquet"), FileSource("csv"), FileSource("jsonl")
TO_POSTGRES, TO_DUCKDB, TO_PARQUET = PostgresDestination(), DuckDBDestination(), ParquetDestination()

PATHS = (
    Path(POSTGRES, TO_DUCKDB, limits.POSTGRES_OUT),
    Path(POSTGRES, TO_PARQUET, limits.POSTGRES_OUT),
    Path(POSTGRES, TO_POSTGRES, limits.POSTGRES_TO_POSTGRES),
    Path(POSTGRES, TO_POSTGRES, load="merge"),
    Path(POSTGRES, TO_DUCKDB, limits.POSTGRES_OUT, cursor=data.KEY),
    Path(POSTGRES, TO_POSTGRES, limits.POSTGRES_TO_POSTGRES, cursor=data.KEY),
    Path(MYSQL, TO_DUCKDB, limits.MYSQL_OUT),
    Path(MYSQL, TO_PARQUET, limits.MYSQL_OUT),
    Path(SQLITE, TO_DUCKDB, limits.SQLITE_OUT),
    Path(SQLITE, TO_PARQUET, limits.SQLITE_OUT),
    Path(SQLITE, TO_DUCKDB, load="merge"),
    Path(SQLITE, TO_PARQUET, load="merge"),
    Path(DUCKDB, TO_DUCKDB),
    Path(DUCKDB, TO_PARQUET, limits.DUCKDB_TO_PARQUET),
    Path(PARQUET, TO_DUCKDB, limits.FILE_TO_DUCKDB),
    Path(PARQUET, TO_POSTGRES, limits.POSTGRES_IN),
    Path(CSV, TO_DUCKDB, limits.FILE_TO_DUCKDB),
    Path(JSONL, TO_DUCKDB, limits.FILE_TO_DUCKDB),
)
