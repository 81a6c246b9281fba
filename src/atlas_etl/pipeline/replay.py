"""Rows of a quarantine loaded again: those that land leave it in the same commit, the others stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.contracts import Destination
from atlas_etl.errors import DataError, DestinationError, RefusedRowError
from atlas_etl.model import (
    Disposition,
    LoadPlan,
    QuarantineChange,
    QuarantinedRow,
    Run,
    RunStatus,
    Stream,
    StreamRun,
    TableState,
)
from atlas_etl.pipeline.quarantine import ordered, with_known_keys
from atlas_etl.pipeline.shape import added_cells


class Replayed(Struct, frozen=True):
    """What became of the quarantine of one stream."""

    outcome: StreamRun
    outdated: int  # rows that left without being loaded: the table has a newer one of their key
    remaining: int


def replay(destination: Destination, stream: Stream, run: Run) -> Replayed:
    """Load a stream's refused rows again, into its table as it is now. The checkpoint stays where it is.

    Raises DestinationError, and RefusedRowError where the destination cannot tell which rows it refuses.
    """
    table = destination.table_name(run.connector, stream)
    state = destination.inspect(run.connector, stream.name, table)
    done = StreamRun(stream.name, RunStatus.COMPLETED, table=str(table), rows_read=len(state.quarantine))
    outdated = 0
    for key in dict.fromkeys(tuple(row.key) for row in state.quarantine):
        now = destination.inspect(run.connector, stream.name, table)
        alike = [row for row in now.quarantine if tuple(row.key) == key]
        attempt = _Attempt(destination, stream, run, now, key)
        landed, left_out, old = attempt.load(alike)
        done = replace(
            done,
            rows_loaded=done.rows_loaded + landed,
            rows_left_out=done.rows_left_out + left_out,
            loads=done.loads + 1,
        )
        outdated += old
    remaining = len(state.quarantine) - done.rows_loaded - done.rows_left_out - outdated
    return Replayed(done, outdated, remaining)


class _Attempt(Struct, frozen=True):
    """One load of rows that go by the same key, or by none."""

    destination: Destination
    stream: Stream
    run: Run
    state: TableState
    key: tuple[str, ...]

    def load(self, rows: Sequence[QuarantinedRow]) -> tuple[int, int, int]:
        """How many were loaded, how many the table left out, and how many were outdated."""
        plan = self._plan(rows)
        refused: dict[str, DataError] = {}
        typed: dict[str, pa.RecordBatch] = {}
        for row in rows:
            try:
                typed[row.quarantine_id] = self._typed(row, plan.schema)
            except DataError as why:
                refused[row.quarantine_id] = why
        outdated = set(self._outdated(plan, typed))
        candidates = [id_ for id_ in typed if id_ not in outdated]
        with self.destination.begin(plan) as session:
            if candidates:
                places = session.write(pa.concat_batches([typed[id_] for id_ in candidates]))
                refused |= {candidates[place]: why for place, why in places.items()}
            left_out = session.commit(None, self._change(plan, rows, refused)).left_out
        given = len(candidates) - sum(id_ in refused for id_ in candidates)
        return given - left_out, left_out, len(outdated)

    def _plan(self, rows: Sequence[QuarantinedRow]) -> LoadPlan:
        run, stream = self.run, self.stream
        table = self.destination.table_name(run.connector, stream)
        if self.state.schema is None:
            raise DestinationError(
                f"the table {table} is not there, so its refused rows cannot be loaded into it",
                hint=f"`atlas connector sync {run.connector} --stream {stream.name}` reads everything again",
                code="table_not_found",
                stream=stream.name,
            )
        given = {name for row in rows for name in row.row} | added_cells(stream, "", run.started_at).keys()
        schema = pa.schema([field for field in self.state.schema if field.name in given])
        return LoadPlan(
            run_id=run.run_id,
            connector=run.connector,
            stream=stream.name,
            table=table,
            disposition=Disposition.MERGE if self.key else Disposition.APPEND,
            schema=schema,
            primary_key=self.key,
            cursor=stream.cursor if stream.cursor in schema.names else None,
            version=self.state.version,
            careful=True,
        )

    def _typed(self, row: QuarantinedRow, schema: pa.Schema) -> pa.RecordBatch:
        """The row in the table's types. Raises RefusedRowError."""
        if row.code == "null_key":
            raise RefusedRowError(row.reason, code=row.code)
        lost = next((name for name, text in row.row.items() if text and name not in schema.names), None)
        if lost is not None:
            raise RefusedRowError(f"the table has no column {lost!r}", code="column_not_found", column=lost)
        added = added_cells(self.stream, self.run.run_id, self.run.started_at)
        columns: list[pa.Array] = []
        for field in schema:
            if field.name in added:
                columns.append(values.convert(pa.repeat(added[field.name], 1), field.type))
                continue
            try:
                columns.append(values.from_text(pa.array([row.row.get(field.name)], pa.string()), field.type))
            except (pa.ArrowException, ValueError):
                raise RefusedRowError(
                    f"column {field.name!r} cannot hold the value as {values.type_name(field.type)}",
                    code="value_does_not_fit",
                    column=field.name,
                ) from None
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _outdated(self, plan: LoadPlan, rows: Mapping[str, pa.RecordBatch]) -> Iterator[str]:
        """Those of whose key the table has a row with a greater cursor."""
        if (
            not rows
            or not self.key
            or plan.cursor is None
            or plan.schema.field(plan.cursor).type == pa.string()
        ):
            return
        by_key = {
            tuple(values.to_text(row.column(name))[0].as_py() for name in self.key): (id_, row)
            for id_, row in rows.items()
        }
        wanted = pa.schema([plan.schema.field(name) for name in dict.fromkeys((*self.key, plan.cursor))])
        with self.destination.snapshot(plan.table) as snapshot:
            for batch in snapshot.batches(wanted):
                for place, key in with_known_keys(batch, self.key, by_key):
                    id_, row = by_key[key]
                    there, refused = batch.column(plan.cursor)[place], row.column(plan.cursor)[0]
                    if there.is_valid and refused.is_valid and ordered(there) > ordered(refused):
                        yield id_

    def _change(
        self, plan: LoadPlan, rows: Sequence[QuarantinedRow], refused: Mapping[str, DataError]
    ) -> QuarantineChange:
        now = datetime.now(UTC)
        return QuarantineChange(
            frozenset(row.quarantine_id for row in rows if row.quarantine_id not in refused),
            tuple(
                replace(
                    row,
                    code=why.code,
                    reason=why.message,
                    column=why.column,
                    run_id=plan.run_id,
                    load_id=plan.load_id,
                    quarantined_at=now,
                )
                for row in rows
                if (why := refused.get(row.quarantine_id)) is not None
            ),
        )
