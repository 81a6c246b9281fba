"""How far one read reaches: what is seen of its cursors, and the checkpoint that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.ahead import Ahead
from atlas_etl.connectors.hazards import HazardCounter
from atlas_etl.connectors.order import within
from atlas_etl.connectors.sql._greatest import Greatest
from atlas_etl.connectors.sql._late import COUNTED, LateRows, OpenWriters, beginning
from atlas_etl.connectors.sql._selects import EVERY_ROW, Condition, StreamSelects
from atlas_etl.connectors.sql._set_back import set_back
from atlas_etl.connectors.sql._source import Select, SourceColumn
from atlas_etl.model import (
    BatchLimits,
    Checkpoint,
    CursorKind,
    CursorValue,
    HazardCells,
    NextTail,
    ReadRequest,
    Watermark,
)

Fetch = Callable[[Select, BatchLimits], Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]]


class Reach:
    """The cursors of one read."""

    def __init__(
        self,
        cursor: SourceColumn,
        selects: StreamSelects,
        request: ReadRequest,
        fetch: Fetch,
        hazards: HazardCounter,
        *,
        writers: OpenWriters | None,
    ) -> None:
        """`hazards` settles cells of cursors. `writers`: whom a snapshot cannot see; None: nobody writes.

        Raises ConfigError where the column, or the request's bound, is of a type that cannot be a cursor.
        """
        self._cursor = cursor
        self._selects = selects
        self._request = request
        self._stream = request.stream
        self._fetch = fetch
        self._hazards = hazards
        self._kind = values.cursor_kind(cursor.field.type, stream=self._stream.name, column=cursor.name)
        if request.since is not None:
            values.cursor_scalar(request.since, cursor.field.type)
        self._late = self._late_rows(writers) if writers is not None else None
        # Who writes alone writes to a file of this machine.
        now = writers.taken if writers is not None else datetime.now(UTC)
        self._ahead = Ahead(cursor.field, stream=self._stream.name, now=now, timezone=self._stream.timezone)
        self._greatest = Greatest(cursor.field, stream=self._stream.name)
        self.warning: str | None = None

    def again(self, request: ReadRequest, hazards: HazardCounter) -> Reach:
        """The same for another read of the snapshot."""
        other = copy(self)
        other._request, other._hazards = request, hazards
        other._greatest = Greatest(self._cursor.field, stream=self._stream.name)
        other._ahead = self._ahead.anew()
        return other

    @property
    def orders_as_arrow(self) -> bool:
        """Whether Arrow compares cursors as the source does."""
        return self._greatest.is_comparable

    @property
    def next_tail(self) -> NextTail | None:
        if not self.orders_as_arrow:
            return None
        lag = self._stream.lag if self._stream.lag is not None and self._kind not in COUNTED else timedelta()
        return self._late.next_tail(self._kind, lag) if self._late else NextTail(lag=lag)

    @property
    def caveat(self) -> str | None:
        return self._late.caveat(self._kind) if self._late else None

    @property
    def unsettled(self) -> timedelta:
        """How much older the oldest open writer is than every watermark; zero where it is not."""
        return self._late.unsettled if self._late else timedelta()

    def watermark(self) -> Watermark | None:
        """How far cursors are given out in this snapshot; None where they are times or nobody else writes."""
        if self._late is None or not self._late.is_counted:
            return None
        high = self._maximum(EVERY_ROW)
        return Watermark(self._late.writers.taken, high) if high is not None else None

    def see(self, batch: pa.RecordBatch, cells: Sequence[HazardCells]) -> None:
        """Take note of rows that were read, and of their cells that became NULL."""
        self._greatest.see(batch, cells)
        self._ahead.see(batch.column(self._cursor.name))

    def within(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows within the upper bounds; of values that Arrow orders otherwise, the source judged."""
        if not self.orders_as_arrow:
            return batch
        return within(batch, self._cursor.name, until=self._request.until, after=self._request.after)

    def is_past(self) -> bool:
        """Whether rows were seen that are past what the request says is committed already."""
        high, past = self._greatest.value(), self._request.past
        return high is not None and (past is None or self._order(past) < self._order(high))

    def checkpoint(self) -> Checkpoint | None:
        """That of the rows that were read; None where there were none."""
        high = self._high()
        if high is None:
            greatest = self._maximum(EVERY_ROW) if self._request.past else None
            self.warning = set_back(self._cursor.name, self._request.since, greatest)
            return None
        tail_from = self._tail_from(high)
        spellings = self._tail_values(tail_from)
        self.warning = self._ahead.warning(high)
        watermarks = self._late.next_watermarks(high) if self._late else ()
        return Checkpoint(self._cursor.name, high, tail_from, spellings, watermarks)

    def _late_rows(self, writers: OpenWriters) -> LateRows:
        first = None
        if self._kind in COUNTED:
            first = self._request.since or beginning(self._cursor.field.type)
        return LateRows(writers, self._request.watermarks, self._stream.lag, self._stream.timezone, first)

    def _high(self) -> CursorValue | None:
        """The greatest cursor of the rows that were read, as the source compares them."""
        if self.orders_as_arrow:
            return self._greatest.value()
        return self._maximum(self._selects.within(self._request, upper_bounds=True))

    def _maximum(self, condition: Condition) -> CursorValue | None:
        found = None
        for batch, cells in self._fetch(self._selects.maximum(self._cursor, condition), BatchLimits()):
            self._hazards.settle(batch, cells)
            if batch.num_rows and batch.column(0)[0].is_valid:
                found = values.cursor_value(
                    batch.column(0)[0], stream=self._stream.name, column=self._cursor.name
                )
        return found

    def _tail_from(self, high: CursorValue) -> CursorValue:
        """At least the ties of `high`; further back by `lag`, and to the oldest transaction still writing."""
        reached = self._ahead.tail_from(high, self._request.since) or high
        bounds = [reached]
        if self._stream.lag is not None and self._kind not in COUNTED:
            bounds.append(values.earlier(reached, self._stream.lag))
        late = self._late.begin(high) if self._late else None
        if late is not None:
            # Whoever is still writing was seen, or had not begun, when the tail before this one was fixed.
            bounds.append(max(late, self._request.since or late, key=self._order))
        return min(bounds, key=self._order)

    def _order(self, bound: CursorValue) -> Any:
        found = values.cursor_scalar(bound, self._cursor.field.type)
        # Python's own times have no nanoseconds.
        return found.value if isinstance(found, pa.TimestampScalar) else found.as_py()

    def _tail_values(self, tail_from: CursorValue) -> tuple[str, ...]:
        if tail_from.kind is not CursorKind.TEXT:
            return ()
        found: set[str] = set()
        for batch, _ in self._fetch(self._selects.tail(self._cursor, tail_from), BatchLimits()):
            found.update(values.storage(batch.column(0)).unique().to_pylist())
        return tuple(sorted(found))
