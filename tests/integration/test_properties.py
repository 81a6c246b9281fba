"""Random histories of a table, synced after each change, against a model that a reader can check by eye.

A row is (key, cursor's rank, value); ranks stand for cursors in their order. The source is rewritten from the
model before each sync, so the model is the truth. Every history has syncs that are given up in their middle.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import ServerAddress

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import (
    BatchLimits,
    Disposition,
    NullCursor,
    RunStatus,
    Stream,
    StreamRun,
    TableName,
    TableState,
)
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.transfer import Job, transfer

Row = tuple[int, int | None, int]  # key, rank of the cursor (None: NULL), value
Text = tuple[str | None, str | None, str | None]

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12)
LETTERS = sorted("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzäöü€😀")
NUMBERS = itertools.count()


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


# The systems


class System(ABC):
    """Where tables are: what writes to one, and the settings of its connections."""

    protocol: str
    settings: dict[str, object]
    timestamp = "TIMESTAMP"

    @abstractmethod
    def run(self, statements: Sequence[str]) -> None:
        """The statements, in one transaction."""

    def write(self, table: str, cursor: CursorType, rows: Sequence[Row], *, key: bool) -> None:
        kind = self.timestamp if cursor is TIMESTAMP else cursor.sql
        statements = [
            f"DROP TABLE IF EXISTS {table}",
            f"CREATE TABLE {table} (k INT NOT NULL{' PRIMARY KEY' if key else ''}, c {kind} NULL, v INT)",
        ]
        if rows:
            cells = (f"({k}, {'NULL' if c is None else cursor.literal(c)}, {v})" for k, c, v in rows)
            statements.append(f"INSERT INTO {table} VALUES {', '.join(cells)}")
        self.run(statements)

    def connector(self) -> Connector:
        adapter = registry.load(self.protocol)
        assert adapter.connector is not None
        return adapter.connector(adapter.connection.model_validate(self.settings))

    def destination(self) -> Destination:
        adapter = registry.load(self.protocol)
        assert adapter.destination is not None
        return adapter.destination(adapter.connection.model_validate(self.settings))


class SqliteFile(System):
    protocol = "sqlite"

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.db")
        self.settings = {"database_path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


class DuckDBFile(System):
    protocol = "duckdb"

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.duckdb")
        self.settings = {"path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with duckdb.connect(self._path) as connection:
            for statement in statements:
                connection.execute(statement)


class Folder(System):
    """Files, as a destination."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.protocol = protocol
        self.settings = {"path": str(folder / protocol)}

    def run(self, statements: Sequence[str]) -> None:
        raise NotImplementedError


class Server(System):
    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.settings = {
            "host": address.host, "port": address.port, "database": address.database,
            "username": address.username, "password": address.password,
        }  # fmt: skip


