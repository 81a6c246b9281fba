"""One stream of one SQL snapshot: what to select, and how far that reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.ahead import Ahead
from atlas_etl.connectors.columns import chosen, null_cursor_error, repeated, require
from atlas_etl.connectors.hazards import HazardCounter, reads_as_text
from atlas_etl.connectors.order import within
from atlas_etl.connectors.sql._checksums import CellText, read_buckets
from atlas_etl.connectors.sql._greatest import Greatest
from atlas_etl.connectors.sql._late import COUNTED, LateRows, beginning
from atlas_etl.connectors.sql._selects import EVERY_ROW, Condition, StreamSelects
from atlas_etl.connectors.sql._set_back import set_back
from atlas_etl.connectors.sql._source import (
    Dialect,
    Forecast,
    Relation,
    Select,
    Snapshot,
    SourceColumn,
    found_before,
)
from atlas_etl.errors import ConfigError
from atlas_etl.model import (
    BatchLimits,
    Checkpoint,
    CursorKind,
    CursorValue,
    HazardCells,
    HazardPolicy,
    NextTail,
    NullCursor,
    ReadOutline,
    ReadRequest,
    RefusedRow,
    Stream,
    TableName,
    Watermark,
    WireFormat,
)


class SqlExtract:
    """One stream of one snapshot (contracts.Extract)."""

    def __init__(self, dialect: Dialect, snapshot: Snapshot, request: ReadRequest) -> None:
        self._dialect = dialect
        self._snapshot = snapshot
        self._request = request
        self._stream = request.stream
        # Who reads no whole table has no use for its ranges, which may take a lock to find.
        asked = request.stream if _is_whole(request) else replace(request.stream, partitions=1)
        self._relation = snapshot.relation(asked)
        self._columns = _columns(self._relation, request.stream)
        self._cursor = self._find_cursor()
        self._selects = StreamSelects(dialect, self._relation, request.stream, self._columns, self._cursor)
        self.primary_key = request.stream.primary_key or self._relation.primary_key
        self.schema = pa.schema([column.field for column in self._columns])
        self._require(self.primary_key, "primary key column")
        self._hazards = HazardCounter(request.stream, self.primary_key)
        self._refused: list[RefusedRow] = []
        self._greatest = self._new_greatest()
        self._late = self._late_rows(self._cursor) if self._cursor else None
        self._ahead = self._ahead_of(self._cursor) if self._cursor else None
        self._warning: str | None = None
        self._is_ordered = False
        self._refuse_null_cursors()

    @property
    def key_is_unique(self) -> bool:
        is_its_key = bool(self.primary_key) and set(self.primary_key) == set(self._relation.primary_key)
        return is_its_key and self._relation.key_is_unique

    @property
    def tables(self) -> frozenset[TableName]:
        return frozenset((self._relation.table,) if self._relation.table else ())

    def place(self) -> str | None:
        return self._snapshot.place()

    @property
    def estimated_rows(self) -> int | None:
        return None if self._request.since else self._relation.estimated_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self._read(self._selects)

    @property
    def next_tail(self) -> NextTail | None:
        if self._cursor is None or not self._orders_as_arrow:
            return None
        kind = self._kind(self._cursor)
        lag = self._stream.lag if self._stream.lag is not None and kind not in COUNTED else timedelta()
        return self._late.next_tail(kind, lag) if self._late else NextTail(lag=lag)

    @property
    def wire_format(self) -> WireFormat | None:
        forms = [(column.name, column.wire) for column in self._columns if column.wire is not None]
        # By ranges, sessions take longer to agree on a batch than to decode it.
        if not forms or len(forms) < len(self._columns) or self._relation.ranges:
            return None
        return WireFormat(tuple(forms))

    def wire_batches(self) -> Iterator[pa.RecordBatch]:
        return self._read(replace(self._selects, beside=(self._cursor.name,) if self._cursor else ()))

    def _read(self, selects: StreamSelects) -> Iterator[pa.RecordBatch]:
        # Of upper bounds the source judges those that Arrow cannot.
        condition = selects.within(self._request, upper_bounds=not self._orders_as_arrow)
        for batch, cells in self._fetch(self._select(selects, condition), self._request.limits):
            kept, refused = self._hazards.settle(batch, cells)
            self._refused += (found for found in refused if self._within(found.row).num_rows)
            for piece in values.split(self._within(kept), self._request.limits):
                if self._greatest is not None and self._ahead is not None:
                    self._greatest.see(piece, cells)
                    self._ahead.see(piece.column(self._stream.cursor))
                yield piece

    def outline(self) -> ReadOutline:
        select = self._select(self._selects, self._selects.within(self._request, upper_bounds=True))
        rows = self.estimated_rows if _is_whole(self._request) else self._forecast(select).rows
        late = self._late.caveat(self._kind(self._cursor)) if self._late and self._cursor else None
        unseen = self._relation.late if self._cursor else None
        caveats = tuple(each for each in (self._relation.caveat, unseen, late) if each)
        return ReadOutline(tuple(each.written for each in select.ranges or (select,)), rows, caveats)

    def interrupt(self) -> None:
        self._snapshot.interrupt()

    def reached(self) -> Checkpoint | None:
        if not self._is_ordered or self._cursor is None or self._greatest is None:
            return None
        high, past = self._greatest.value(), self._request.past
        if high is None:
            return None
        if past is not None and not self._order(self._cursor, past) < self._order(self._cursor, high):
            return None
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint | None:
        if self._cursor is None:
            return None
        high = self._high(self._cursor)
        if high is None:
            greatest = self._maximum(self._cursor, EVERY_ROW) if self._request.past else None
            self._warning = set_back(self._cursor.name, self._request.since, greatest)
            return None
        tail_from = self._tail_from(self._cursor, high)
        spellings = self._tail_values(self._cursor, tail_from)
        self._warning = self._ahead.warning(high) if self._ahead else None
        return Checkpoint(
            self._cursor.name,
            high,
            tail_from,
            spellings,
            self._late.next_watermarks(high) if self._late else (),
        )

    def nulled(self) -> Mapping[str, int]:
        return self._hazards.nulled

    def warnings(self) -> Sequence[str]:
        unsplit = self._relation.unsplit
        whole = f"read by one connection, whatever `partitions` says: {unsplit}" if unsplit else None
        return tuple(warning for warning in (self._warning, whole) if warning)

    def refused(self) -> Sequence[RefusedRow]:
        found, self._refused = self._refused, []
        return found

    def again(
        self,
        *,
        since: CursorValue | None = None,
        until: CursorValue | None = None,
        after: CursorValue | None = None,
    ) -> SqlExtract:
        other = copy(self)
        other._request = replace(self._request, since=since, until=until, after=after)
        other._hazards = HazardCounter(self._stream, self.primary_key)
        other._refused = []
        other._greatest = self._new_greatest()
        other._ahead = self._ahead.anew() if self._ahead else None
        return other

    def text_forms(self) -> Mapping[str, str]:
        system = type(self._dialect.checksums).__name__
        return {name: f"{system} {cell.form}" for name, cell in self._cell_texts().items()}

    def checksums(
        self, columns: Sequence[str], *, until: CursorValue | None = None
    ) -> Mapping[int, tuple[int, int]] | None:
        checksums, cells = self._dialect.checksums, self._cell_texts()
        if checksums is None or not cells.keys() >= set(columns):
            return None
        wanted = replace(self._request, since=None, until=until, after=None)
        condition = self._selects.within(wanted, upper_bounds=True)
        select = self._selects.buckets(checksums, [cells[name] for name in columns], condition)
        return read_buckets(
            row for batch, _ in self._fetch(select, BatchLimits()) for row in batch.to_pylist()
        )

    def _fetch(
        self, select: Select, limits: BatchLimits
    ) -> Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]:
        with found_before(self._stream):
            yield from self._snapshot.fetch(select, limits)

    def _forecast(self, select: Select) -> Forecast:
        with found_before(self._stream):
            return self._snapshot.forecast(select)

    def _cell_texts(self) -> Mapping[str, CellText]:
        checksums = self._dialect.checksums
        if checksums is None:
            return {}
        found = {c.name: checksums.cell(c.select, c.native, c.field.type) for c in self._columns}
        return {name: cell for name, cell in found.items() if cell is not None}

    def _new_greatest(self) -> Greatest | None:
        return Greatest(self._cursor.field, stream=self._stream.name) if self._cursor else None

    def _late_rows(self, cursor: SourceColumn) -> LateRows | None:
        writers = self._snapshot.open_writers()
        if writers is None:
            return None
        first = None
        if self._kind(cursor) in COUNTED:
            first = self._request.since or beginning(cursor.field.type)
        return LateRows(writers, self._request.watermarks, self._stream.lag, self._stream.timezone, first)

    def _ahead_of(self, cursor: SourceColumn) -> Ahead:
        # Who writes alone writes to a file of this machine.
        now = self._late.writers.taken if self._late else datetime.now(UTC)
        return Ahead(cursor.field, stream=self._stream.name, now=now, timezone=self._stream.timezone)

    @property
    def unsettled(self) -> timedelta:
        """How much older the oldest open writer is than every watermark; zero where it is not."""
        return self._late.unsettled if self._late else timedelta()

    def watermark(self) -> Watermark | None:
        """How far cursors are given out in this snapshot; None where they are times or nobody else writes."""
        if self._cursor is None or self._late is None or not self._late.is_counted:
            return None
        high = self._maximum(self._cursor, EVERY_ROW)
        return Watermark(self._late.writers.taken, high) if high is not None else None

    def _kind(self, cursor: SourceColumn) -> CursorKind:
        return values.cursor_kind(cursor.field.type, stream=self._stream.name, column=cursor.name)

    def _find_cursor(self) -> SourceColumn | None:
        if self._stream.cursor is None:
            return None
        self._require((self._stream.cursor,), "cursor column")
        found = next(column for column in self._columns if column.name == self._stream.cursor)
        values.cursor_kind(found.field.type, stream=self._stream.name, column=found.name)
        if self._request.since is not None:
            values.cursor_scalar(self._request.since, found.field.type)
        return found

    def _require(self, names: Sequence[str], what: str) -> None:
        there = [column.name for column in self._columns]
        require(names, there, self._stream, what=what, where=_relation_name(self._stream))

    def _refuse_null_cursors(self) -> None:
        cursor = self._cursor
        if cursor is None or not cursor.nullable or self._stream.null_cursor is not NullCursor.ERROR:
            return
        if self._request.limit is not None:
            return
        for batch, _ in self._fetch(self._selects.null_count(cursor), BatchLimits()):
            nulls = batch.column(0)[0].as_py()
            if nulls:
                raise null_cursor_error(nulls, self._stream)

    @property
    def _orders_as_arrow(self) -> bool:
        return self._greatest is not None and self._greatest.is_comparable

    def _within(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows within the upper bounds; of values that Arrow orders otherwise, the source judged."""
        if self._cursor is None or not self._orders_as_arrow:
            return batch
        return within(batch, self._cursor.name, until=self._request.until, after=self._request.after)

    def _high(self, cursor: SourceColumn) -> CursorValue | None:
        """The greatest cursor of the rows that this extract read, as the source compares them."""
        if self._greatest is not None and self._orders_as_arrow:
            return self._greatest.value()
        return self._maximum(cursor, self._selects.within(self._request, upper_bounds=True))

    def _maximum(self, cursor: SourceColumn, condition: Condition) -> CursorValue | None:
        found = None
        for batch, cells in self._fetch(self._selects.maximum(cursor, condition), BatchLimits()):
            self._hazards.settle(batch, cells)
            if batch.num_rows and batch.column(0)[0].is_valid:
                found = values.cursor_value(batch.column(0)[0], stream=self._stream.name, column=cursor.name)
        return found

    def _tail_from(self, cursor: SourceColumn, high: CursorValue) -> CursorValue:
        """At least the ties of `high`; further back by `lag`, and to the oldest transaction still writing."""

        def order(bound: CursorValue) -> Any:
            return self._order(cursor, bound)

        reached = (self._ahead and self._ahead.tail_from(high, self._request.since)) or high
        bounds = [reached]
        if self._stream.lag is not None and self._kind(cursor) not in COUNTED:
            bounds.append(values.earlier(reached, self._stream.lag))
        late = self._late.begin(high) if self._late else None
        if late is not None:
            # Whoever is still writing was seen, or had not begun, when the tail before this one was fixed.
            bounds.append(max(late, self._request.since or late, key=order))
        return min(bounds, key=order)

    def _order(self, cursor: SourceColumn, bound: CursorValue) -> Any:
        found = values.cursor_scalar(bound, cursor.field.type)
        # Python's own times have no nanoseconds.
        return found.value if isinstance(found, pa.TimestampScalar) else found.as_py()

    def _select(self, selects: StreamSelects, condition: Condition) -> Select:
        """In one of three ways: by ranges of the whole table, in the cursor's order, or as it comes."""
        request = self._request
        if self._relation.ranges and _is_whole(request):
            return selects.in_ranges(condition)
        plain = selects.rows(condition, request.limit)
        ordered = self._in_order(plain)
        self._is_ordered = ordered is not None
        return ordered or plain

    def _in_order(self, plain: Select) -> Select | None:
        """The same rows in the cursor's order, where that is known to be Arrow's and the load is long."""
        cursor, window = self._cursor, self._request.window
        if cursor is None or window is None or self._greatest is None or not self._greatest.is_comparable:
            return None
        refused = (HazardPolicy.ERROR, HazardPolicy.QUARANTINE)
        may_be_null = any(self._stream.policy(hazard) not in refused for hazard in cursor.hazards)
        sql = None if may_be_null else self._dialect.in_order(plain.sql, cursor)
        if sql is None:
            return None
        ordered = replace(plain, sql=sql)
        forecast = self._forecast(ordered)
        if forecast.worth_windows is None:
            return None
        rows = forecast.rows if forecast.rows is not None else self._relation.estimated_rows
        return ordered if rows is None or rows > window.rows * forecast.worth_windows else None

    def _tail_values(self, cursor: SourceColumn, tail_from: CursorValue) -> tuple[str, ...]:
        if tail_from.kind is not CursorKind.TEXT:
            return ()
        found: set[str] = set()
        for batch, _ in self._fetch(self._selects.tail(cursor, tail_from), BatchLimits()):
            found.update(values.storage(batch.column(0)).unique().to_pylist())
        return tuple(sorted(found))


def _columns(relation: Relation, stream: Stream) -> tuple[SourceColumn, ...]:
    """The relation's columns that the stream wants, as its policies want them.

    Raises SourceError (`column_not_found`, `no_columns`) and ConfigError (`duplicate_column`).
    """
    names = chosen([column.name for column in relation.columns], stream, where=_relation_name(stream))
    twice = repeated(names)
    if twice is not None:
        raise ConfigError(
            f"the query gives two columns named {twice!r}",
            hint="give each column a name of its own with AS",
            code="duplicate_column",
            stream=stream.name,
            column=twice,
        )
    wanted = (column for column in relation.columns if column.name in names)
    return tuple(
        column.as_text() if reads_as_text(stream, column.name, column.hazards) else column
        for column in wanted
    )


def _is_whole(request: ReadRequest) -> bool:
    return request.since is None and request.after is None and request.limit is None


def _relation_name(stream: Stream) -> str:
    return stream.table or "the query"
