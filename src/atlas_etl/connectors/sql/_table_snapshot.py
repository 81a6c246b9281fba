"""A destination's table, read by the reader of its system and given in the types that it was written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.connectors.sql._extract import SqlExtract
from atlas_etl.connectors.sql._source import Dialect, Snapshot
from atlas_etl.errors import DestinationError, HazardError
from atlas_etl.model import ReadRequest, Stream, TableName


class SqlTableSnapshot:
    """One table in one snapshot (contracts.TableSnapshot)."""

    def __init__(self, reader: Dialect, writer: WriterDialect, snapshot: Snapshot, table: TableName) -> None:
        self._reader = reader
        self._writer = writer
        self._snapshot = snapshot
        self._table = table

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._extract(schema.names).batches():
                yield self._typed(batch, schema)
        except HazardError as found:
            raise _unreadable(self._table, found.column, found.message) from found

    def text_forms(self, columns: Sequence[str]) -> Mapping[str, str]:
        return self._extract(columns).text_forms()

    def checksums(self, columns: Sequence[str]) -> Mapping[int, tuple[int, int]] | None:
        return self._extract(columns).checksums(columns)

    def _extract(self, columns: Sequence[str]) -> SqlExtract:
        rows = self._writer.as_written(
            f"SELECT {self._writer.names(columns)} FROM {self._writer.table(self._table)}"
        )
        return SqlExtract(self._reader, self._snapshot, ReadRequest(Stream(self._table.name, query=rows)))

    def _typed(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        columns: list[pa.Array] = []
        for column, field in zip(batch.columns, schema, strict=True):
            try:
                columns.append(values.convert(column, field.type))
            except (pa.ArrowInvalid, ValueError) as failure:
                why = f"column {field.name!r} holds a value that is no {values.type_name(field.type)}"
                raise _unreadable(self._table, field.name, why) from failure
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _unreadable(table: TableName, column: str | None, why: str) -> DestinationError:
    return DestinationError(
        f"{table} is not as it was loaded: {why}",
        hint="correct that row, or load the table again with --full-refresh",
        code="unreadable_value",
        column=column,
    )
