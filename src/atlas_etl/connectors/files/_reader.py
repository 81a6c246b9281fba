"""Reading files: what a store holds of one format, and the extracts of its streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from atlas_etl import values
from atlas_etl.connectors.base import BaseConnector
from atlas_etl.connectors.files._examined import examined
from atlas_etl.connectors.files._extract import FileRows
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._format import FileConnection, Format
from atlas_etl.connectors.files._select import groups, select
from atlas_etl.connectors.files._store import Store
from atlas_etl.connectors.files._survey import surveyed
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.row_source import may_grow
from atlas_etl.connectors.unordered import UnorderedExtract
from atlas_etl.model import (
    ColumnInfo,
    ConnectionStatus,
    Examination,
    Finding,
    ReadRequest,
    Stream,
    StreamInfo,
)

Config = TypeVar("Config", bound=FileConnection)


class FilesConnector(BaseConnector[Config]):
    """Reads one format from one store."""

    def __init__(self, config: Config, form: Format, store: Store, root: str) -> None:
        super().__init__(config, protocol=form.protocol)
        self._format = form
        self._store = store
        self._root = root

    def test(self) -> ConnectionStatus:
        selection = select(self._store, self._format, self._root, Stream("test"))
        for file in selection.files[:1]:
            with reading(file.path), self._store.open(file.path) as opened:
                opened.read(1)
        size = sum(file.size for file in selection.files)
        return ConnectionStatus(f"{len(selection.files)} {self.protocol} file(s), {size:,} bytes")

    def examine(self, examination: Examination) -> Iterator[Finding]:
        return examined(self._store, self._format, self._root, examination)

    def discover(self) -> Sequence[StreamInfo]:
        found = groups(self._store, self._format, self._root)
        return [self._info(Stream(name, path=path)) for name, path in found.items()]

    def describe(self, stream: Stream) -> StreamInfo:
        return self._info(stream)

    @contextmanager
    def open(self, request: ReadRequest) -> Iterator[UnorderedExtract]:
        selection = select(self._store, self._format, self._root, request.stream)
        rows = FileRows(self._store, self._format, selection, request.limit, Known(request.known))
        yield UnorderedExtract(rows, request)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def stream_of(self, query: str) -> Stream:
        return Stream(name="query", path=query)

    def _info(self, stream: Stream) -> StreamInfo:
        selection = select(self._store, self._format, self._root, stream)
        survey = surveyed(self._store, self._format, selection, None)
        grows = [
            field.name
            for field in survey.schema
            if survey.nulls.get(field.name) == 0 and may_grow(field.type)
        ]
        return StreamInfo(
            stream.name,
            tuple(
                ColumnInfo(
                    field.name,
                    values.source_type(field) or values.type_name(field.type),
                    survey.nulls.get(field.name) != 0,
                )
                for field in survey.schema
            ),
            primary_key=stream.primary_key,
            cursor_candidates=tuple(grows),
            estimated_rows=survey.rows,
        )
