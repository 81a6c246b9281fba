"""Deletes at the source, pure: which streams can be reconciled, when, and what is compared with what."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.errors import ConfigError, DestinationError, SchemaChangeError, SourceError
from atlas_etl.model import (
    DELETED_AT,
    Deletes,
    Deletion,
    Disposition,
    HazardPolicy,
    NullCursor,
    ReconcilePlan,
    Stream,
    TableName,
    TableState,
)
from atlas_etl.pipeline.schema import Storable, evolve

# A schedule's runs begin a little early or late; a daily one must not find that a day has not quite passed.
_EARLY = 0.01


def refuse_unreconcilable(
    stream: Stream,
    disposition: Disposition,
    primary_key: tuple[str, ...],
    *,
    read: pa.Schema,
    table: TableName,
    state: TableState,
) -> None:
    """Raise ConfigError where a stream's deletes cannot be reconciled, or need not be.

    Raises DestinationError (`table_not_ours`) for a table with rows of others: they would be deleted.
    """
    if stream.deletes is None:
        return
    if disposition is Disposition.REPLACE:
        raise ConfigError(
            "the disposition replace leaves no deleted rows, so there is nothing to reconcile",
            hint="remove `deletes`, or set a cursor and the disposition merge",
            code="deletes",
            stream=stream.name,
        )
    if not primary_key:
        raise ConfigError(
            "deletes are found by the primary key, and the source has none",
            hint="set `primary_key`, or remove `deletes`",
            code="no_primary_key",
            stream=stream.name,
        )
    if disposition is Disposition.APPEND and stream.deletes.how is Deletion.SOFT:
        raise ConfigError(
            "soft deletes need the disposition merge: an append deletes its newest rows to read them again",
            hint="set `disposition: merge`, or `deletes: {how: hard}`",
            code="deletes",
            stream=stream.name,
        )
    if stream.deletes.how is Deletion.HARD and DELETED_AT in (name.casefold() for name in read.names):
        raise ConfigError(
            f"the source has a column {DELETED_AT} of its own, which here says what is deleted",
            hint="leave it out with `exclude`, or rename it in a query",
            code="deletes",
            stream=stream.name,
            column=DELETED_AT,
        )
    if state.has_foreign_rows:
        raise DestinationError(
            f"the table {table} has rows that this stream did not load; reconciling deletes would lose them",
            hint="choose another table with `into`, or empty or drop that one",
            code="table_not_ours",
            stream=stream.name,
        )


def is_due(deletes: Deletes, last: datetime | None, now: datetime) -> bool:
    """Whether it is time again to look for deletes, after the last time; one far ahead was a wrong clock."""
    return deletes.every is None or last is None or abs(now - last) >= deletes.every * (1 - _EARLY)


def stream_of_keys(stream: Stream, primary_key: tuple[str, ...]) -> Stream:
    """The same rows as the stream's, with their keys only.

    A cursor that is NULL leaves a row out where the policy is `exclude`, so that cursor is read, too. A key
    that is kept aside is told with its text: one that became NULL could be any row's.
    """
    nulls = HazardPolicy.QUARANTINE if stream.quarantine_limit else HazardPolicy.NULL
    filtered = stream.cursor is not None and stream.null_cursor is NullCursor.EXCLUDE
    cursor = stream.cursor if filtered else None
    also = (cursor,) if cursor is not None and cursor not in primary_key else ()
    return replace(
        stream,
        primary_key=primary_key,
        columns=(*primary_key, *also),
        exclude=(),
        protect={name: rule for name, rule in stream.protect.items() if name in primary_key},
        partitions=1,
        cursor=cursor,
        lag=None,
        metadata_columns=False,
        deletes=None,
        hazards={
            hazard: nulls if policy is HazardPolicy.NULL else policy
            for hazard, policy in stream.hazards.items()
        },
    )


def plan_reconcile(
    stream: Stream,
    deletes: Deletes,
    *,
    run_id: str,
    connector: str,
    table: TableName,
    read: pa.Schema,
    storable: Storable,
    state: TableState,
    at: datetime,
) -> ReconcilePlan:
    """How the source's keys, in their shape `read`, meet their table.

    Raises SourceError (`source_changed`) where they are no longer as the load that went before found them.
    """
    try:
        keys, changes = evolve(state.schema, read, storable)
    except SchemaChangeError as failure:
        raise _changed(stream) from failure
    has_marks = state.schema is not None and DELETED_AT in state.schema.names
    if changes or (deletes.how is Deletion.SOFT and not has_marks):
        raise _changed(stream)
    return ReconcilePlan(
        run_id,
        connector,
        stream.name,
        table,
        keys,
        deletes,
        at,
        has_marks=has_marks,
        version=state.version,
        careful=stream.quarantine_limit > 0,
    )


def _changed(stream: Stream) -> SourceError:
    return SourceError(
        "the table or its primary key changed after the rows were loaded, so keys cannot be compared",
        hint="sync again",
        code="source_changed",
        stream=stream.name,
    )