class PostgresDatabase(Server):
    protocol = "postgresql"

    def run(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.address.url("postgresql")) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class MySQLDatabase(Server):
    protocol = "mysql"
    timestamp = "DATETIME(6)"

    def run(self, statements: Sequence[str]) -> None:
        address = self.address
        connection = pymysql.connect(
            host=address.host, port=address.port, user=address.username, password=address.password,
            database=address.database,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()


# The histories


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


@dataclass
class Pipe:
    """One stream between two systems."""

    source: System
    destination: Destination
    stream: Stream
    name: str
    is_keyed: bool = False

    def sync(self, step: Step, events: int | None = None) -> StreamRun | None:
        """What it did; None where it was closed after so many events."""
        job = Job(
            "run", self.name, self.stream, STARTED, step.full_refresh, BatchLimits(rows=step.batch_rows)
        )
        with (
            closing(self.source.connector()) as connector,
            closing(transfer(connector, self.destination, job)) as running,
        ):
            for seen in itertools.islice(running, events):
                if isinstance(seen, StreamFinished):
                    return seen.outcome
        return None

    def state(self) -> TableState:
        return self.destination.inspect(self.name, self.stream.name, self._table())

    def forget(self) -> None:
        self.destination.set_checkpoint(self.name, self.stream.name, self._table(), None)

    def rows(self) -> list[Text]:
        if self.state().schema is None:
            return []  # the first sync was given up
        found = self.destination.query(f"SELECT k, c, v FROM {self._table()}")
        k, c, v = (values.to_text(column.combine_chunks()).to_pylist() for column in found.columns)
        return list(zip(k, c, v, strict=True))

    def _table(self) -> TableName:
        return self.destination.table_name(self.name, self.stream)


Systems = Callable[[Path], tuple[System, System]]

PAIRS: dict[str, Systems] = {
    "sqlite to duckdb": lambda folder: (SqliteFile(folder, "from"), DuckDBFile(folder, "into")),
    "duckdb to sqlite": lambda folder: (DuckDBFile(folder, "from"), SqliteFile(folder, "into")),
    "duckdb to duckdb": lambda folder: (DuckDBFile(folder, "from"), DuckDBFile(folder, "into")),
    "sqlite to sqlite": lambda folder: (SqliteFile(folder, "from"), SqliteFile(folder, "into")),
    "sqlite to parquet": lambda folder: (SqliteFile(folder, "from"), Folder(folder, "parquet")),
    "duckdb to jsonl": lambda folder: (DuckDBFile(folder, "from"), Folder(folder, "jsonl")),
}
pairs = st.sampled_from(sorted(PAIRS))
quick = settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
quicker = settings(quick, max_examples=10)

EMBEDDED = (INTEGER, DECIMAL, TIMESTAMP, DATE, TEXT)
SERVERS = (INTEGER, DECIMAL, TIMESTAMP, DATE, ORDERED_TEXT)


@contextmanager
def pipe(systems: Systems, history: History, **more: object) -> Iterator[Pipe]:
    """A fresh stream, read from a table of its own."""
    number = next(NUMBERS)
    lag = timedelta(microseconds=history.lag) if history.lag else None
    stream = Stream(f"t{number}", table=f"t{number}", cursor="c", null_cursor=history.nulls, lag=lag)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source, target = systems(folder)
        destination = stack.enter_context(closing(target.destination()))
        yield Pipe(source, destination, replace(stream, **more), f"c{number}")


def texts(history: History, rows: Sequence[Row]) -> list[Text]:
    """The rows that the stream wants, as the destination shows them."""
    shown = history.cursor.text
    return [
        (str(k), None if c is None else shown(c), str(v))
        for k, c, v in rows
        if c is not None or history.nulls is not NullCursor.EXCLUDE
    ]


def synced(found: Pipe, history: History, step: Step, table: Table) -> None:
    """Write the model to the source, and sync: once to be given up, which changes nothing, and once more."""
    found.source.write(str(found.stream.table), history.cursor, table.rows, key=found.is_keyed)
    if step.forget:
        found.forget()
    for events in (step.give_up_after, None) if step.give_up_after else (None,):
        there = found.state()
        before = Counter(found.rows()) if events else None
        whole = step.full_refresh or there.checkpoint is None
        outcome = found.sync(step, events)
        if outcome is None:
            after = found.state()
            assert Counter(found.rows()) == before
            assert (after.checkpoint, after.loaded_by_atlas) == (there.checkpoint, there.loaded_by_atlas)
            continue
        assert outcome.status is RunStatus.COMPLETED
        table.move_tail(history.lag, whole=whole)
        tail = None if table.tail is None else history.cursor.text(table.tail)
        assert (outcome.checkpoint and outcome.checkpoint.tail_from.text) == tail


def check_append(systems: Systems, history: History) -> None:
    with pipe(systems, history, disposition=Disposition.APPEND) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.apply(change)
            synced(found, history, step, table)
            assert Counter(found.rows()) == Counter(texts(history, table.rows))


def check_merge(systems: Systems, history: History) -> None:
    with pipe(systems, history) as found:
        found.is_keyed = True
        table, expected = Table(), dict[str | None, Text]()
        for step in history.steps:
            for change in step.changes:
                table.apply_by_key(change)
            synced(found, history, step, table)
            latest = {row[0]: row for row in texts(history, table.rows)}
            expected = latest if step.full_refresh else expected | latest
            assert sorted(found.rows(), key=str) == sorted(expected.values(), key=str)


def check_log(systems: Systems, history: History) -> None:
    with pipe(systems, history, disposition=Disposition.MERGE, primary_key=("k",)) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.log(change)
            synced(found, history, step, table)
            latest = {row[0]: row for row in sorted(table.rows, key=lambda row: row[1] or 0)}
            assert Counter(found.rows()) == Counter(texts(history, list(latest.values())))


def check_replace(systems: Systems, history: History, cursor: str | None) -> None:
    with pipe(systems, history, disposition=Disposition.REPLACE, cursor=cursor) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.apply_by_key(change)
            found.source.write(str(found.stream.table), history.cursor, table.rows, key=False)
            found.sync(step, step.give_up_after)
            assert found.sync(step) is not None
            assert Counter(found.rows()) == Counter(texts(history, table.rows))


ALL = ("insert", "insert", "update", "delete")


@given(pair=pairs, history=histories(EMBEDDED, ALL))
@quick
def test_an_append_is_its_source_while_only_the_tail_changes(pair: str, history: History) -> None:
    check_append(PAIRS[pair], history)


@given(pair=pairs, history=histories(EMBEDDED, ALL))
@quick
def test_a_merge_is_the_latest_row_of_every_key(pair: str, history: History) -> None:
    check_merge(PAIRS[pair], history)


@given(pair=pairs, history=histories(EMBEDDED, ("insert",), nulls=False))
@quick
def test_a_merge_of_a_log_is_the_greatest_cursor_of_every_key(pair: str, history: History) -> None:
    check_log(PAIRS[pair], history)


@given(pair=pairs, history=histories(EMBEDDED, ALL), cursor=st.sampled_from(["c", None]))
@quicker
def test_a_replace_is_its_source_whatever_changes(pair: str, history: History, cursor: str | None) -> None:
    check_replace(PAIRS[pair], history if cursor else replace(history, nulls=NullCursor.INCLUDE), cursor)


# A full refresh of a key that the source has several times, by destinations with and without keys.
TWICE = Step((Change("insert", 0, 0, 0), Change("insert", 0, 1, 0)), 0, 1)
REFRESHED = History(INTEGER, 0, NullCursor.ERROR, (TWICE, Step((), 0, 1, full_refresh=True), Step((), 0, 1)))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_full_refresh_keeps_the_latest_row_of_a_key_too(pair: str) -> None:
    check_log(PAIRS[pair], REFRESHED)


def server_systems(kind: type[Server], address: ServerAddress) -> Systems:
    return lambda _: (kind(address), kind(address))


@given(history=histories(SERVERS, ALL), merges=st.booleans())
@quicker
def test_postgresql_to_postgresql(postgres: ServerAddress, history: History, merges: bool) -> None:
    (check_merge if merges else check_append)(server_systems(PostgresDatabase, postgres), history)


def test_a_full_refresh_on_postgresql(postgres: ServerAddress) -> None:
    check_log(server_systems(PostgresDatabase, postgres), REFRESHED)


@given(history=histories(SERVERS, ALL), merges=st.booleans())
@quicker
def test_mysql_to_mysql(mysql: ServerAddress, history: History, merges: bool) -> None:
    (check_merge if merges else check_append)(server_systems(MySQLDatabase, mysql), history)


def test_a_full_refresh_on_mysql(mysql: ServerAddress) -> None:
    check_log(server_systems(MySQLDatabase, mysql), REFRESHED)
