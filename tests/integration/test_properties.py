"""Random histories of a table, synced after each change, against a model that a reader can check by eye.

The source is rewritten from the model before each sync, so the model is the truth. Every history has syncs
that are given up in their middle.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.integration.pipe import Pipe, Text
from tests.integration.table_history import (
    DATE,
    DECIMAL,
    INTEGER,
    ORDERED_TEXT,
    TEXT,
    TIMESTAMP,
    Change,
    CursorType,
    History,
    Row,
    Step,
    Table,
    histories,
)
from tests.integration.table_systems import (
    DuckDBFile,
    Folder,
    MySQLDatabase,
    PostgresDatabase,
    Server,
    SqliteFile,
    System,
)
from tests.servers import ServerAddress

from atlas_etl.model import (
    Disposition,
    NullCursor,
    RunStatus,
    Stream,
)

NUMBERS = itertools.count()


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


@dataclass
class Fresh(Pipe):
    """A fresh stream, read from a table of its own."""

    source: System
    is_keyed: bool = False


@contextmanager
def pipe(systems: Systems, history: History, **more: object) -> Iterator[Fresh]:
    number = next(NUMBERS)
    lag = timedelta(microseconds=history.lag) if history.lag else None
    stream = Stream(f"t{number}", table=f"t{number}", cursor="c", null_cursor=history.nulls, lag=lag)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source, target = systems(folder)
        destination = stack.enter_context(closing(target.destination()))
        connector = stack.enter_context(closing(source.connector()))
        yield Fresh(connector, destination, replace(stream, **more), f"c{number}", source)


def texts(history: History, rows: Sequence[Row]) -> list[Text]:
    """The rows that the stream wants, as the destination shows them."""
    shown = history.cursor.text
    return [
        (str(k), None if c is None else shown(c), str(v))
        for k, c, v in rows
        if c is not None or history.nulls is not NullCursor.EXCLUDE
    ]


def synced(found: Fresh, history: History, step: Step, table: Table) -> None:
    """Write the model to the source, and sync: once to be given up, which changes nothing, and once more."""
    found.source.write(str(found.stream.table), history.cursor, table.rows, key=found.is_keyed)
    if step.forget:
        found.forget()
    for events in (step.give_up_after, None) if step.give_up_after else (None,):
        there = found.state()
        before = Counter(found.rows("k", "c", "v")) if events else None
        whole = step.full_refresh or there.checkpoint is None
        outcome = found.sync(full_refresh=step.full_refresh, rows=step.batch_rows, events=events)
        if outcome is None:
            after = found.state()
            assert Counter(found.rows("k", "c", "v")) == before
            assert (after.checkpoint, after.loaded_by_atlas) == (there.checkpoint, there.loaded_by_atlas)
            continue
        assert outcome.status is RunStatus.COMPLETED
        table.move_tail(history.lag, whole=whole)
        tail = None if table.tail is None else history.cursor.text(table.tail)
        reached = outcome.checkpoint.tail_from.text if outcome.checkpoint else None
        if isinstance(found.source, Server) and history.cursor in (INTEGER, DECIMAL):
            # The tail of ids reaches back to whom the server may not have shown yet: further than this model.
            assert (reached is None) == (tail is None)
        else:
            assert reached == tail


def check_append(systems: Systems, history: History) -> None:
    with pipe(systems, history, disposition=Disposition.APPEND) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.apply(change)
            synced(found, history, step, table)
            assert Counter(found.rows("k", "c", "v")) == Counter(texts(history, table.rows))


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
            assert sorted(found.rows("k", "c", "v"), key=str) == sorted(expected.values(), key=str)


def check_log(systems: Systems, history: History) -> None:
    with pipe(systems, history, disposition=Disposition.MERGE, primary_key=("k",)) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.log(change)
            synced(found, history, step, table)
            latest = {row[0]: row for row in sorted(table.rows, key=lambda row: row[1] or 0)}
            assert Counter(found.rows("k", "c", "v")) == Counter(texts(history, list(latest.values())))


def check_replace(systems: Systems, history: History, cursor: str | None) -> None:
    with pipe(systems, history, disposition=Disposition.REPLACE, cursor=cursor) as found:
        table = Table()
        for step in history.steps:
            for change in step.changes:
                table.apply_by_key(change)
            found.source.write(str(found.stream.table), history.cursor, table.rows, key=False)
            how = {"full_refresh": step.full_refresh, "rows": step.batch_rows}
            found.sync(**how, events=step.give_up_after)
            assert found.sync(**how) is not None
            assert Counter(found.rows("k", "c", "v")) == Counter(texts(history, table.rows))


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
    check_replace(
        PAIRS[pair], history if cursor else dataclasses.replace(history, nulls=NullCursor.INCLUDE), cursor
    )


# A full refresh of a key that the source has several times, by destinations with and without keys.
TWICE = Step((Change("insert", 0, 0, 0), Change("insert", 0, 1, 0)), 0, 1)
REFRESHED = History(INTEGER, 0, NullCursor.ERROR, (TWICE, Step((), 0, 1, full_refresh=True), Step((), 0, 1)))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_full_refresh_keeps_the_latest_row_of_a_key_too(pair: str) -> None:
    check_log(PAIRS[pair], REFRESHED)


AGAIN = (
    Step((Change("insert", 0, 1, 0), Change("insert", 1, 2, 0)), 0, 1),
    Step((Change("update", 0, 3, 1),), 0, 1),
)


@pytest.mark.parametrize("cursor", EMBEDDED, ids=lambda cursor: cursor.sql)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_merge_meets_the_one_before_it(pair: str, cursor: CursorType) -> None:
    check_merge(PAIRS[pair], History(cursor, 0, NullCursor.ERROR, AGAIN))


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
