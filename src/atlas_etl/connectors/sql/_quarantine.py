"""`_atlas_quarantine`: the rows that a stream's table does not have, beside it. All columns are text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._own_rows import reading_own
from atlas_etl.model import QuarantineChange, QuarantinedRow, TableName

QUARANTINE = "_atlas_quarantine"
QUARANTINE_KEY = ("quarantine_id",)
QUARANTINE_COLUMNS = (
    "quarantine_id", "connector", "stream", "table_name", "row_key", "row", "code", "reason", "column_name",
    "run_id", "load_id", "quarantined_at",
)  # fmt: skip
_IDS = 500  # in one statement


class StreamQuarantine(Struct, frozen=True):
    """The refused rows of one stream's table."""

    dialect: WriterDialect
    connector: str
    stream: str
    table: TableName

    @property
    def place(self) -> TableName:
        return TableName(QUARANTINE, self.table.schema)

    def rows(self, connection: Connection) -> tuple[QuarantinedRow, ...]:
        """Every row, the first that was refused first."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        same_table, of_table = self.dialect.same_table(quote("table_name"), self.table.name)
        where = f"{quote('connector')} = {mark} AND {quote('stream')} = {mark} AND {same_table}"
        names = self.dialect.names(QUARANTINE_COLUMNS)
        found = connection.execute(
            f"SELECT {names} FROM {self.dialect.table(self.place)} WHERE {where}",
            (self.connector, self.stream, *of_table),
        )
        with reading_own(QUARANTINE, self.stream):
            return tuple(sorted(map(_row, found), key=attrgetter("order")))

    def apply(self, connection: Connection, change: QuarantineChange) -> None:
        """Make the change part of the transaction that is open."""
        place = self.dialect.table(self.place)
        for ids in _pieces(sorted(change.leave.union(row.quarantine_id for row in change.come))):
            marks = ", ".join(self.dialect.placeholder for _ in ids)
            connection.execute(
                f"DELETE FROM {place} WHERE {self.dialect.quote('quarantine_id')} IN ({marks})", ids
            )
        if change.come:
            cells = zip(*map(self._cells, change.come), strict=True)
            columns = [pa.array(column, pa.string()) for column in cells]
            connection.ingest(place, pa.RecordBatch.from_arrays(columns, QUARANTINE_COLUMNS))

    def _cells(self, row: QuarantinedRow) -> tuple[str | None, ...]:
        return (
            row.quarantine_id, self.connector, self.stream, self.table.name, _json(row.key), _json(row.row),
            row.code, row.reason, row.column, row.run_id, row.load_id, row.quarantined_at.isoformat(),
        )  # fmt: skip


def _row(cells: Sequence[object]) -> QuarantinedRow:
    found = dict(zip(QUARANTINE_COLUMNS, cells, strict=True))
    return QuarantinedRow(
        quarantine_id=str(found["quarantine_id"]),
        stream=str(found["stream"]),
        key=json.loads(str(found["row_key"])),
        row=json.loads(str(found["row"])),
        code=str(found["code"]),
        reason=str(found["reason"]),
        column=None if found["column_name"] is None else str(found["column_name"]),
        run_id=str(found["run_id"]),
        load_id=str(found["load_id"]),
        quarantined_at=datetime.fromisoformat(str(found["quarantined_at"])),
    )


def _json(content: object) -> str:
    return json.dumps(content)  # in ASCII: a NUL that a table refused is no NUL here


def _pieces(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(ids), _IDS):
        yield tuple(ids[start : start + _IDS])
