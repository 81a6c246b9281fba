"""The session of one load: statements, binary COPY into a table, and a commit that says how it went."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psycopg
import pyarrow as pa
from psycopg import pq

from atlas_etl import values
from atlas_etl.connectors.sql._meaning import commit_unknown, does_not_fit
from atlas_etl.connectors.sql._pgcopy.types import (
    PgCopyError,
    PgType,
    UnrepresentableError,
    array_type,
    text_type,
)
from atlas_etl.connectors.sql._pgcopy.values import accepts
from atlas_etl.connectors.sql._postgresql.catalog import CatalogColumn, table_called
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.copy_in import CopyIn
from atlas_etl.connectors.sql._postgresql.errors import quoted, translated
from atlas_etl.connectors.sql._postgresql.replaced_values import cut_text, may_replace, refuse_replaced
from atlas_etl.connectors.sql._postgresql.session import Session
from atlas_etl.connectors.sql._postgresql.types import ServerType, wire_form
from atlas_etl.errors import DestinationError, RefusedRowError
from atlas_etl.model import WireFormat

_SPELLED = '"_atlas_spelled"'  # a batch on its way to columns whose types have no binary form here
_TEXT, _TEXTS = (text_type(), "text"), (array_type(text_type()), "text[]")  # on the wire, and in SQL


class LoadConnection:
    """A session that is written through (_dialect.Connection)."""

    def __init__(self, session: Session, config: PostgresConnection) -> None:
        self._session = session
        self._opening = config.opening("ISOLATION LEVEL READ COMMITTED")
        self._settings = config.settings().replace("%", "%%")
        self._columns: dict[str, dict[str, CatalogColumn]] = {}
        self._copying: CopyIn | None = None
        self._left_out = 0
        self.about: str | None = None  # the table that a GRANT would name

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        cursor = self._executed(sql, parameters)
        with translated(DestinationError, self._session, about=self.about):
            return cursor.fetchall() if cursor.description else []

    def change(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._executed(sql, parameters).rowcount

    def left_out(self) -> int:
        self._end_copy()
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _executed(self, sql: str, parameters: Sequence[object] = ()) -> psycopg.Cursor[tuple[object, ...]]:
        self._end_copy()
        is_alone = self._session.info.transaction_status is pq.TransactionStatus.IDLE
        # Settings hold within a transaction, which statements that are sent together are.
        statement = f"{self._settings}; {sql}" if is_alone else sql
        with translated(DestinationError, self._session, about=self.about):
            cursor = self._session.execute(statement.encode(), tuple(parameters))
            if is_alone:
                cursor.nextset()
            return cursor

    def forms(self, table: str) -> dict[str, str]:
        """What each column of a table takes on the wire as it is.

        Not those that only take text here, or whose values have to be looked at.
        """
        columns = self._columns_of(table).items()
        wires = {name: column.type.wire() for name, column in columns if not may_replace(column.type)}
        return {name: wire_form(wire) for name, wire in wires.items() if wire is not None}

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        passed = values.wire_format(batch.schema)
        if passed is not None:
            self._pass_on(table, passed, batch)
            return
        there = self._columns_of(table)
        columns = [there[name] for name in batch.schema.names]
        refuse_replaced(batch, columns)
        types = [_wire(column, field) for column, field in zip(columns, batch.schema, strict=True)]
        known = [type_ for type_ in types if type_ is not None]
        if len(known) == len(types):
            self._copy(table, batch, known)
            return
        spelled = [
            cells if type_ else _spelled(cells, column.type)
            for cells, column, type_ in zip(batch.columns, columns, types, strict=True)
        ]
        self._copy_spelled(table, pa.RecordBatch.from_arrays(spelled, batch.schema.names), columns, types)

    def begin(self) -> None:
        with translated(DestinationError, self._session):
            self._session.execute(self._opening.encode())

    def commit(self) -> None:
        self._end_copy()
        try:
            with translated(DestinationError, self._session):
                done = self._session.execute("COMMIT").statusmessage
        except DestinationError as failure:
            if failure.code != "server_gone":
                raise
            raise commit_unknown() from failure
        if done != "COMMIT":  # PostgreSQL answers so for a transaction that had failed before
            raise DestinationError("the load was rolled back instead of committed", code="rolled_back")

    def rollback(self) -> None:
        self.abandon_copy()
        with translated(DestinationError, self._session):
            self._session.rollback()

    def _columns_of(self, table: str) -> dict[str, CatalogColumn]:
        if table not in self._columns:
            found = table_called(self.execute, table.replace("%%", "%"))
            self._columns[table] = {column.name: column for column in found.columns} if found else {}
        return self._columns[table]

    def abandon_copy(self) -> None:
        """Give up rows that are on their way, as an exception leaves them."""
        copying, self._copying = self._copying, None
        if copying is not None:
            with suppress(psycopg.Error):
                copying.abandon()

    def _copy(self, table: str, batch: pa.RecordBatch, types: Sequence[PgType]) -> None:
        """Into a COPY that goes on with the next batch; what the server refuses may show then."""
        try:
            with translated(DestinationError, self._session, about=self.about):
                copying = self._copy_into(table, _names(batch.schema))
                copying.write(batch, types)
        except UnrepresentableError as failure:
            raise RefusedRowError(
                f"column {failure.column!r}: {failure.reason} ({len(failure.rows)} rows of a batch)",
                hint="correct the values at the source, or leave the column out with `exclude`",
                code="value_does_not_fit",
                column=failure.column,
            ) from failure
        except PgCopyError as failure:
            raise DestinationError(f"a batch cannot be written: {failure}", code="protocol") from failure
        if copying.is_answered:
            self._end_copy()

    def _pass_on(self, table: str, passed: WireFormat, batch: pa.RecordBatch) -> None:
        """Rows as another PostgreSQL sent them, which the table took when the load was planned."""
        if not self.forms(table).items() >= set(passed.columns):
            raise DestinationError(
                "the table's columns were changed while the load began",
                hint="run again",
                code="table_changed",
                retryable=True,
            )
        with translated(DestinationError, self._session, about=self.about):
            copying = self._copy_into(table, ", ".join(map(_name, passed.names)))
            copying.write_rows(values.wire_bytes(batch), batch.num_rows)
        if copying.is_answered:
            self._end_copy()

    def _copy_into(self, table: str, names: str) -> CopyIn:
        if self._copying is None or self._copying.into != (table, names):
            self._end_copy()
            self._copying = CopyIn(self._session, table, names)
        return self._copying

    def _end_copy(self) -> None:
        copying, self._copying = self._copying, None
        if copying is not None:
            with translated(DestinationError, self._session, about=self.about):
                copying.end()
            self._left_out += copying.left_out

    def _copy_spelled(
        self,
        table: str,
        batch: pa.RecordBatch,
        columns: Sequence[CatalogColumn],
        types: Sequence[PgType | None],
    ) -> None:
        """Into columns such as an unconstrained numeric, an inet or a range: text that the server reads."""
        natives = [column.type.native.replace("%", "%%") for column in columns]
        names = [_name(name) for name in batch.schema.names]
        staged = [
            (type_, native) if type_ else _TEXTS if pa.types.is_list(field.type) else _TEXT
            for type_, native, field in zip(types, natives, batch.schema, strict=True)
        ]
        made = ", ".join(f"{name} {kind}" for name, (_, kind) in zip(names, staged, strict=True))
        self.execute(f"CREATE TEMPORARY TABLE {_SPELLED} ({made}) ON COMMIT DROP")
        self._copy(_SPELLED, batch, [wire for wire, _ in staged])
        for name, column, type_ in zip(names, columns, types, strict=True):
            cut = cut_text(name, column.type) if type_ is None else None
            if cut and self.execute(f"SELECT 1 FROM {_SPELLED} WHERE {cut} LIMIT 1"):
                raise does_not_fit(column.name, f"has a value that {column.type.native} would cut or round")
        read = ", ".join(f"{name}::{native}" for name, native in zip(names, natives, strict=True))
        self._left_out += batch.num_rows - self.change(
            f"INSERT INTO {table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE SELECT {read} FROM {_SPELLED}"
        )
        self.execute(f"DROP TABLE {_SPELLED}")


def _wire(column: CatalogColumn, field: pa.Field) -> PgType | None:
    """What COPY takes for this column; None where the field can only be given as text."""
    wire = column.type.wire()
    return wire if wire is not None and accepts(wire, field.type) else None


def _name(name: str) -> str:
    return quoted(name).replace("%", "%%")


def _names(schema: pa.Schema) -> str:
    return ", ".join(map(_name, schema.names))


def _spelled(cells: pa.Array, type_: ServerType) -> pa.Array:
    """Cells as the texts that the server reads a type from, those of an array as arrays of such texts."""
    is_list = pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type)
    if type_.element is None or not is_list:
        return values.to_text(cells)
    lists = cells.take(pa.arange(0, len(cells)))  # leaves out elements under a NULL
    offsets = lists.offsets.cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, values.to_text(lists.values), mask=lists.is_null())
