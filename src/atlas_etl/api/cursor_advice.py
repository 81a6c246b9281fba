"""Which column of a table is its best cursor, and why; pure: a catalog's words and a sample in, advice out.

What counts, in this order: rows that are not lost (NULLs), changes that are seen (a name such as
`updated_at`), an index, and how many rows share a value, for these are read again at each sync.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum

from msgspec import Struct

from atlas_etl.model import ColumnInfo, StreamInfo

CHEAP_TO_READ_WHOLE = 100_000
"""Up to about so many rows, reading all of them at each sync is no burden, and misses nothing."""

_CHANGED = ("updat", "modif", "chang", "edited", "touched", "revised", "mtime", "systemmodstamp")
_CREATED = ("creat", "insert", "added", "made", "placed", "ordered", "registered", "received", "logged",
            "occur", "recorded", "ingested", "event", "observ", "measur", "sampled")  # fmt: skip
_INSTANT = {"at", "ts", "time", "timestamp", "datetime"}
_NUMBERED = {"id", "_id", "seq", "sequence", "offset", "position"}
_TIME = re.compile(r"timestamp|datetime", re.IGNORECASE)
_DATE = re.compile(r"date(?:32|64)?", re.IGNORECASE)
_CHANGE_TIME = re.compile(r"(?:updat|modif|chang)\w*?(?:ed|_at|_on|_time|_date)", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"u?(?:tiny|small|medium|big|huge)?int(?:eger)?[0-9]*\b|serial", re.IGNORECASE)
_TIES = 0.5


class Moves(IntEnum):
    """What moves a column's values on, the best first."""

    CHANGES = 0
    NEW_ROWS = 1
    NUMBERED_ROWS = 2
    UNKNOWN = 3


class Sample(Struct, frozen=True):
    """What some rows of a table say of one column."""

    rows: int
    nulls: int
    distinct: int

    @property
    def shared(self) -> float:
        """The share of rows whose value another row has as well, at least."""
        filled = self.rows - self.nulls
        return 1 - self.distinct / filled if filled else 0.0


class CursorAdvice(Struct, frozen=True):
    """One column that could be the cursor: what speaks for it and what against it."""

    column: str
    type: str
    moves: Moves
    strengths: tuple[str, ...]
    weaknesses: tuple[str, ...]
    has_nulls: bool = False


class Proposal(Struct, frozen=True):
    """The cursor that is proposed, None: read everything each time; why; and every column, the best first."""

    cursor: str | None
    reason: str
    columns: tuple[CursorAdvice, ...]


def judged_columns(stream: StreamInfo) -> tuple[str, ...]:
    """The columns that could be a cursor at all, of which a sample helps."""
    return tuple(column.name for column in stream.columns if _can_move(column, stream))


def propose(stream: StreamInfo, samples: Mapping[str, Sample]) -> Proposal:
    """The best cursor of a table; `samples` by column, of those that were looked at."""
    columns = [column for column in stream.columns if _can_move(column, stream)]
    columns.sort(key=lambda column: _key(column, stream, samples.get(column.name)))
    advice = tuple(_advice(column, stream, samples.get(column.name)) for column in columns)
    best = next((each for each in advice if not each.has_nulls and each.moves is not Moves.UNKNOWN), None)
    rows = stream.estimated_rows
    if best is None:
        return Proposal(None, "no column is known to grow with new and changed rows", advice)
    if best.moves is not Moves.CHANGES and rows is not None and rows <= CHEAP_TO_READ_WHOLE:
        return Proposal(
            None,
            f"{best.column} would not show changes to old rows, and about {rows:,} rows are read quickly",
            advice,
        )
    return Proposal(best.column, "; ".join(best.strengths), advice)


def _can_move(column: ColumnInfo, stream: StreamInfo) -> bool:
    if column.name in stream.cursor_candidates:
        return True
    # Without an index it may still be the column that sees changes, which is worth saying.
    if stream.indexed is None:
        return False
    return bool(
        _TIME.search(column.type) or _DATE.fullmatch(column.type) or _CHANGE_TIME.fullmatch(column.name)
    )


def _key(column: ColumnInfo, stream: StreamInfo, sample: Sample | None) -> tuple[bool | int | float, ...]:
    return (
        bool(sample and sample.nulls),
        _moves(column, stream),
        not _is_indexed(column, stream),
        column.nullable,
        _is_date(column),
        bool(sample and sample.shared > _TIES),
    )


def _advice(column: ColumnInfo, stream: StreamInfo, sample: Sample | None) -> CursorAdvice:
    return CursorAdvice(
        column.name,
        column.type,
        _moves(column, stream),
        tuple(_strengths(column, stream, sample)),
        tuple(_weaknesses(column, stream, sample)),
        has_nulls=bool(sample and sample.nulls),
    )


def _strengths(column: ColumnInfo, stream: StreamInfo, sample: Sample | None) -> Iterator[str]:
    moves = _moves(column, stream)
    if moves is Moves.UNKNOWN:
        return
    if moves is Moves.CHANGES:
        yield "its name says that changes move it"
    elif moves is Moves.NEW_ROWS:
        yield "its name says that new rows have later ones"
    elif moves is Moves.NUMBERED_ROWS:
        yield "new rows have greater ones"
    if stream.indexed is not None and _is_indexed(column, stream):
        yield "indexed"
    if not column.nullable:
        yield "never NULL"
    elif sample and not sample.nulls:
        yield f"no NULL in {sample.rows:,} rows"
    if sample and sample.rows > 1 and not sample.shared:
        yield f"no two of {sample.rows:,} rows share a value"
    elif sample and sample.rows > 1 and sample.shared <= _TIES:
        yield f"few rows share a value ({_spread(sample)})"


def _weaknesses(column: ColumnInfo, stream: StreamInfo, sample: Sample | None) -> Iterator[str]:
    moves = _moves(column, stream)
    if sample and sample.nulls:
        yield f"NULL in {sample.nulls:,} of {sample.rows:,} rows, and such a row ends a sync"
    elif column.nullable:
        yield "may be NULL, and such a row ends a sync"
    if moves in (Moves.NEW_ROWS, Moves.NUMBERED_ROWS):
        yield "changes to old rows are not seen"
    elif moves is Moves.UNKNOWN:
        yield "nothing says that it grows with new rows"
        return
    if not _is_indexed(column, stream):
        yield "no index, so each sync searches the whole table"
    if _is_date(column):
        yield "a date, so the last day is read again each time"
    elif sample and sample.shared > _TIES:
        yield f"many rows share a value ({_spread(sample)})"


def _spread(sample: Sample) -> str:
    values = "value" if sample.distinct == 1 else "values"
    return f"{sample.distinct:,} {values} in {sample.rows:,} rows"


def _moves(column: ColumnInfo, stream: StreamInfo) -> Moves:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.name).lower().split("_")
    if _WHOLE_NUMBER.match(column.type):
        numbered = stream.primary_key == (column.name,) or column.name.lower() in _NUMBERED
        return Moves.NUMBERED_ROWS if numbered else Moves.UNKNOWN
    if any(word.startswith(_CHANGED) for word in words):
        return Moves.CHANGES
    named = any(word.startswith(_CREATED) for word in words) or column.name.lower() in _INSTANT
    return Moves.NEW_ROWS if named else Moves.UNKNOWN


def _is_indexed(column: ColumnInfo, stream: StreamInfo) -> bool:
    return stream.indexed is None or column.name in stream.indexed


def _is_date(column: ColumnInfo) -> bool:
    return _DATE.fullmatch(column.type) is not None
