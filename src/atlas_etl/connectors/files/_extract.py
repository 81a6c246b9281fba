"""One stream of files: a listing as the snapshot, its rows by format, and how far they reach."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors import columns
from atlas_etl.connectors.ahead import Ahead
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._folder import place_of_root
from atlas_etl.connectors.files._format import Format, LowerBound, Wanted
from atlas_etl.connectors.files._order import Edges
from atlas_etl.connectors.files._select import Selection
from atlas_etl.connectors.files._store import Store
from atlas_etl.connectors.files._survey import refuse_changes, surveyed
from atlas_etl.connectors.hazards import HazardCounter, mask_temporal, reads_as_text
from atlas_etl.connectors.order import at_or_after, within
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    NullCursor,
    ReadRequest,
    RefusedRow,
    TableName,
)


class FilesExtract:
    """One stream of files as they were when it was opened (contracts.Extract)."""

    def __init__(self, store: Store, form: Format, selection: Selection, request: ReadRequest) -> None:
        self._store = store
        self._format = form if selection.manifest is None else form.as_written()
        self._selection = selection
        self._request = request
        self._stream = request.stream
        self._survey = surveyed(store, form, selection, request.limit)
        there = self._survey.schema.names
        chosen = columns.chosen(there, self._stream, where=selection.path)
        self._stored = pa.schema([self._survey.schema.field(name) for name in chosen])
        self._times_as_text = [
            field.name
            for field in self._stored
            if (pa.types.is_timestamp(field.type) or pa.types.is_date(field.type))
            and reads_as_text(self._stream, field.name, form.time_hazards)
        ]
        self.schema = pa.schema(
            [f.with_type(pa.string()) if f.name in self._times_as_text else f for f in self._stored]
        )
        self.primary_key = self._stream.primary_key
        columns.require(
            self.primary_key, chosen, self._stream, what="primary key column", where=selection.path
        )
        self._bound = self._lower_bound()
        self._hazards = HazardCounter(self._stream, self.primary_key)
        self._refused: list[RefusedRow] = []
        self._edges = Edges()
        self._ahead = self._ahead_of(self._stream.cursor) if self._stream.cursor else None
        self._warning: str | None = None
        self._refuse_null_cursors()

    @property
    def tables(self) -> frozenset[TableName]:
        folders = (folder.rpartition("/") for folder in self._selection.written_folders)
        return frozenset(TableName(name, os.path.basename(parent)) for parent, _, name in folders)

    def place(self) -> str | None:
        roots = {os.path.dirname(os.path.dirname(folder)) for folder in self._selection.written_folders}
        return place_of_root(roots.pop()) if len(roots) == 1 else None

    @property
    def key_is_unique(self) -> bool:
        return False  # files keep no keys

    @property
    def estimated_rows(self) -> int | None:
        return None if self._request.since else self._survey.rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        left = self._request.limit
        for batch in self._wanted():
            rows = batch if left is None else batch.slice(0, left)
            if self._ahead is not None:
                cursors = rows.column(self._stream.cursor)
                self._edges = self._edges.with_column(cursors)
                self._ahead.see(cursors)
            yield from values.split(rows, self._request.limits)
            if left is not None:
                left -= rows.num_rows
                if left <= 0:
                    return
        # What was read early may have changed late: the snapshot is all files at one time.
        refuse_changes(self._store, self._selection)

    def reached(self) -> None:
        return None  # rows come as the files have them

    def checkpoint(self) -> Checkpoint | None:
        cursor = self._stream.cursor
        if cursor is None or self._edges.high is None or self._ahead is None:
            return None
        high = values.cursor_value(self._edges.high, stream=self._stream.name, column=cursor)
        tail_from = self._ahead.tail_from(high, self._request.since) or high
        if self._stream.lag is not None:
            tail_from = values.earlier(tail_from, self._stream.lag)
        self._warning = self._ahead.warning(high)
        spellings = (high.text,) if high.kind is CursorKind.TEXT else ()
        return Checkpoint(cursor, high, tail_from, spellings)

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
    ) -> FilesExtract:
        other = copy(self)
        other._request = replace(self._request, since=since, until=until, after=after)
        other._bound = other._lower_bound()
        other._hazards = HazardCounter(self._stream, self.primary_key)
        other._refused = []
        other._edges = Edges()
        other._ahead = self._ahead.anew() if self._ahead else None
        return other

    def warnings(self) -> Sequence[str]:
        return (self._warning,) if self._warning else ()

    def text_forms(self) -> Mapping[str, str]:
        return {}

    def checksums(self, columns: Sequence[str], *, until: CursorValue | None = None) -> None:
        """Files compute nothing by themselves."""

    def _wanted(self) -> Iterator[pa.RecordBatch]:
        """The rows that the request asks for, without its limit."""
        wanted = Wanted(self._stored, self._request.limits, self._bound)
        for file in self._selection.files:
            with reading(file.path):
                for batch in self._format.batches(self._store, file, wanted):
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
            (cursor,), self.schema.names, self._stream, what="cursor column", where=self._selection.path
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

    def _refuse_null_cursors(self) -> None:
        cursor = self._stream.cursor
        if (
            cursor is None
            or self._stream.null_cursor is not NullCursor.ERROR
            or self._request.limit is not None
        ):
            return
        nulls = self._survey.nulls.get(cursor)
        if nulls is None:
            only = Wanted(pa.schema([self._stored.field(cursor)]))
            nulls = 0
            for file in self._selection.files:
                with reading(file.path):
                    batches = self._format.batches(self._store, file, only)
                    nulls += sum(batch.column(0).null_count for batch in batches)
        if nulls:
            raise columns.null_cursor_error(nulls, self._stream)
