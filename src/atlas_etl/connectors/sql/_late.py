"""From which cursor on rows may still appear that a snapshot cannot see: their writers are not done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from msgspec import Struct

from atlas_etl.model import CursorKind, CursorValue, NextTail, Watermark

# No zone is further from UTC (https://www.iana.org/time-zones).
_WEST, _EAST = timedelta(hours=12), timedelta(hours=14)
UNSEEN_LAG = timedelta(minutes=5)  # how late rows may come where other sessions cannot be seen
_WATERMARKS = 8  # that a checkpoint keeps: one more only shortens a tail
# Cursors that are given out in their order rather than taken from a clock.
COUNTED = frozenset({CursorKind.INTEGER, CursorKind.DECIMAL})
CLOCKED = frozenset({CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ, CursorKind.DATE})


class OpenWriters(Struct, frozen=True):
    """Those that may still commit rows that a snapshot cannot see, by the system's own clock."""

    began: datetime  # none of them began before this instant
    wrote: datetime  # and none of them wrote an earlier time
    taken: datetime  # when the snapshot had been taken, or later
    unproven: str | None = None  # why there may be others, so that `began` is a bound and no proof

    def since(self, lag: timedelta | None) -> datetime:
        """When they began; at least this long before the snapshot."""
        return self.began if lag is None else min(self.began, self.taken - lag)


class LateRows(Struct, frozen=True):
    """What tells where rows may still appear behind one read of a stream."""

    writers: OpenWriters
    known: tuple[Watermark, ...]  # of the checkpoint that the read goes on from, and of looks before it
    lag: timedelta | None
    timezone: str | None
    first: (
        CursorValue | None
    )  # of a cursor that is given out in its order: no row that was read could be before it

    def caveat(self, kind: CursorKind) -> str | None:
        """Why rows with a cursor of this kind may be missed that are committed late; None where none are."""
        if kind not in COUNTED | CLOCKED:
            return f"nothing tells which cursors of the kind {kind} transactions that are still open hold"
        if self.writers.unproven is None:
            return None
        most = max(self.lag or UNSEEN_LAG, UNSEEN_LAG).total_seconds() / 60
        return (
            f"{self.writers.unproven}, and rows that are committed more than {most:g} minutes late are missed"
        )

    @property
    def is_counted(self) -> bool:
        """Whether the cursor is given out in its order, rather than taken from a clock."""
        return self.first is not None

    @property
    def watermarks(self) -> tuple[Watermark, ...]:
        """Those that are old enough to bound what the open writers give out, the last of them first."""
        return given_out_since(self.known, self.writers, self.lag)

    @property
    def unsettled(self) -> timedelta:
        """How much older the oldest open writer is than every watermark; zero where it is not."""
        if self.watermarks or not self.known:
            return timedelta()
        return self.known[-1].at - self.writers.since(self.lag)

    def begin(self, high: CursorValue) -> CursorValue | None:
        """The least cursor that may still appear, of rows read up to `high`; None: no bound.

        The least of the rows that were read is none: others may have been given out before it.
        """
        if self.first is None:
            return late_from(high, self.writers, self.timezone)
        return self.watermarks[0].high if self.watermarks else self.first

    def next_tail(self, kind: CursorKind, lag: timedelta) -> NextTail:
        """What is known of where the tail begins before the rows are read."""
        if kind in COUNTED:
            return NextTail(self.watermarks[0].high if self.watermarks else self.first, lag)
        if kind is CursorKind.TIMESTAMP and self.timezone is None:  # it goes by the greatest, not by a clock
            return NextTail(lag=max(lag, self.writers.taken - self.writers.wrote))
        # Where the greatest cursor has no say in it, any will do.
        return NextTail(late_from(CursorValue(kind, ""), self.writers, self.timezone), lag)

    def next_watermarks(self, high: CursorValue) -> tuple[Watermark, ...]:
        """What the checkpoint of a read up to `high` keeps."""
        if not self.is_counted:
            return ()
        known = (*(self.watermarks or self.known), Watermark(self.writers.taken, high))
        return (known[0], *known[1:][1 - _WATERMARKS :])


def given_out_since(
    watermarks: Sequence[Watermark], writers: OpenWriters, lag: timedelta | None
) -> tuple[Watermark, ...]:
    """The watermarks from the last one on that all of these writers began after; none where there is none.

    Cursors that are no times are given out in their order: whoever began after the first of these gives out
    none before its `high`. That holds for sequences and AUTO_INCREMENT; a sequence with a CACHE, or ids that
    a client took before it began, need a `lag`.
    """
    began = writers.since(lag)
    older = [number for number, watermark in enumerate(watermarks) if watermark.at < began]
    return tuple(watermarks[older[-1] :]) if older else ()


def beginning(kind: pa.DataType) -> CursorValue:
    """The least cursor that a column of integers or decimals can hold."""
    if pa.types.is_decimal(kind):
        digits = "9" * kind.precision + "0" * -kind.scale
        whole, fraction = (digits[: -kind.scale], digits[-kind.scale :]) if kind.scale > 0 else (digits, "")
        return CursorValue(CursorKind.DECIMAL, f"-{whole or '0'}{'.' if fraction else ''}{fraction}")
    return CursorValue(CursorKind.INTEGER, str(np.iinfo(kind.to_pandas_dtype()).min))


def late_from(high: CursorValue, writers: OpenWriters, timezone: str | None) -> CursorValue | None:
    """The least cursor of rows that may still appear; None where no clock bounds it.

    `high` is the greatest cursor that was read and `timezone` the zone of times that have none. Where it is
    not known, writers that began so long ago wrote times that are no longer than that before `high`: all of
    them and `high` are of one zone, whose clock `high` does not pass.
    """
    if high.kind is CursorKind.TIMESTAMPTZ:
        return CursorValue(high.kind, f"{_iso(_naive(writers.wrote))}Z")
    if high.kind is CursorKind.TIMESTAMP:
        return CursorValue(high.kind, _iso(_local(high, writers, timezone)))
    if high.kind is CursorKind.DATE:
        zone = ZoneInfo(timezone) if timezone else UTC
        west = timedelta() if timezone else _WEST
        return CursorValue(high.kind, (writers.wrote - west).astimezone(zone).date().isoformat())
    return None


def _local(high: CursorValue, writers: OpenWriters, timezone: str | None) -> datetime:
    if timezone is not None:
        return writers.wrote.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    taken, furthest = writers.taken, _naive(writers.wrote) - _WEST
    greatest, age = datetime.fromisoformat(high.text[:26]), taken - writers.wrote
    if greatest > _naive(taken) + _EAST or greatest - furthest < age:
        return furthest
    return greatest - age


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
