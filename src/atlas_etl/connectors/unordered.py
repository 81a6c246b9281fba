"""One stream whose rows come as Arrow and in no order: columns, hazards, bounds, and how far they reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors import columns
from atlas_etl.connectors.ahead import Ahead
from atlas_etl.connectors.clocks_back import before_repeats
from atlas_etl.connectors.hazards import HazardCounter, mask_temporal, reads_as_text, temporal_hazards
from atlas_etl.connectors.order import Edges, at_or_after, before, edges, within
from atlas_etl.connectors.row_source import LowerBound, RowSource, Wanted
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    NextTail,
    NullCursor,
    ReadOutline,
    ReadRequest,
    RefusedRow,
    TableName,
)


class UnorderedExtract:
    """One stream of such a source (contracts.Extract)."""

    def __init__(self, source: RowSource, request: ReadRequest) -> None:
        self._source = source
        self._request = request
        self._stream = request.stream
        chosen = (
            columns.chosen(source.schema.names, self._stream, where=source.where) if source.schema else ()
        )
        self._stored = pa.schema([source.schema.field(name) for name in chosen])
        self._times_as_text = [
            field.name
            for field in self._stored
            if reads_as_text(self._stream, field.name, source.time_hazards & temporal_hazards(field.type))
        ]
        self.schema = pa.schema(
            [f.with_type(pa.string()) if f.name in self._times_as_text else f for f in self._stored]
        )
        self.primary_key = self._stream.primary_key or source.primary_key
        columns.require(self.primary_key, chosen, self._stream, what="primary key column", where=source.where)
        bound = self._lower_bound()
        self._bound = None if source.has_own_bounds else bound
        self._hazards = HazardCounter(self._stream, self.primary_key)
        self._refused: list[RefusedRow] = []
        self._edges = Edges()
        self._is_between = False
        self._ahead = self._ahead_of(self._stream.cursor) if self._stream.cursor else None
        self._warning: str | None = None
        self._refuse_null_cursors()

    @property
    def tables(self) -> frozenset[TableName]:
        return self._source.tables

    def place(self) -> str | None:
        return self._source.place()

    @property
    def key_is_unique(self) -> bool:
        return False  # nobody keeps two rows from sharing it

    @property
    def estimated_rows(self) -> int | None:
        return None if self._request.since else self._source.rows

    @property
    def next_tail(self) -> NextTail | None:
        cursor = self._stream.cursor
        if cursor is None:
            return None
        kind = values.cursor_kind(self.schema.field(cursor).type, stream=self._stream.name, column=cursor)
        back = self._source.put_back if kind is CursorKind.TIMESTAMP else timedelta()
        return NextTail(lag=back + (self._stream.lag or timedelta()))

    @property
    def wire_format(self) -> None:
        return None

    def wire_batches(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def outline(self) -> ReadOutline:
        caveats = self._source.caveats(self._stream.cursor)
        return ReadOutline(tuple(self._source.statements()), self.estimated_rows, tuple(caveats))

    def interrupt(self) -> None:
        self._source.interrupt()

    def batches(self) -> Iterator[pa.RecordBatch]:
        left = self._request.limit
        for batch in self._wanted():
            rows = batch if left is None else batch.slice(0, left)
            if self._ahead is not None:
                cursors = rows.column(self._stream.cursor)
                if self._refuses_nulls and cursors.null_count:
                    raise columns.null_cursor_error(cursors.null_count, self._stream)
                self._refuse_other_order(cursors)
            pieces = list(values.split(rows, self._request.limits))
            for number, piece in enumerate(pieces, 1):
                if self._ahead is not None:
                    cursors = piece.column(self._stream.cursor)
                    self._edges = self._edges.with_column(cursors)
                    self._ahead.see(cursors)
                self._is_between = number == len(pieces) and self._source.is_between
                yield piece
            if left is not None:
                left -= rows.num_rows
                if left <= 0:
                    return

    def reached(self) -> Checkpoint | None:
        may_end = (self._source.is_ordered or self._is_between) and self._request.window is not None
        if not may_end or self._edges.high is None or self._stream.cursor is None:
            return None
        past = self._request.past
        if past is not None and not before(
            values.cursor_scalar(past, self._edges.high.type), self._edges.high
        ):
            return None
        return self._committed()

    def checkpoint(self) -> Checkpoint | None:
        found, looked_until = self._committed(), self._looked_until()
        cursor, past = self._stream.cursor, self._request.past
        high = found.high if found is not None else past  # where no row came, it stays
        begun = found.tail_from if found is not None else self._request.since
        if cursor is None or high is None or begun is None or looked_until is None:
            return found
        if begun.kind is not looked_until.kind or not values.comes_before(begun, looked_until):
            return found
        high = looked_until if values.comes_before(high, looked_until) else high
        return Checkpoint(cursor, high, looked_until, parents=self._source.parents(looked_until))

    def _committed(self) -> Checkpoint | None:
        """As the rows tell it that were given so far."""
        cursor = self._stream.cursor
        if cursor is None or self._edges.high is None or self._ahead is None:
            return None
        high = values.cursor_value(self._edges.high, stream=self._stream.name, column=cursor)
        tail_from = self._ahead.tail_from(high, self._request.since) or high
        tail_from = self._source.may_change_from(tail_from)
        if self._source.put_back:
            tail_from = before_repeats(tail_from, self._stream.timezone, self._source.put_back)
        if self._stream.lag is not None:
            tail_from = values.earlier(tail_from, self._stream.lag)
        self._warning = self._ahead.warning(high)
        spellings = (high.text,) if high.kind is CursorKind.TEXT else ()
        return Checkpoint(cursor, high, tail_from, spellings, parents=self._source.parents(tail_from))

    def _looked_until(self) -> CursorValue | None:
        """As the source has it, no later than rows may change from, or come."""
        cursor = self._stream.cursor
        if cursor is None or self._ahead is None:
            return None
        kind = values.cursor_kind(self.schema.field(cursor).type, stream=self._stream.name, column=cursor)
        found = self._source.looked_until(kind)
        if found is None:
            return None
        found = self._source.may_change_from(found)
        return values.earlier(found, self._stream.lag) if self._stream.lag is not None else found

    def nulled(self) -> Mapping[str, int]:
        return self._hazards.nulled

    def refused(self) -> Sequence[RefusedRow]:
        found, self._refused = self._refused, []
        return found

    def again(
        self,
        *,
        since: CursorValue | None = None,
        until: CursorValue | None = None,
        after: CursorValue | None = None,
    ) -> UnorderedExtract:
        other = copy(self)
        other._request = replace(self._request, since=since, until=until, after=after)
        other._bound = other._lower_bound()
        other._hazards = HazardCounter(self._stream, self.primary_key)
        other._refused = []
        other._edges = Edges()
        other._ahead = self._ahead.anew() if self._ahead else None
        return other

    def warnings(self) -> Sequence[str]:
        own = (self._warning,) if self._warning else ()
        return (*own, *self._source.warnings())

    def text_forms(self) -> Mapping[str, str]:
        return {}

    def checksums(self, columns: Sequence[str], *, until: CursorValue | None = None) -> None:
        """Nothing is computed where the rows are."""

    def _wanted(self) -> Iterator[pa.RecordBatch]:
        """The rows that the request asks for, without its limit."""
        wanted = Wanted(self._stored, self._request.limits, self._bound)
        for batch in self._source.batches(wanted):
            rows = self._from_bound(self._settled(batch))
            if rows.num_rows:
                yield rows

    def _settled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch after the stream's policies for dates and times that are infinite or too far."""
        masked, cells = mask_temporal(batch)
        if self._times_as_text:
            texts = {field.name: masked.column(field.name) for field in self._stored}
            for name in self._times_as_text:
                texts[name] = values.to_text(texts[name])
            for found in cells:
                if found.column in self._times_as_text:
                    at = pa.array(np.isin(np.arange(batch.num_rows), found.rows))
                    texts[found.column] = pc.replace_with_mask(texts[found.column], at, pa.array(found.texts))
            masked = pa.RecordBatch.from_arrays(list(texts.values()), schema=self.schema)
            cells = [found for found in cells if found.column not in self._times_as_text]
        kept, refused = self._hazards.settle(masked, cells)
        self._refused += (found for found in refused if self._from_bound(found.row).num_rows)
        return kept

    def _from_bound(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._stream.cursor is None:
            return batch
        request = self._request
        batch = within(batch, self._stream.cursor, until=request.until, after=request.after)
        column = batch.column(self._stream.cursor)
        if self._bound is not None:
            keep = pc.fill_null(at_or_after(column, self._bound.value), self._bound.with_nulls)
            return batch.filter(keep)
        return batch.filter(pc.is_valid(column)) if self._stream.null_cursor is NullCursor.EXCLUDE else batch

    def _lower_bound(self) -> LowerBound | None:
        cursor = self._stream.cursor
        if cursor is None:
            return None
        columns.require(
            (cursor,), self.schema.names, self._stream, what="cursor column", where=self._source.where
        )
        kind = self.schema.field(cursor).type
        values.cursor_kind(kind, stream=self._stream.name, column=cursor)
        if self._request.since is None:
            return None
        since = values.cursor_scalar(self._request.since, kind)
        return LowerBound(cursor, since, self._stream.null_cursor is NullCursor.INCLUDE)

    def _ahead_of(self, cursor: str) -> Ahead:
        field, zone = self.schema.field(cursor), self._stream.timezone
        return Ahead(field, stream=self._stream.name, now=datetime.now(UTC), timezone=zone)

    def _refuse_other_order(self, cursors: pa.Array) -> None:
        """A load that ends here would lose what comes later and is before it."""
        high = self._edges.high
        if not self._source.is_ordered or high is None:
            return
        low = edges(cursors).low
        if low is not None and before(low, high):
            raise SourceError(
                f"{self._source.where} does not give its records in the order of {self._stream.cursor!r}",
                hint="set `order: none` under the resource's `incremental`, or have the API sort them",
                code="not_in_order",
                stream=self._stream.name,
                column=self._stream.cursor,
            )

    def _refuse_null_cursors(self) -> None:
        cursor, nulls = self._stream.cursor, None
        if cursor is not None and self._refuses_nulls:
            nulls = self._source.count_nulls(cursor)
        if nulls:
            raise columns.null_cursor_error(nulls, self._stream)

    @property
    def _refuses_nulls(self) -> bool:
        return self._stream.null_cursor is NullCursor.ERROR and self._request.limit is None
