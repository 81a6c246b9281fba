"""Which rows a merge leaves out: superseded ones of the load, and live ones whose key came again.

The keys of the load (and nothing else of it) are held in an embedded DuckDB that spills to disk when they
outgrow its memory, so that both questions are one join each, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.errors import NullKeyError
from atlas_etl.scratch import Scratch

Rows = npt.NDArray[np.int64]


class Compared(Struct, frozen=True):
    """The numbers of live rows whose key is not in the set, or that are marked, in order."""

    rows: Rows
    gone: npt.NDArray[np.bool_]
    marked: npt.NDArray[np.bool_]


class KeySet:
    """The keys of one load, and the row that each came in."""

    def __init__(
        self, scratch: Scratch, stream: str, key: Sequence[str], cursor: str | None, schema: pa.Schema
    ) -> None:
        self._stream = stream
        self._key = tuple(key)
        self._cursor = cursor
        self._names = [f"k{n}" for n in range(len(key))]
        self._columns = [*self._names, *(["c"] if cursor else [])]
        self._scratch = scratch.tables("the keys of the load", stream=stream)
        empty = self._reduced(values.no_rows(schema), 0)
        self._scratch.execute("CREATE TEMP TABLE keys AS SELECT * FROM batch", batch=empty)
        self._scratch.execute(f"CREATE TEMP TABLE gone AS SELECT {', '.join(self._names)} FROM keys")
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows of the load. Raises NullKeyError."""
        if any(batch.column(name).null_count for name in self._key):
            raise NullKeyError(self._key, self._stream)
        self._scratch.execute("INSERT INTO keys SELECT * FROM batch", batch=self._reduced(batch, self._rows))
        self._rows += batch.num_rows

    def forget(self, keys: pa.RecordBatch) -> None:
        """Take keys whose live rows go."""
        columns = [values.comparable(keys.column(name)) for name in self._key]
        self._scratch.execute(
            "INSERT INTO gone SELECT * FROM batch", batch=pa.RecordBatch.from_arrays(columns, self._names)
        )

    def superseded(self) -> Rows:
        """The rows, by number, that a later row of their key replaces; they are forgotten here."""
        names = ", ".join(self._names)
        order = "c DESC NULLS LAST, r DESC" if self._cursor else "r DESC"
        self._scratch.execute(
            f"CREATE TEMP TABLE superseded AS SELECT r FROM ("
            f"SELECT r, row_number() OVER (PARTITION BY {names} ORDER BY {order}) AS place FROM keys "
            f"SEMI JOIN (SELECT {names} FROM keys GROUP BY {names} HAVING count(*) > 1) USING ({names})"
            f") WHERE place > 1"
        )
        self._scratch.execute("DELETE FROM keys WHERE r IN (SELECT r FROM superseded)")
        return self._numbers("SELECT r FROM superseded ORDER BY r")

    def replaced(self, live: Iterable[pa.RecordBatch]) -> tuple[Rows, int]:
        """Which of the live rows (numbered in the order given) have a key of the load, or one that goes; and
        how many of the load's rows add or change something: all whose key does not have its cursor yet.
        """
        batches = self._numbered(live)
        first = next(batches, None)
        if first is None:
            return np.empty(0, np.int64), self._count()
        self._take_live(first, batches)
        same = "live.c = keys.c" if self._cursor else "false"
        names = ", ".join(self._names)
        self._scratch.execute(
            f"CREATE TEMP TABLE replaced AS SELECT live.r AS r, keys.r AS by_row, {same} AS same "
            f"FROM live LEFT JOIN keys USING ({names}) "
            f"LEFT JOIN (SELECT DISTINCT {names}, true AS goes FROM gone) AS going USING ({names}) "
            "WHERE keys.r IS NOT NULL OR goes"
        )
        (known,) = self._numbers("SELECT count(DISTINCT by_row) FROM replaced WHERE same")
        return self._numbers("SELECT r FROM replaced ORDER BY r"), self._count() - int(known)

    def compared(self, live: Iterable[pa.RecordBatch], mark: str | None) -> Compared:
        """Which of the live rows (numbered in the order given) have no key here, or a value in `mark`."""
        batches = self._numbered(live, mark)
        first = next(batches, None)
        if first is None:
            none = np.empty(0, bool)
            return Compared(np.empty(0, np.int64), none, none)
        self._take_live(first, batches)
        names = ", ".join(self._names)
        self._scratch.execute(
            "CREATE TEMP TABLE compared AS SELECT live.r AS r, here.yes IS NULL AS gone, live.m AS m "
            f"FROM live LEFT JOIN (SELECT DISTINCT {names}, true AS yes FROM keys) AS here USING ({names}) "
            f"WHERE here.yes IS NULL OR live.m"
        )
        rows = self._scratch.execute("SELECT r, gone, m FROM compared ORDER BY r").fetchnumpy()
        gone, marked = (np.asarray(rows[name], dtype=np.bool_) for name in ("gone", "m"))
        return Compared(np.asarray(rows["r"], dtype=np.int64), gone, marked)

    def close(self) -> None:
        self._scratch.close()

    def _count(self) -> int:
        (count,) = self._numbers("SELECT count(*) FROM keys")
        return int(count)

    def _take_live(self, first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> None:
        """Bring the live rows where they can be read again, by a join that first had too little memory."""
        rows = pa.RecordBatchReader.from_batches(first.schema, _chain(first, others))
        self._scratch.execute("CREATE OR REPLACE TEMP TABLE live AS FROM rows", rows=rows)

    def _numbered(self, live: Iterable[pa.RecordBatch], mark: str | None = None) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in live:
            marks = pc.is_valid(batch.column(mark)) if mark else pa.repeat(False, batch.num_rows)
            yield self._reduced(batch, row).append_column("m", marks)
            row += batch.num_rows

    def _reduced(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """Only keys, cursor and row numbers, in types that DuckDB compares exactly."""
        columns = [values.comparable(batch.column(name)) for name in self._key]
        if self._cursor is not None:
            columns.append(values.comparable(batch.column(self._cursor)))
        numbers = pa.arange(first, first + batch.num_rows)
        return pa.RecordBatch.from_arrays([*columns, numbers], [*self._columns, "r"])

    def _numbers(self, sql: str) -> Rows:
        """A statement's only column."""
        (found,) = self._scratch.execute(sql).fetchnumpy().values()
        return np.asarray(found, dtype=np.int64)


def _chain(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others
