"""How far a stream is committed: cursors, checkpoints, and what changed them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace


class CursorKind(StrEnum):
    """The types by which rows can be ordered; fixes the text form of a CursorValue."""

    INTEGER = "integer"  # 42
    DECIMAL = "decimal"  # 12.50
    FLOAT = "float"  # the shortest text that reads back as the same double
    TEXT = "text"
    DATE = "date"  # 2026-03-01
    TIMESTAMP = "timestamp"  # 2026-03-01T12:30:45.123456 (up to nanoseconds), no zone known
    TIMESTAMPTZ = "timestamptz"  # 2026-03-01T12:30:45.123456Z
    UUID = "uuid"


class CursorValue(Struct, frozen=True):
    """One value of a cursor column as typed, lossless text."""

    kind: CursorKind
    text: str


class Watermark(Struct, frozen=True):
    """A past look at the source: transactions that began after `at` give out cursors past `high`."""

    at: datetime
    high: CursorValue


class NextTail(Struct, frozen=True):
    """Where the tail of a read will begin at the least, as far as that is known before it.

    At `bound`, or as much as `lag` before the greatest cursor, whichever comes first.
    """

    bound: CursorValue | None = None  # None: wherever the greatest cursor is
    lag: timedelta = timedelta()


class ParentBound(NamedTuple):
    """How far the records of one parent are committed: those before `bound`, and so many of those at it.

    There may be thousands of them, so that in JSON each is a list.
    """

    key: str  # a digest of what tells the parent from others
    bound: str  # the text of a cursor of the checkpoint's kind
    ties: int  # 0: records equal to `bound` are read again


class Checkpoint(Struct, frozen=True):
    """How far one stream is committed: everything before `tail_from` is final, the rest is read again.

    `tail_from <= high` in the source's own order. `tail_values` is set for text cursors only: the
    spellings that the tail's cursors have, because a destination may order text in another way.
    `watermarks` is set for cursors that are no times, the oldest first: they tell where rows of
    transactions that are still open may appear.

    `parents` is set where records are asked for once for each of other ones: a parent that is not among them
    is read from its beginning, and no bound counts past `tail_from`. None: all are as far as `tail_from`.
    Only destinations keep them; a mirror of a checkpoint is without.
    """

    cursor: str  # the column's name: another one makes the checkpoint meaningless
    high: CursorValue
    tail_from: CursorValue
    tail_values: tuple[str, ...] = ()
    watermarks: tuple[Watermark, ...] = ()
    parents: tuple[ParentBound, ...] | None = None
    protection: str = ""  # tells the stream's rules and their key from others; empty: there were none

    def without_parents(self) -> Checkpoint:
        """The same, as it is mirrored and recorded of runs."""
        return replace(self, parents=None)

    def reaches_as_far_as(self, other: Checkpoint | None) -> bool:
        """Whether both end at the same rows and read the same ones again, whatever else they remember."""
        return other is not None and (
            (self.cursor, self.high, self.tail_from, self.tail_values)
            == (other.cursor, other.high, other.tail_from, other.tail_values)
        )


class CommittedCheckpoint(Struct, frozen=True):
    """A checkpoint with the load that committed it, as `state show` prints it."""

    stream: str
    checkpoint: Checkpoint
    committed_at: datetime
    run_id: str  # empty: set by a person


class CheckpointAction(StrEnum):
    """What changed a checkpoint."""

    LOAD = "load"
    SET = "set"
    RESET = "reset"
    REPAIR = "repair"


class CheckpointChange(Struct, frozen=True):
    """One line of `state history`: what became of a stream's checkpoint, by whom and why.

    `changed_by` is `user@host`; None where the change was found at the destination afterwards, because
    the process died before it could record it, or has another state store.
    """

    change_id: int  # greater than that of every change before it
    connector: str
    stream: str
    action: CheckpointAction
    before: Checkpoint | None
    after: Checkpoint | None  # None: forgotten, so that everything is read again
    changed_at: datetime
    changed_by: str | None
    run_id: str | None
    reason: str | None = None
