"""One stream of one SQL snapshot: what to select, and how far that reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from datetime import timedelta

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.columns import chosen, null_cursor_error, repeated, require
from atlas_etl.connectors.hazards import HazardCounter, reads_as_text
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.sql._checksums import CellText, read_buckets
from atlas_etl.connectors.sql._reach import Reach
from atlas_etl.connectors.sql._selects import Condition, StreamSelects
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
        self._columns = _columns(self._relation, request.stream, Known(request.known))
        self._cursor = self._find_cursor()
        self._selects = StreamSelects(dialect, self._relation, request.stream, self._columns, self._cursor)
        self.primary_key = request.stream.primary_key or self._relation.primary_key
        self.schema = pa.schema([column.field for column in self._columns])
        self._require(self.primary_key, "primary key column")
        self._hazards = HazardCounter(request.stream, self.primary_key)
        self._refused: list[RefusedRow] = []
        self._reach = self._reach_of(self._cursor) if self._cursor else None
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
        return self._reach.next_tail if self._reach else None

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
        arrow_judges = self._reach is not None and self._reach.orders_as_arrow
        condition = selects.within(self._request, upper_bounds=not arrow_judges)
        for batch, cells in self._fetch(self._select(selects, condition), self._request.limits):
            kept, refused = self._hazards.settle(batch, cells)
            self._refused += (found for found in refused if self._within(found.row).num_rows)
            for piece in values.split(self._within(kept), self._request.limits):
                if self._reach is not None:
                    self._reach.see(piece, cells)
                yield piece

    def outline(self) -> ReadOutline:
        select = self._select(self._selects, self._selects.within(self._request, upper_bounds=True))
        rows = self.estimated_rows if _is_whole(self._request) else self._forecast(select).rows
        late = self._reach.caveat if self._reach else None
        unseen = self._relation.late if self._cursor else None
        caveats = tuple(each for each in (self._relation.caveat, unseen, late) if each)
        return ReadOutline(select.told, rows, caveats)

    def interrupt(self) -> None:
        self._snapshot.interrupt()

    def reached(self) -> Checkpoint | None:
        if not self._is_ordered or self._reach is None or not self._reach.is_past():
            return None
        return self._reach.checkpoint()

    def checkpoint(self) -> Checkpoint | None:
        return self._reach.checkpoint() if self._reach else None

    def nulled(self) -> Mapping[str, int]:
        return self._hazards.nulled

    def warnings(self) -> Sequence[str]:
        unsplit = self._relation.unsplit
        whole = f"read by one connection, whatever `partitions` says: {unsplit}" if unsplit else None
        warning = self._reach.warning if self._reach else None
        return tuple(each for each in (warning, whole) if each)

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
        other._reach = self._reach.again(other._request, other._hazards) if self._reach else None
        return other

    @property
    def unsettled(self) -> timedelta:
        """How much older the oldest open writer is than every watermark; zero where it is not."""
        return self._reach.unsettled if self._reach else timedelta()

    def watermark(self) -> Watermark | None:
        """How far cursors are given out in this snapshot; None where they are times or nobody else writes."""
        return self._reach.watermark() if self._reach else None

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

    def _reach_of(self, cursor: SourceColumn) -> Reach:
        writers = self._snapshot.open_writers()
        return Reach(cursor, self._selects, self._request, self._fetch, self._hazards, writers=writers)

    def _find_cursor(self) -> SourceColumn | None:
        if self._stream.cursor is None:
            return None
        self._require((self._stream.cursor,), "cursor column")
        return next(column for column in self._columns if column.name == self._stream.cursor)

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

    def _within(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self._reach.within(batch) if self._reach else batch

    def _select(self, selects: StreamSelects, condition: Condition) -> Select:
        """In one of three ways: by ranges of the whole table, in the cursor's order, or as it comes.

        Ranges that nobody asked for do not keep a long load from being committed in windows.
        """
        request = self._request
        plain = selects.rows(condition, request.limit)
        ranges = selects.in_ranges(plain, condition) if _is_whole(request) else None
        order = self._order_worth_its_price(plain)
        follows = order is not None and order.name == self._relation.ranges_follow
        if order is None or (ranges and self._stream.partitions and not follows):
            self._is_ordered = False
            return ranges or plain
        self._is_ordered = True
        return self._sorted(ranges if ranges and follows else plain, order)

    def _sorted(self, select: Select, column: SourceColumn) -> Select:
        parts = tuple(self._sorted(part, column) for part in select.ranges)
        return replace(select, sql=self._dialect.in_order(select.sql, column), ranges=parts)

    def _order_worth_its_price(self, plain: Select) -> SourceColumn | None:
        """The cursor to sort the rows by, where its order is known to be Arrow's and the load is long."""
        cursor, window = self._cursor, self._request.window
        if cursor is None or window is None or self._reach is None or not self._reach.orders_as_arrow:
            return None
        refused = (HazardPolicy.ERROR, HazardPolicy.QUARANTINE)
        may_be_null = any(self._stream.policy(hazard) not in refused for hazard in cursor.hazards)
        if may_be_null or not cursor.sorts_as_arrow:
            return None
        forecast = self._forecast(self._sorted(plain, cursor))
        if forecast.worth_windows is None:
            return None
        rows = forecast.rows if forecast.rows is not None else self._relation.estimated_rows
        return cursor if rows is None or rows > window.rows * forecast.worth_windows else None


def _columns(relation: Relation, stream: Stream, known: Known) -> tuple[SourceColumn, ...]:
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
    texts = {name for name in relation.spared if known.settled_type(name) == pa.string()}
    wanted = (column for column in relation.columns if column.name in names)
    return tuple(
        column.as_text()
        if column.name in texts or reads_as_text(stream, column.name, column.hazards)
        else column
        for column in wanted
    )


def _is_whole(request: ReadRequest) -> bool:
    return request.since is None and request.after is None and request.limit is None


def _relation_name(stream: Stream) -> str:
    return stream.table or "the query"
