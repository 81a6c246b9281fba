"""The files of one stream as a source of rows: a listing is the snapshot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

import pyarrow as pa

from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._folder import place_of_root
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._select import Selection
from atlas_etl.connectors.files._store import Store
from atlas_etl.connectors.files._survey import refuse_changes, surveyed
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.model import CursorKind, CursorValue, TableName


class FileRows:
    """Files as they were when their stream was opened (row_source.RowSource)."""

    is_ordered = False  # rows come as the files have them
    is_between = False
    has_own_bounds = False
    primary_key: tuple[str, ...] = ()  # files keep no keys

    def __init__(
        self, store: Store, form: Format, selection: Selection, limit: int | None, known: Known
    ) -> None:
        """At least the first `limit` rows are looked at for their types, all without one."""
        self._store = store
        self._format = form if selection.manifest is None else form.as_written()
        self._selection = selection
        self._survey = surveyed(store, form, selection, limit, known)
        self.schema = self._survey.schema
        self.where = selection.path
        self.time_hazards = form.time_hazards
        self.put_back = timedelta()  # nothing tells whether a clock adds its rows
        self.rows = self._survey.rows

    @property
    def tables(self) -> frozenset[TableName]:
        folders = (folder.rpartition("/") for folder in self._selection.written_folders)
        return frozenset(TableName(name, os.path.basename(parent)) for parent, _, name in folders)

    def place(self) -> str | None:
        roots = {os.path.dirname(os.path.dirname(folder)) for folder in self._selection.written_folders}
        return place_of_root(roots.pop()) if len(roots) == 1 else None

    def may_change_from(self, high: CursorValue) -> CursorValue:
        return high

    def looked_until(self, _: CursorKind) -> CursorValue | None:
        return None

    def parents(self, _: CursorValue) -> None:
        """Files have none."""

    def count_nulls(self, column: str) -> int:
        known = self._survey.nulls.get(column)
        if known is not None:
            return known
        only = Wanted(pa.schema([self.schema.field(column)]))
        return sum(batch.column(0).null_count for batch in self._batches(only))

    def warnings(self) -> tuple[str, ...]:
        lost = [repr(name) for name in self._selection.partitions if name not in self.schema.names]
        if not lost:
            return ()
        return (
            f"{', '.join(lost)}: the files have no such columns, and what the names of their folders say "
            f"(`{lost[0][1:-1]}=...`) is not read; write these values into the files to have them",
        )

    def statements(self) -> tuple[str, ...]:
        return (f"{len(self._selection.files):,} file(s) of {self._selection.path}",)

    def caveats(self, cursor: str | None) -> tuple[str, ...]:
        if cursor is None or self._selection.manifest is not None:
            return ()
        return ("files that appear later are read from the tail on only: older cursors in them are missed",)

    def interrupt(self) -> None:
        """Files keep nobody waiting."""

    def batches(self, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        yield from self._batches(wanted)
        # What was read early may have changed late: the snapshot is all files at one time.
        refuse_changes(self._store, self._selection)

    def _batches(self, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        for file in self._selection.files:
            with reading(file.path):
                yield from self._format.batches(self._store, file, wanted)
