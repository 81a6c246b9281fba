"""The RunSummaries (see contracts) over SQL: sums are made by the database, and a few runs are read whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median

from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    case,
    cast,
    func,
    literal,
    select,
    true,
    union_all,
)

from atlas_etl.model import Run, RunStatus, RunSummary, SchemaChanged, Span, StreamTotal
from atlas_etl.state.column_types import UtcDateTime
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.leases import end_dead_runs
from atlas_etl.state.records import run_of
from atlas_etl.state.schema import latest_first, scheduled_runs

_MOST_TIMED = 1000
_FAILURES = [status.value for status in RunStatus if status.is_failure]
_CHANGED = '%"schema_changes": ["%'  # a list that is not empty; within a text, JSON would escape the quotes


class SqlRunSummaries:
    """The history in numbers; `SqlStateStore.summaries` gives it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spans(self, bounds: Sequence[datetime]) -> Mapping[str, Sequence[Span]]:
        end_dead_runs(self._database)
        empty = [Span(begins, ends) for begins, ends in pairwise(bounds)]
        found: dict[str, list[Span]] = {}
        if not empty:
            return found
        query = union_all(*(self._within(place, span) for place, span in enumerate(empty)))
        with self._database.reading() as connection:
            for row in connection.execute(query):
                found.setdefault(row.connector, [*empty])[row.place] = replace(
                    empty[row.place],
                    runs=row.runs,
                    failed=row.failed,
                    rows=int(row.rows),
                    bytes=int(row.bytes),
                    longest=max(row.longest or 0.0, 0.0),
                )
        return found

    def summary(self, connector: str, since: datetime, until: datetime, *, most: int) -> RunSummary:
        runs = scheduled_runs.c
        own = [runs.connector == connector, runs.started_at >= since, runs.started_at < until]
        failed = runs.status.in_(_FAILURES)
        changed = cast(runs.streams, Text).like(_CHANGED)
        with self._database.reading() as connection, reading_content(self._database.name):
            last = _runs(connection, own, 1)
            changes = [
                SchemaChanged(run.started_at, stream.name, change)
                for run in _runs(connection, [*own, changed], most)
                for stream in run.streams
                for change in stream.schema_changes
            ]
            return RunSummary(
                last=last[0] if last else None,
                seconds=_usual_seconds(connection, own),
                streams=self._streams(connection, own),
                failures=tuple(_runs(connection, [*own, failed], most)),
                changes=tuple(changes[:most]),
            )

    def _within(self, place: int, span: Span) -> Select[tuple[object, ...]]:
        runs = scheduled_runs.c
        seconds = self._database.seconds_between(runs.started_at, runs.completed_at)
        return (
            select(
                literal(place).label("place"),
                runs.connector,
                func.count().label("runs"),
                func.sum(case((runs.status.in_(_FAILURES), 1), else_=0)).label("failed"),
                func.sum(runs.rows_processed).label("rows"),
                func.sum(runs.bytes_processed).label("bytes"),
                func.max(seconds).label("longest"),
            )
            .where(runs.started_at >= span.begins, runs.started_at < span.ends)
            .group_by(runs.connector)
        )

    def _streams(self, connection: Connection, own: Sequence[ColumnElement[bool]]) -> tuple[StreamTotal, ...]:
        each = self._database.each_stream(scheduled_runs.c.streams)
        streams = (
            select(
                scheduled_runs.c.started_at,
                each.name.label("name"),
                func.coalesce(each.rows_loaded, 0).label("rows"),
                func.coalesce(each.rows_quarantined, 0).label("refused"),
            )
            .select_from(scheduled_runs.join(each.table, true()))
            .where(*own)
            .subquery("each_stream")
            .c
        )
        latest = func.max(streams.started_at, type_=UtcDateTime())
        sums = select(streams.name, func.sum(streams.rows), func.sum(streams.refused), latest)
        query = sums.where(streams.name.is_not(None)).group_by(streams.name)
        totals = {
            json.loads(name)[0]: (int(rows), int(refused), at)
            for name, rows, refused, at in connection.execute(query)
        }
        ended = {at for *_, at in totals.values()}
        left = {
            (run.started_at, stream.name): stream
            for run in _runs(connection, [*own, scheduled_runs.c.started_at.in_(ended)], len(ended))
            for stream in run.streams
        }
        return tuple(
            StreamTotal(left[at, name], rows, refused)
            for name, (rows, refused, at) in sorted(totals.items())
            if (at, name) in left
        )


def _usual_seconds(connection: Connection, own: Sequence[ColumnElement[bool]]) -> float | None:
    runs = scheduled_runs.c
    completed = (runs.status == RunStatus.COMPLETED.value, runs.completed_at.is_not(None))
    query = select(runs.started_at, runs.completed_at).where(*own, *completed)
    newest = query.order_by(*latest_first()).limit(_MOST_TIMED)
    took = [(ended - began).total_seconds() for began, ended in connection.execute(newest)]
    return median(took) if took else None


def _runs(connection: Connection, where: Sequence[ColumnElement[bool]], most: int) -> list[Run]:
    query = select(scheduled_runs).where(*where).order_by(*latest_first()).limit(most)
    return [run_of(row) for row in connection.execute(query)]
