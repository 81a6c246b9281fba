"""Readers of systems that give records: a protocol says which streams there are, and the records of one.

Everything else that a connector promises is made of these. The records of a stream are kept in a temporary
file while it is open: that is its snapshot, of which types are found over all values.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from tempfile import TemporaryFile
from typing import BinaryIO, TypeVar

import msgspec
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.connectors.json_texts import JsonColumn, Row, names_of, row_of, texts, texts_of, typed
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.row_source import Wanted, may_grow
from atlas_etl.connectors.unordered import UnorderedExtract
from atlas_etl.errors import SourceError, nearest
from atlas_etl.model import (
    ColumnInfo,
    ConnectionStatus,
    CursorKind,
    CursorValue,
    Hazard,
    KnownColumns,
    NullCursor,
    ParentBound,
    ReadRequest,
    Stream,
    StreamInfo,
    TableName,
)

Config = TypeVar("Config", bound=ConnectionConfig)

_PAGE_ROWS, _PAGE_BYTES = 10_000, 2 * 1024 * 1024  # written and decoded at once
_LATE = "records that the system shows later than their cursor says, by more than `lag`, are missed"
_ENCODER = msgspec.json.Encoder()
_PAGE = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class RecordsConnector(BaseConnector[Config]):
    """A connector of which a protocol's file writes two methods: `names` and `records`.

    One that keeps a client open closes it in `close`, which may be called twice.
    """

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Every stream that the connection can read. Raises SourceError where it cannot be reached."""

    @abstractmethod
    def records(self, name: str, since: CursorValue | None) -> Iterable[Mapping[str, object]]:
        """The records of one of these streams, once, in any order; read as they come, never all in memory.

        Values are Python's own (None, bool, int, Decimal, float, str, datetime, date, time, UUID, and lists
        and dicts for documents), or JSON texts as they came (msgspec.Raw). Records whose cursor is before
        `since` are not wanted, and may be left out where the system can select. Raises SourceError.
        """

    def test(self) -> ConnectionStatus:
        return ConnectionStatus(f"{len(self.names()):,} stream(s)")

    def discover(self) -> Sequence[StreamInfo]:
        return [self.describe(Stream(name, table=name)) for name in self.names()]

    def describe(self, stream: Stream) -> StreamInfo:
        with self._rows(ReadRequest(stream)) as rows:
            return StreamInfo(
                stream.name,
                tuple(
                    ColumnInfo(field.name, values.type_name(field.type), rows.count_nulls(field.name) != 0)
                    for field in rows.schema
                ),
                primary_key=stream.primary_key,
                cursor_candidates=tuple(
                    field.name
                    for field in rows.schema
                    if rows.count_nulls(field.name) == 0 and may_grow(field.type)
                ),
                estimated_rows=rows.rows,
            )

    @contextmanager
    def open(self, request: ReadRequest) -> Iterator[UnorderedExtract]:
        with self._rows(request) as rows:
            if not rows.schema.names:  # no record has ever told what there is to choose from
                request = ReadRequest(Stream(request.stream.name, table=request.stream.table))
            yield UnorderedExtract(rows, request)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def stream_of(self, query: str) -> Stream:
        return Stream(name="query", table=query)

    @contextmanager
    def _rows(self, request: ReadRequest) -> Iterator[_Rows]:
        name = request.stream.table or request.stream.path or request.stream.query or ""
        there = self.names()
        if name not in there:
            raise SourceError(
                f"{self.protocol} has no stream {name!r}",
                hint=nearest(name, there) or "`atlas connector discover` lists the streams",
                code="table_not_found",
                stream=request.stream.name,
            )
        is_first = request.since is None and request.stream.null_cursor is not NullCursor.EXCLUDE
        limit = request.limit if is_first else None
        with TemporaryFile(prefix="atlas-records-") as file:
            rows = _Rows(file, f"{self.protocol} {name!r}", request.known)
            rows.keep(islice(self.records(name, request.since), limit))
            yield rows


class _Rows:
    """The records of one stream in a file (row_source.RowSource)."""

    is_ordered = is_between = has_own_bounds = False
    primary_key: tuple[str, ...] = ()
    tables: frozenset[TableName] = frozenset()
    time_hazards: frozenset[Hazard] = frozenset()
    put_back = timedelta()  # nothing tells whether a clock adds its rows

    def __init__(self, file: BinaryIO, where: str, known: KnownColumns | None) -> None:
        self.where = where
        self.rows = 0
        self._file = file
        self._places: list[tuple[int, int]] = []  # in the file: where each page begins, and its size
        self._columns: dict[str, JsonColumn] = {}
        self._known = Known(known)

    def keep(self, records: Iterable[Mapping[str, object]]) -> None:
        """Write the records down, and take note of their types. Raises SourceError (`value_type`)."""
        page: list[Row] = []
        size = 0
        for record in records:
            page.append(self._row(record))
            size += sum(map(len, page[-1].values()))
            if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
                self._keep(page)
                page, size = [], 0
        if page:
            self._keep(page)

    @property
    def schema(self) -> pa.Schema:
        """The columns that have a value in some record, and those that had one earlier."""
        seen = {name: c.type if c.valid else self._known.type_of(name) for name, c in self._columns.items()}
        return self._known.schema(seen)

    def count_nulls(self, column: str) -> int:
        found = self._columns.get(column)
        return self.rows - (found.valid if found is not None else 0)

    def place(self) -> None:
        """No database is behind it that could be written to."""

    def may_change_from(self, high: CursorValue) -> CursorValue:
        return high

    def looked_until(self, _: CursorKind) -> CursorValue | None:
        return None

    def parents(self, tail_from: CursorValue) -> tuple[ParentBound, ...] | None:  # noqa: ARG002
        return None

    def warnings(self) -> Sequence[str]:
        return ()

    def statements(self) -> Sequence[str]:
        return (f"records of {self.where}",)

    def caveats(self, cursor: str | None) -> Sequence[str]:
        return () if cursor is None else (_LATE,)

    def interrupt(self) -> None:
        """What was read already keeps nobody waiting."""

    def batches(self, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        for start, size in self._places:
            page = _PAGE.decode(os.pread(self._file.fileno(), size, start))
            columns = [typed(texts(page, field.name), field.type) for field in wanted.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=wanted.schema)

    def _row(self, record: Mapping[str, object]) -> Row:
        try:
            return row_of(record)
        except ValueError as failure:
            raise SourceError(
                f"{self.where} has a record that cannot be read exactly: {failure}",
                hint="have the protocol's `records` give such a value as text",
                code="value_type",
            ) from failure

    def _keep(self, page: list[Row]) -> None:
        content = _ENCODER.encode(page)
        self._places.append((self._file.tell(), len(content)))
        self._file.write(content)
        self._file.flush()
        self.rows += len(page)
        for name in names_of(page):
            self._column(name).see(texts_of(page, name, self.where))

    def _column(self, name: str) -> JsonColumn:
        if name not in self._columns:
            self._columns[name] = JsonColumn(self._known.settled_type(name))
        return self._columns[name]
