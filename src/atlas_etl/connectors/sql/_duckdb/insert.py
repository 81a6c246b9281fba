"""One INSERT into DuckDB that takes its batches as they come."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Full, Queue

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atlas_etl.connectors.sql._duckdb.database import quote, writing
from atlas_etl.errors import AtlasError, RefusedRowError

_BATCHES = "_atlas_batches"
# Source: https://arrow.apache.org/docs/format/Columnar.html, interval with months, days and nanoseconds.
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_LOOK_SECONDS = 0.1  # how soon it is seen that nobody takes batches any more


class _AbandonedError(Exception):
    """The load is undone: its rows have no end."""


Batches = Queue["pa.RecordBatch | _AbandonedError | None"]


class StreamedInsert:
    """Many batches in one statement, which runs in a thread while the next batch is read.

    DuckDB compresses and writes each row group of one statement as soon as it is full; over many statements
    it keeps row groups that are not full, and all batches, until the commit. The connection is this
    statement's until `finish` or `abandon`.
    """

    def __init__(self, opened: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema) -> None:
        self._opened = opened
        self._table = table
        self._schema = schema
        self._batches: Batches = Queue(maxsize=1)
        thread = ThreadPoolExecutor(1, thread_name_prefix="atlas-duckdb-insert")
        self._inserted: Future[None] = thread.submit(self._insert)
        thread.shutdown(wait=False)

    def takes(self, table: str, schema: pa.Schema) -> bool:
        return self._table == table and self._schema.equals(schema)

    def put(self, batch: pa.RecordBatch) -> None:
        """Hand over a batch, waiting while one is handed over already. Raises what stopped the statement."""
        refuse_fine_intervals(batch)
        self._hand_over(batch)

    def finish(self) -> None:
        """Wait until every row is inserted. Raises what stopped the statement."""
        self._hand_over(None)
        self._inserted.result()

    def abandon(self) -> None:
        """Let the statement fail, and wait for that."""
        with suppress(AtlasError):
            self._hand_over(_AbandonedError())
            self._inserted.result()

    def _hand_over(self, what: pa.RecordBatch | _AbandonedError | None) -> None:
        while not self._inserted.done():
            with suppress(Full):
                self._batches.put(what, timeout=_LOOK_SECONDS)
                return
        self._inserted.result()

    def _insert(self) -> None:
        names = ", ".join(map(quote, self._schema.names))
        # The connection keeps what a failed statement read from: nothing there may lead back to it.
        batches = pa.RecordBatchReader.from_batches(self._schema, _taken(self._batches))
        with writing():
            self._opened.register(_BATCHES, batches)
            try:
                self._opened.execute(f"INSERT INTO {self._table} ({names}) SELECT {names} FROM {_BATCHES}")
            finally:
                with suppress(duckdb.Error):  # after a failure the transaction is over, and so is the view
                    self._opened.unregister(_BATCHES)


def refuse_fine_intervals(rows: pa.RecordBatch) -> None:
    """Raise RefusedRowError for intervals that are no whole microseconds: DuckDB would cut them."""
    for field, column in zip(rows.schema, rows.columns, strict=True):
        cells = column.flatten() if pa.types.is_list(field.type) else column
        if pa.types.is_interval(cells.type) and _nanoseconds(cells).any():
            raise RefusedRowError(
                f"column {field.name!r} holds an interval finer than a microsecond, which DuckDB's are not",
                hint="round it in a query, or leave the column out with `exclude`",
                code="value_does_not_fit",
                column=field.name,
            )


def _nanoseconds(intervals: pa.Array) -> npt.NDArray[np.bool_]:
    """Which of them are finer than a microsecond."""
    _, content = intervals.buffers()
    parts = np.frombuffer(content, _INTERVAL, len(intervals), intervals.offset * _INTERVAL.itemsize)
    fine: npt.NDArray[np.bool_] = (parts["nanoseconds"] % 1000 != 0) & np.asarray(intervals.is_valid())
    return fine


def _taken(batches: Batches) -> Iterator[pa.RecordBatch]:
    while (taken := batches.get()) is not None:
        if isinstance(taken, _AbandonedError):
            raise taken
        yield taken
