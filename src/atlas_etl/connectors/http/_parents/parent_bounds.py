"""How far the records of each parent are committed, where one stream reads those of many parents.

Each parent has a bound of its own, so that one which appears later is read from its beginning, and a number
may be one that each parent counts for itself. Records bring their parent's number in a member (PARENT),
which goes with the bounds. An append deletes its tail, which is what reaches `tail_from` of any parent; so
what is final of a parent ends at its bound or at `tail_from`, whichever comes first, and everything else of
it is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.order import at_or_after, before, edges, past
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CursorKind, CursorValue, ParentBound

PARENT = "_atlas_parent_number"  # the member of records that holds their parent's number
MOST_PARENTS = 10_000  # whose bounds a checkpoint keeps: it is one row of a ledger
_TIMES = frozenset({CursorKind.TIMESTAMPTZ, CursorKind.TIMESTAMP, CursorKind.DATE})


class Bound(Struct, frozen=True):
    """Records before `value` are committed, and so many of those equal to it; None: none is."""

    value: CursorValue | None = None
    ties: int = 0


class ParentBounds:
    """The parents of one read, numbered as they are asked for, and what was committed of each before."""

    def __init__(
        self,
        since: CursorValue | None,
        committed: Collection[ParentBound] | None,
        *,
        is_clock: bool,
        keyed: Callable[[str], str] | None = None,
    ) -> None:
        """`since` and `committed` are the checkpoint's; `is_clock`: all parents' cursors go by one clock.

        `keyed` is the request's.
        """
        self.since = since
        self.is_clock = is_clock
        self.keys: list[str] = []  # by number, as checkpoints hold them
        self._keyed = keyed or str
        self._are_known = committed is not None or since is None
        kind = since.kind if since is not None else CursorKind.INTEGER
        self.committed = {
            self._keyed(key): self._up_to_tail(Bound(CursorValue(kind, text), ties))
            for key, text, ties in committed or ()
        }

    def number(self, key: str) -> int:
        """The number of the next parent. Called by one thread."""
        self.keys.append(self._keyed(key))
        return len(self.keys) - 1

    def bound(self, number: int) -> Bound:
        """What is committed of a parent."""
        return self.committed.get(self.keys[number], Bound() if self._are_known else Bound(self.since))

    def _up_to_tail(self, bound: Bound) -> Bound:
        if self.since is None or bound.value is None or values.comes_before(bound.value, self.since):
            return bound
        return Bound(self.since)


class _Seen(Struct):
    """What one pass saw of a parent's rows: how many are at its bound, and the greatest of the new ones."""

    at_bound: int = 0
    high: pa.Scalar | None = None
    ties: int = 0


class ParentRows:
    """One pass over the rows of all parents: leaves out what is committed, and notes how far they reach."""

    def __init__(
        self, bounds: ParentBounds, cursor: str, *, where: str, appends: bool, are_changed: bool = False
    ) -> None:
        """Where rows are merged (not `appends`), those at a bound may come again.

        `are_changed`: only parents are asked for that changed since, so each of their rows may have; where
        they are merged, all come again.
        """
        self._bounds = bounds
        self._cursor = cursor
        self._where = where
        self._appends = appends
        self._comes_again = are_changed and not appends
        self._seen: dict[int, _Seen] = {}
        self._kind: pa.DataType | None = None
        self.is_weaker = False  # there are more parents than can be told apart the next time

    def kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that are not committed, without PARENT. Raises SourceError and ConfigError."""
        numbers = batch.column(PARENT).to_numpy(zero_copy_only=False)
        rows = batch.drop_columns([PARENT])
        self._kind = rows.schema.field(self._cursor).type
        kept = [
            self._kept_of(int(numbers[start]), rows.slice(start, length)) for start, length in _runs(numbers)
        ]
        self._refuse_too_many(sum(seen.high is not None for seen in self._seen.values()))
        return pa.concat_batches(kept) if kept else rows

    def reached(self, tail_from: CursorValue) -> tuple[ParentBound, ...] | None:
        """How far each parent is committed once these rows are; None where that is too much to keep."""
        found = {key: self._in_kind(bound) for key, bound in self._bounds.committed.items()}
        for number, key in enumerate(self._bounds.keys):
            seen = self._seen.get(number)
            if seen is not None and seen.high is not None:
                found[key] = Bound(self._value(seen.high), seen.ties)
            elif (bound := self._in_kind(self._bounds.bound(number))).value is not None:
                found[key] = bound
        self._refuse_too_many(len(found))
        self.is_weaker = len(found) > MOST_PARENTS
        if self.is_weaker:
            return None
        return tuple(
            ParentBound(key, bound.value.text, bound.ties)
            if bound.value is not None and values.comes_before(bound.value, tail_from)
            else ParentBound(key, tail_from.text, 0)
            for key, bound in found.items()
        )

    def _kept_of(self, number: int, rows: pa.RecordBatch) -> pa.RecordBatch:
        column, bound = rows.column(self._cursor), self._bounds.bound(number)
        seen = self._seen.setdefault(number, _Seen())
        if bound.value is not None and not self._comes_again:
            value = values.cursor_scalar(bound.value, column.type)
            wanted = at_or_after(column, value)
            if self._appends and bound.ties:
                later = past(column, value)
                seen.at_bound += _count(wanted) - _count(later)
                wanted = later
                if seen.at_bound > bound.ties:
                    raise self._new_ties()
            rows = rows.filter(pc.fill_null(wanted, True))
            column = rows.column(self._cursor)
        high = edges(column).high
        if high is not None and (seen.high is None or before(seen.high, high)):
            seen.high, seen.ties = high, 0
        if seen.high is not None:
            seen.ties += _count(at_or_after(column, seen.high))
        return rows

    def _in_kind(self, bound: Bound) -> Bound:
        """The bound as the column has it now: a number's kind may have become wider."""
        if self._kind is None or bound.value is None:
            return bound
        return Bound(self._value(values.cursor_scalar(bound.value, self._kind)), bound.ties)

    def _value(self, cell: pa.Scalar) -> CursorValue:
        return values.cursor_value(cell, stream="", column=self._cursor)

    def _new_ties(self) -> SourceError:
        return SourceError(
            f"{self._where}: a parent has more records at its newest {self._cursor!r} than were loaded, and "
            "nothing tells which of them are new",
            hint="set `primary_key`, so that records are merged by it; --full-refresh brings what is missing",
            code="parent_ties",
            column=self._cursor,
        )

    def _refuse_too_many(self, count: int) -> None:
        if count <= MOST_PARENTS or self._bounds.is_clock or self._kind is None:
            return
        if values.cursor_kind(self._kind, stream="", column=self._cursor) in _TIMES:
            return
        raise ConfigError(
            f"{self._where}: there are more than {MOST_PARENTS:,} parents, too many to keep how far each is "
            f"read, and nothing says that {self._cursor!r} grows over all of them together",
            hint="set `shared_cursor: true` under `parent` where it does; else read without a cursor",
            code="too_many_parents",
            column=self._cursor,
        )


def _runs(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[tuple[int, int]]:
    """Where rows of one parent begin that follow each other, and how many they are."""
    if not len(numbers):
        return
    starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()]
    yield from ((start, end - start) for start, end in pairwise([*starts, len(numbers)]))


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
