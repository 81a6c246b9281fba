"""Random histories of a table, and a model of it: what its copy must hold, and where its tail begins.

A row is (key, cursor's rank, value); ranks stand for cursors in their order, whatever these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from hypothesis import strategies as st

from atlas_etl.model import NullCursor

Row = tuple[int, int | None, int]  # key, rank of the cursor (None: NULL), value

NOON = datetime(2026, 1, 1, 12)
LETTERS = sorted("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzäöü€😀")


@dataclass(frozen=True)
class CursorType:
    """A kind of cursor: its declaration, and the literal and canonical text of each rank."""

    sql: str
    literal: Callable[[int], str]
    text: Callable[[int], str]

    @property
    def has_lag(self) -> bool:
        return self.sql == "TIMESTAMP"


INTEGER = CursorType("BIGINT", str, str)
DECIMAL = CursorType("DECIMAL(9,2)", lambda rank: f"{rank / 4:.2f}", lambda rank: f"{rank / 4:.2f}")
TIMESTAMP = CursorType(
    "TIMESTAMP",
    lambda rank: f"'{NOON + timedelta(microseconds=rank)}'",
    lambda rank: (NOON + timedelta(microseconds=rank)).isoformat(timespec="microseconds"),
)
DATE = CursorType(
    "DATE",
    lambda rank: f"'{date(2024, 2, 1) + timedelta(rank)}'",
    lambda rank: str(date(2024, 2, 1) + timedelta(rank)),
)
TEXT = CursorType("VARCHAR(9)", lambda rank: f"'{LETTERS[rank]}'", lambda rank: LETTERS[rank])
ORDERED_TEXT = CursorType("VARCHAR(9)", lambda rank: f"'{rank:03}'", lambda rank: f"{rank:03}")


@dataclass(frozen=True)
class Change:
    """What happens to one row. `at` chooses the row, `ahead` how far past the tail's beginning it goes."""

    kind: str  # insert, update or delete
    at: int
    ahead: int | None  # None: the cursor becomes NULL
    value: int


@dataclass(frozen=True)
class Step:
    """Changes, a sync that is given up after so many events, and a sync."""

    changes: tuple[Change, ...]
    give_up_after: int  # 0: no such sync
    batch_rows: int
    full_refresh: bool = False
    forget: bool = False  # the checkpoint is reset before


@dataclass(frozen=True)
class History:
    cursor: CursorType
    lag: int
    nulls: NullCursor
    steps: tuple[Step, ...]


def changes(kinds: Sequence[str], *, nulls: bool) -> st.SearchStrategy[Change]:
    ahead = st.integers(0, 3)
    return st.builds(
        Change,
        st.sampled_from(kinds),
        st.integers(0, 7),
        st.one_of(ahead, ahead, st.none()) if nulls else ahead,
        st.integers(0, 99),
    )


@st.composite
def histories(
    draw: st.DrawFn, cursors: Sequence[CursorType], kinds: Sequence[str], *, nulls: bool = True
) -> History:
    cursor = draw(st.sampled_from(cursors))
    policy = draw(st.sampled_from([NullCursor.INCLUDE, NullCursor.EXCLUDE])) if nulls else NullCursor.ERROR
    rare = st.integers(0, 7).map(lambda n: n == 7)
    step = st.builds(
        Step,
        st.lists(changes(kinds, nulls=nulls), max_size=6).map(tuple),
        st.integers(0, 6),
        st.integers(1, 4),
        full_refresh=rare,
        forget=rare,
    )
    steps = draw(st.lists(step, min_size=2, max_size=4))
    return History(cursor, draw(st.integers(0, 3)) if cursor.has_lag else 0, policy, tuple(steps))


@dataclass
class Table:
    """The model of a source's table, and where the tail of its copy begins."""

    rows: list[Row] = field(default_factory=list)
    tail: int | None = None  # the rank of `tail_from`; None: everything is read
    made: int = 0

    def apply(self, change: Change) -> None:
        """A change that an append can see: to rows that the next sync reads anyway."""
        found = [index for index, row in enumerate(self.rows) if self._is_read(row)]
        self.made += 1
        if change.kind == "insert":
            self.rows.append((self.made, self._rank(change), change.value))
        elif found:
            self._alter(found[change.at % len(found)], change)

    def apply_by_key(self, change: Change) -> None:
        """A change that a merge can see: any row, which moves past the tail's beginning."""
        if change.kind == "insert":
            self.rows = [row for row in self.rows if row[0] != change.at]
            self.rows.append((change.at, self._rank(change), change.value))
        elif self.rows:
            self._alter(change.at % len(self.rows), change)

    def log(self, change: Change) -> None:
        """One more version of a key, no two of them at one cursor."""
        key, rank = change.at % 4, self._rank(change)
        if (key, rank) not in {(k, c) for k, c, _ in self.rows}:
            self.rows.append((key, rank, change.value))

    def move_tail(self, lag: int, *, whole: bool) -> None:
        """What a sync does to it: as far back from the greatest rank that it read as the lag says."""
        if whole:
            self.tail = None
        read = [row[1] for row in self.rows if row[1] is not None and self._is_read(row)]
        if read:
            self.tail = max(read) - lag

    def _alter(self, index: int, change: Change) -> None:
        if change.kind == "delete":
            del self.rows[index]
        else:
            self.rows[index] = (self.rows[index][0], self._rank(change), change.value)

    def _rank(self, change: Change) -> int | None:
        return None if change.ahead is None else max(self.tail or 0, 0) + change.ahead

    def _is_read(self, row: Row) -> bool:
        return self.tail is None or row[1] is None or row[1] >= self.tail
