"""Both sides of one stream, as a comparison sees them: the same columns in the types that the table has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.contracts import Destination, Extract, TableSnapshot
from atlas_etl.model import (
    DELETED_AT,
    BatchLimits,
    Checkpoint,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    NullCursor,
    ReadRequest,
    Stream,
    TableName,
    TableState,
)
from atlas_etl.pipeline.digest import Digests, row_digests
from atlas_etl.pipeline.fitting import Fitting, as_far_as_they_go
from atlas_etl.pipeline.plan import disposition_of, resume_from
from atlas_etl.pipeline.schema import evolve, known_columns
from atlas_etl.pipeline.shape import shape, shaped_schema, shaped_tail, stored_tail

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # the columns that would tell it are not compared


Rows = tuple[pa.RecordBatch, Digests]


class Sides(Struct, frozen=True):
    """One stream of an open extract, and the table that it lands in.

    `schema` are the source's columns, named and typed as the table has them (or would have them after the
    next sync); `key` and `cursor` are names of it. The comparison ends at the checkpoint: None compares all.
    """

    stream: Stream
    extract: Extract
    table: TableName
    state: TableState
    schema: pa.Schema
    key: tuple[str, ...]
    cursor: str | None
    checkpoint: Checkpoint | None
    disposition: Disposition

    @property
    def key_schema(self) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in self.key])

    @property
    def cursor_field(self) -> pa.Field | None:
        return self.schema.field(self.cursor) if self.cursor else None

    @property
    def high(self) -> CursorValue | None:
        return self.checkpoint.high if self.checkpoint else None

    @property
    def only_latest(self) -> bool:
        """Whether the source may have several rows of one key, of which a merge keeps the latest."""
        return self.disposition is Disposition.MERGE and not self.extract.key_is_unique

    def read(self) -> Iterator[Rows]:
        """The source's rows up to the checkpoint."""
        return self._conformed(self.extract.again(until=self.high))

    def tail(self) -> Iterator[Rows]:
        """Those of them that the next sync reads again."""
        since = self.checkpoint.tail_from if self.checkpoint else None
        return self._conformed(self.extract.again(since=since, until=self.high))

    def later(self) -> Iterator[Rows]:
        """The source's rows past the checkpoint."""
        return self._conformed(self.extract.again(since=self.high, after=self.high))

    def reaches_checkpoint(self, batch: pa.RecordBatch) -> bool:
        """Whether one of these stored rows has the checkpoint's greatest cursor, as a load leaves it."""
        if self.checkpoint is None:
            return False
        column, high = self._cursor_column(batch), self._stored_bound(self.checkpoint.high)
        return bool(pc.any(pc.equal(column, high)).as_py())

    def in_tail(self, batch: pa.RecordBatch) -> pa.Array:
        """Which of these stored rows the next sync deletes to read them again: an append's tail."""
        checkpoint = self.checkpoint
        if checkpoint is None or self.disposition is not Disposition.APPEND:
            return pa.repeat(False, batch.num_rows)
        column = self._cursor_column(batch)
        if checkpoint.high.kind is CursorKind.TEXT:
            inside = pc.is_in(column, pa.array(checkpoint.tail_values, column.type))
        elif pa.types.is_string(column.type):
            inside = pa.repeat(
                False, batch.num_rows
            )  # numbers that the table has as text have no order there
        else:
            first, last = map(self._stored_bound, (checkpoint.tail_from, checkpoint.high))
            inside = pc.and_(pc.greater_equal(column, first), pc.less_equal(column, last))
        read_again = self.stream.null_cursor is NullCursor.INCLUDE
        return pc.if_else(pc.is_null(column), read_again, pc.fill_null(inside, False))

    def _cursor_column(self, batch: pa.RecordBatch) -> pa.Array:
        return values.storage(batch.column(self.cursor))

    def _stored_bound(self, bound: CursorValue) -> pa.Scalar:
        """A cursor of the source as the table has it."""
        kind = self.schema.field(self.cursor).type
        shaped = shaped_tail(self.stream, Checkpoint(str(self.cursor), bound, bound))
        stored = stored_tail(shaped, kind)
        found = values.cursor_scalar(stored.tail_from if stored else bound, kind)
        return found.value if isinstance(found, pa.ExtensionScalar) else found

    @contextmanager
    def stored(self, destination: Destination) -> Iterator[Stored]:
        """The table in one snapshot."""
        if self.state.schema is None:
            yield Stored(self, None)
            return
        with destination.snapshot(self.table) as snapshot:
            yield Stored(self, snapshot)

    def quarantined(self) -> pa.RecordBatch:
        """The rows that are kept aside."""
        kept = self.state.quarantine
        return as_far_as_they_go(
            [pa.array([found.row.get(name) for found in kept], pa.string()) for name in self.schema.names],
            self.schema,
        )

    def _conformed(self, extract: Extract) -> Iterator[Rows]:
        """The rows as they are compared; one that the stream's contract refuses is no stored row's equal."""
        plan = LoadPlan(
            "",
            "",
            self.stream.name,
            self.table,
            self.disposition,
            self.schema,
            self.key,
            self.cursor,
            careful=self.stream.quarantine_limit > 0,
        )
        for rows, refused in Fitting(shape(self.stream, "", _NEVER), plan).fitted(extract):
            yield rows, row_digests(rows)
            for found in refused:
                row = as_far_as_they_go(found.row.columns, self.schema)
                yield row, ~row_digests(row)


