"""The table of paths: from where to where, how rows meet what is there, and what to hold the path against.

A new path is one line here; a new system is one class in ends.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks import limits
from benchmarks.data import Table
from benchmarks.ends import (
    ChangingPostgresSource,
    Destination,
    DuckDBDestination,
    DuckDBSource,
    FileSource,
    HttpSource,
    MySQLDestination,
    MySQLSource,
    ParquetDestination,
    PostgresDestination,
    PostgresSource,
    Source,
    SQLiteSource,
)
from benchmarks.events import EVENTS
from benchmarks.limits import Limit
from benchmarks.lineitem import LINEITEM

Load = Literal["append", "merge", "changes"]
"""`append`: a first load into an empty destination. `merge`: every row again, over the row of its key.
`changes`: the rows that changed since a first load, over the rows of their keys."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a path should reach: so many times its limit at most, and ahead of every peer so many times."""

    at_most: float
    ahead: float


@dataclass(frozen=True, slots=True)
class Path:
    """One way that rows take."""

    source: Source
    destination: Destination
    limit: Limit | None = None
    load: Load = "append"
    cursor: str = ""  # the table's own, where none is named
    bar: Bar | None = None
    by_hand: Limit | None = None
    """The same load without tail, ledger and checkpoint: what exactness costs is the difference."""

    @property
    def table(self) -> Table:
        return self.source.table

    @property
    def name(self) -> str:
        """`postgres->duckdb`, with what it does otherwise than most after a colon each."""
        tables = [self.table.name] if self.table is LINEITEM else []
        loads = [] if self.load == "append" else [self.load]
        cursors = [self.cursor] if self.cursor else []
        return ":".join([f"{self.source.name}->{self.destination.name}", *tables, *loads, *cursors])


EXACTNESS_AT_MOST = 1.05
"""Times the same load by hand."""

POSTGRES, MYSQL, SQLITE, DUCKDB = PostgresSource(), MySQLSource(), SQLiteSource(), DuckDBSource()
PARQUET, CSV, JSONL = FileSource("parquet"), FileSource("csv"), FileSource("jsonl")
CHANGING = ChangingPostgresSource()
POSTGRES_LINES, MYSQL_LINES = PostgresSource(LINEITEM), MySQLSource(LINEITEM)
SQLITE_LINES, PARQUET_LINES = SQLiteSource(LINEITEM), FileSource("parquet", LINEITEM)
TO_POSTGRES, TO_DUCKDB, TO_PARQUET = PostgresDestination(), DuckDBDestination(), ParquetDestination()
TO_MYSQL, TO_MYSQL_BY_FILE = MySQLDestination(), MySQLDestination(local_infile=True)

PATHS = (
    Path(
        POSTGRES, TO_POSTGRES, limits.POSTGRES_TO_POSTGRES, bar=Bar(1.10, 3), by_hand=limits.POSTGRES_BY_HAND
    ),
    Path(POSTGRES, TO_PARQUET, limits.POSTGRES_OUT, bar=Bar(1.30, 3)),
    Path(POSTGRES, TO_DUCKDB, limits.POSTGRES_OUT, bar=Bar(1.90, 3)),
    Path(MYSQL, TO_PARQUET, limits.MYSQL_OUT, bar=Bar(1.60, 3)),
    Path(SQLITE, TO_PARQUET, limits.SQLITE_OUT, bar=Bar(2.20, 2)),
    Path(PARQUET, TO_POSTGRES, limits.POSTGRES_IN, bar=Bar(1.15, 3)),
    Path(CHANGING, TO_POSTGRES, limits.POSTGRES_CHANGES, load="changes", bar=Bar(1.20, 3)),
    Path(HttpSource(EVENTS), TO_DUCKDB, limits.HTTP_OUT, bar=Bar(2.0, 3)),
    Path(POSTGRES, TO_POSTGRES, load="merge"),
    Path(POSTGRES, TO_DUCKDB, limits.POSTGRES_OUT, cursor="id"),
    Path(POSTGRES, TO_POSTGRES, limits.POSTGRES_TO_POSTGRES, cursor="id"),
    Path(MYSQL, TO_DUCKDB, limits.MYSQL_OUT),
    Path(POSTGRES, TO_MYSQL, limits.MYSQL_IN),
    Path(POSTGRES, TO_MYSQL_BY_FILE, limits.MYSQL_IN),
    Path(SQLITE, TO_DUCKDB, limits.SQLITE_OUT),
    Path(SQLITE, TO_DUCKDB, load="merge"),
    Path(SQLITE, TO_PARQUET, load="merge"),
    Path(DUCKDB, TO_DUCKDB),
    Path(DUCKDB, TO_PARQUET, limits.DUCKDB_TO_PARQUET),
    Path(PARQUET, TO_DUCKDB, limits.FILE_TO_DUCKDB),
    Path(CSV, TO_DUCKDB, limits.FILE_TO_DUCKDB),
    Path(JSONL, TO_DUCKDB, limits.FILE_TO_DUCKDB),
    Path(POSTGRES_LINES, TO_POSTGRES, limits.POSTGRES_TO_POSTGRES),
    Path(POSTGRES_LINES, TO_PARQUET, limits.POSTGRES_OUT),
    Path(POSTGRES_LINES, TO_DUCKDB, limits.POSTGRES_OUT),
    Path(MYSQL_LINES, TO_PARQUET, limits.MYSQL_OUT),
    Path(SQLITE_LINES, TO_PARQUET, limits.SQLITE_OUT),
    Path(PARQUET_LINES, TO_POSTGRES, limits.POSTGRES_IN),
)
