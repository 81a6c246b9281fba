"""Looking at the cursor of a stream: its index, its NULLs, its ties, and the zone of its times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from atlas_etl.connectors.examined import unmade
from atlas_etl.connectors.sql._look import (
    SAMPLE,
    SMALL,
    Found,
    Look,
    bounded,
    candidates,
    no_column,
    null_count,
    rows_told,
    spread_of,
)
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.model import Finding, NullCursor, Severity

_MANY = 100  # rows of one cursor value that are worth a word


def examined_cursor(look: Look, found: Found) -> Iterator[Finding]:
    """The column that the definition names, or what it costs that it names none."""
    stream, relation = found.stream, found.relation
    if stream.cursor is None:
        rows = relation.estimated_rows
        if rows is not None and rows > SMALL:
            better = candidates(found)
            yield Finding(
                "cursor", stream.name, Severity.NOTE,
                f"there is none, so each sync reads about {rows:,} rows again",
                f"cursor: {better[0]}" if better else None,
            )  # fmt: skip
        return
    column = found.column(stream.cursor)
    if column is None:
        yield no_column("cursor", stream, stream.cursor, relation)
        return
    subject = f"{stream.name}.{column.name}"
    yield _index(look, found, column, subject)
    yield from bounded("cursor_nulls", subject, partial(_nulls, look, found, column, subject))
    yield from bounded("cursor_ties", subject, partial(_ties, look, found, column, subject))


def examined_zones(look: Look, found: Found) -> Iterator[Finding]:
    """All columns of times that say no zone."""
    stream = found.stream
    wanted = [
        column.name
        for column in found.relation.columns
        if pa.types.is_timestamp(column.field.type)
        and column.field.type.tz is None
        and stream.reads(column.name)
    ]
    if not wanted:
        return
    told = ", ".join(wanted)
    if stream.timezone is not None:
        message = f"{told}: times without a zone, which are taken for those of {stream.timezone}"
        yield Finding("time_zone", stream.name, Severity.OK, message)
        return
    try:
        zone = look.zone()
    except AtlasError as failure:
        yield unmade("time_zone", stream.name, failure)
        return
    is_utc = zone in (None, "UTC", "Etc/UTC", "GMT", "+00:00")
    here = f"; sessions that choose no zone are in {zone} there" if zone else ""
    matters = stream.cursor in wanted and not is_utc
    yield Finding(
        "time_zone", stream.name, Severity.WARNING if matters else Severity.NOTE,
        f"{told}: times without a zone{here}. They arrive as they are, and nothing says which "
        "instants they mean"
        + (": an hour that comes twice when clocks change is ambiguous as a cursor" if matters else ""),
        f"timezone: {zone if not is_utc else 'UTC'}    # in the stream, if that is whose times they are",
    )  # fmt: skip


def _index(look: Look, found: Found, column: SourceColumn, subject: str) -> Finding:
    relation = found.relation
    if not look.needs_index:
        return Finding(
            "cursor_index", subject, Severity.OK, "none is needed: columns are stored with their bounds"
        )
    if found.indexes is None:
        what = "a view" if relation.table is not None else "a query"
        return Finding(
            "cursor_index", subject, Severity.NOTE,
            f"{what} has no index of its own: whether one is used, EXPLAIN of the statement tells "
            "that `atlas connector plan` shows",
        )  # fmt: skip
    if found.is_led(column.name):
        return Finding("cursor_index", subject, Severity.OK, "an index begins with it")
    rows = relation.estimated_rows
    about = "the whole table" if rows is None else f"about {rows:,} rows"
    severity = Severity.NOTE if found.is_small else Severity.WARNING
    return Finding(
        "cursor_index", subject, severity,
        f"no index begins with it, so each sync looks through {about} to find the new ones",
        look.create_index(relation, (column.name,), unique=False),
    )  # fmt: skip


def _nulls(look: Look, found: Found, column: SourceColumn, subject: str) -> Finding:
    if not column.nullable:
        return Finding("cursor_nulls", subject, Severity.OK, "it is never NULL")
    nulls, where = null_count(look, found, column)
    if not nulls:
        message = f"it may be NULL, and is in no row{where}"
        fix = look.require(found.relation, column) if found.indexes is not None else None
        severity = Severity.OK if fix is None else Severity.NOTE
        return Finding("cursor_nulls", subject, severity, message, fix)
    message = f"it is NULL in {rows_told(nulls)}{where}, which no bound finds"
    if found.stream.null_cursor is not NullCursor.ERROR:
        policy = "read each time" if found.stream.null_cursor is NullCursor.INCLUDE else "left out"
        return Finding("cursor_nulls", subject, Severity.NOTE, f"{message}: they are {policy}")
    return Finding(
        "cursor_nulls", subject, Severity.PROBLEM, f"{message}: a sync stops with exit code 7",
        "null_cursor: include    # or: exclude", ExitCode.DATA,
    )  # fmt: skip


def _ties(look: Look, found: Found, column: SourceColumn, subject: str) -> Finding:
    name = look.dialect.quote(column.name)
    newest = found.is_led(column.name) or found.is_small
    inner = f"SELECT {name} FROM {found.relation.sql} WHERE {name} IS NOT NULL"
    if newest:
        inner += f" ORDER BY {name} DESC"
    spread = spread_of(look, look.dialect.limit(inner, SAMPLE), name)
    which = f"{'newest' if newest else 'first'} {spread.rows:,} rows"
    if not spread.shared:
        return Finding("cursor_ties", subject, Severity.OK, f"no two of the {which} have the same value")
    share = f"{100 * spread.shared / spread.rows:.0f} % of the {which} share their value with another"
    if spread.most < _MANY or spread.most * 2 < spread.rows:
        message = (
            f"{share}, at most {spread.most:,} have the same one: each sync reads those of the last one again"
        )
        return Finding("cursor_ties", subject, Severity.OK, message)
    better = [other for other in candidates(found) if other != column.name]
    return Finding(
        "cursor_ties", subject, Severity.WARNING,
        f"{share}, {spread.most:,} of them have the same one: none is lost or doubled, but each sync reads "
        "all rows of the last one again", f"cursor: {better[0]}" if better else None,
    )  # fmt: skip