class Stored(Struct, frozen=True):
    """The stream's table, as often as it is asked for."""

    sides: Sides
    snapshot: TableSnapshot | None  # None: there is no table

    def rows(self) -> Iterator[Rows]:
        """Those that are not marked as deleted."""
        there = self.sides.state.schema
        if self.snapshot is None or there is None:
            return iter(())
        names = dict.fromkeys(name for name in (*self.sides.schema.names, DELETED_AT) if name in there.names)
        columns = pa.schema([there.field(name) for name in names])
        present = map(self._present, self.snapshot.batches(columns))
        return ((batch, row_digests(batch)) for batch in present)

    def count_equal(self) -> int | None:
        """How many rows both sides have, where both can tell by themselves that they are the same."""
        sides, extract = self.sides, self.sides.extract
        there = self.sides.state.schema
        if self.snapshot is None or there is None or sides.only_latest or sides.stream.timezone:
            return None
        ours, theirs = extract.schema.names, sides.schema.names
        if DELETED_AT in there.names or not set(theirs) <= set(there.names):
            return None
        here, at_table = extract.text_forms(), self.snapshot.text_forms(theirs)
        forms = [(here.get(mine), at_table.get(its)) for mine, its in zip(ours, theirs, strict=True)]
        if any(mine is None or mine != its for mine, its in forms):
            return None
        found = extract.checksums(ours, until=sides.high)
        if found is None or found != self.snapshot.checksums(theirs):
            return None
        return sum(count for count, _ in found.values())

    def _present(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that were not found deleted; NULL in columns that the table does not have yet."""
        if DELETED_AT in batch.schema.names and DELETED_AT not in self.sides.schema.names:
            batch = batch.filter(pc.is_null(batch.column(DELETED_AT)))
        columns = [
            values.convert(batch.column(field.name), field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in self.sides.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.sides.schema)


def whole(connector: str, stream: Stream, destination: Destination, limits: BatchLimits) -> ReadRequest:
    """All that a stream's source has, in the types that a sync would read it in."""
    there = destination.inspect(connector, stream.name, destination.table_name(connector, stream)).schema
    return ReadRequest(stream, limits=limits, known=known_columns(stream, there, destination.storable))


def sides_of(connector: str, stream: Stream, destination: Destination, extract: Extract) -> Sides:
    """What there is to compare. Raises ConfigError and SchemaChangeError where a sync would."""
    stream = replace(stream, metadata_columns=False, deletes=None)  # the source has no such columns
    table = destination.table_name(connector, stream)
    state = destination.inspect(connector, stream.name, table)
    resume_from(stream, state, full_refresh=False)  # refuses another cursor than the checkpoint's
    read = shaped_schema(stream, extract.schema)
    schema, _ = evolve(state.schema, read, destination.storable)
    renamed = dict(zip(read.names, destination.storable(read, state.schema).names, strict=True))
    checkpoint = state.checkpoint
    return Sides(
        stream,
        extract,
        table,
        state,
        schema,
        key=tuple(renamed[name] for name in extract.primary_key),
        cursor=renamed[stream.cursor] if stream.cursor else None,
        checkpoint=checkpoint if checkpoint and checkpoint.cursor == stream.cursor else None,
        disposition=disposition_of(stream, extract.primary_key),
    )
