"""Atlas's own tables beside the data: `_atlas_checkpoints` and `_atlas_loads`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.model import (
    Checkpoint,
    CommittedCheckpoint,
    CursorKind,
    CursorValue,
    Disposition,
    TableName,
)

CHECKPOINTS = "_atlas_checkpoints"
LOADS = "_atlas_loads"

_CHECKPOINT_COLUMNS = (
    "connector", "stream", "table_name", "cursor_column", "cursor_kind", "high", "tail_from", "tail_values",
    "run_id", "committed_at",
)  # fmt: skip
_LOAD_COLUMNS = (
    "load_id", "run_id", "connector", "stream", "table_name", "disposition", "row_count", "committed_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one stream's table, written inside the load's own transaction. All columns are text."""

    dialect: WriterDialect
    connector: str
    stream: str
    table: TableName

    @property
    def checkpoints_table(self) -> TableName:
        return TableName(CHECKPOINTS, self.table.schema)

    @property
    def loads_table(self) -> TableName:
        return TableName(LOADS, self.table.schema)

    def create(self, connection: Connection) -> None:
        """Make both tables where they are missing."""
        dialect = self.dialect
        for table, columns, key in (
            (self.checkpoints_table, _CHECKPOINT_COLUMNS, ("connector", "stream")),
            (self.loads_table, _LOAD_COLUMNS, ("load_id",)),
        ):
            kinds = (
                f"{dialect.quote(column)} {dialect.key_type if column in key else dialect.text_type}"
                for column in columns
            )
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {dialect.table(table)} "
                f"({', '.join(kinds)}, PRIMARY KEY ({dialect.names(key)}))"
            )

    def loaded(self, connection: Connection) -> bool:
        """Whether Atlas ever committed a load of this stream into this table."""
        where, parameters = self._of_stream()
        loads = self.dialect.table(self.loads_table)
        return bool(connection.execute(f"SELECT 1 FROM {loads}{where} LIMIT 1", parameters))

    def checkpoint(self, connection: Connection) -> Checkpoint | None:
        """The checkpoint of this stream in this table."""
        found = _select(self.dialect, connection, self.checkpoints_table, *self._of_stream())
        return found[0].checkpoint if found else None

    def record_checkpoint(self, connection: Connection, checkpoint: Checkpoint | None, run_id: str) -> None:
        """Put this checkpoint in the place of the one that is there; None forgets it."""
        dialect, name = self.dialect, self.dialect.table(self.checkpoints_table)
        same = " AND ".join(
            f"{dialect.quote(key)} = {dialect.placeholder}" for key in ("connector", "stream")
        )
        connection.execute(f"DELETE FROM {name} WHERE {same}", (self.connector, self.stream))
        if checkpoint is not None:
            row = (
                self.connector, self.stream, self.table.name, checkpoint.cursor,
                checkpoint.high.kind.value, checkpoint.high.text, checkpoint.tail_from.text,
                json.dumps(checkpoint.tail_values), run_id, datetime.now(UTC).isoformat(),
            )  # fmt: skip
            self._insert(connection, self.checkpoints_table, _CHECKPOINT_COLUMNS, row)

    def record_load(
        self, connection: Connection, *, run_id: str, disposition: Disposition, rows: int, at: datetime
    ) -> None:
        """Add one line for a load."""
        row = (
            str(uuid4()), run_id, self.connector, self.stream, self.table.name, disposition.value, str(rows),
            at.isoformat(),
        )  # fmt: skip
        self._insert(connection, self.loads_table, _LOAD_COLUMNS, row)

    def _of_stream(self) -> tuple[str, tuple[str, ...]]:
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where = " AND ".join(f"{quote(name)} = {mark}" for name in ("connector", "stream", "table_name"))
        return f" WHERE {where}", (self.connector, self.stream, self.table.name)

    def _insert(
        self, connection: Connection, table: TableName, columns: Sequence[str], row: Sequence[object]
    ) -> None:
        marks = ", ".join(self.dialect.placeholder for _ in columns)
        connection.execute(
            f"INSERT INTO {self.dialect.table(table)} ({self.dialect.names(columns)}) VALUES ({marks})", row
        )


def connector_checkpoints(
    dialect: WriterDialect, connection: Connection, schema: str | None, connector: str
) -> list[CommittedCheckpoint]:
    """Every checkpoint of a connector in one schema's ledger, which must be there."""
    where = f" WHERE {dialect.quote('connector')} = {dialect.placeholder}"
    return _select(dialect, connection, TableName(CHECKPOINTS, schema), where, (connector,))


def _select(
    dialect: WriterDialect, connection: Connection, table: TableName, where: str, parameters: Sequence[str]
) -> list[CommittedCheckpoint]:
    names = dialect.names(_CHECKPOINT_COLUMNS)
    rows = connection.execute(f"SELECT {names} FROM {dialect.table(table)}{where}", parameters)
    return [_committed(tuple(map(str, row))) for row in rows]


def _committed(row: tuple[str, ...]) -> CommittedCheckpoint:
    _, stream, _, cursor, kind, high, tail_from, tail_values, run_id, committed_at = row
    checkpoint = Checkpoint(
        cursor,
        CursorValue(CursorKind(kind), high),
        CursorValue(CursorKind(kind), tail_from),
        tuple(json.loads(tail_values)),
    )
    return CommittedCheckpoint(stream, checkpoint, datetime.fromisoformat(committed_at), run_id)
