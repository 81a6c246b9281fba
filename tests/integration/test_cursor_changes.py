"""Rows that change while they are read, whose cursor is NULL for a while, or that a cursor cannot order."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from tests.integration.pipe import Pipe
from tests.integration.table_systems import (
    DUCKDB,
    MYSQL,
    PARQUET,
    POSTGRESQL,
    SQLITE,
    SqliteFile,
    System,
    system_of,
)
from tests.unit.connectors.sqlite_files import other_process

from atlas_etl.errors import ConfigError, DataError, NullCursorError
from atlas_etl.model import Disposition, NullCursor, Stream, TableName
from atlas_etl.pipeline.events import BatchLoaded, StreamFinished

OTHERS = {POSTGRESQL: SQLITE, MYSQL: POSTGRESQL, SQLITE: PARQUET, DUCKDB: SQLITE, PARQUET: "jsonl"}


@pytest.fixture(params=[Disposition.APPEND, Disposition.MERGE])
def disposition(request: pytest.FixtureRequest) -> Disposition:
    return request.param


Copies = Callable[..., list[Pipe]]


@pytest.fixture
def copies(disposition: Disposition, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Copies]:
    """Streams of a source's table `t`, into DuckDB and into another destination."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def make(source: System, **more: object) -> list[Pipe]:
            connector = stack.enter_context(closing(source.connector()))
            number = next(numbers)
            made = []
            for protocol in (DUCKDB, OTHERS[source.protocol]):
                into = system_of(protocol, tmp_path / "into", request)
                destination = stack.enter_context(closing(into.destination()))
                stream = Stream(
                    "copy", table="t", cursor="c", disposition=disposition, primary_key=("k",),
                    into=TableName(f"copied_{number}", into.schema), **more,
                )  # fmt: skip
                made.append(Pipe(connector, destination, stream, f"c{number}"))
            return made

        yield make


def holds(pipe: Pipe, *rows: str) -> bool:
    """Whether a copy has exactly these rows: `k:c`, without `c` where it is NULL."""
    return Counter(f"{k}:{c or ''}" for k, c in pipe.rows("k", "c")) == Counter(rows)


@contextmanager
def writer(source: System) -> Iterator[Callable[[Sequence[str]], None]]:
    """Somebody who writes while Atlas reads: to a SQLite file from another process, as it must be."""
    if not isinstance(source, SqliteFile):
        yield source.run
        return
    with other_process(Path(str(source.settings["database_path"]))) as process:

        def run(statements: Sequence[str]) -> None:
            for statement in statements:
                assert process.execute(statement) == "done"

        yield run


@pytest.mark.parametrize("system", [POSTGRESQL, MYSQL, SQLITE])
def test_a_row_that_moves_past_the_read_position(
    copies: Copies, disposition: Disposition, system: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What is read, and how far it reaches, are of one snapshot; what came after it is for the next sync."""
    source = system_of(system, tmp_path / "from", request)
    if system == SQLITE:
        source.run(["PRAGMA journal_mode = WAL"])
    # An append keeps what a row was when it left the tail, so only the newest moves there.
    moving = 4 if disposition is Disposition.APPEND else 1
    source.run(["CREATE TABLE t (k INT PRIMARY KEY, c INT NOT NULL)"])
    for pipe in copies(source):
        source.run(["DELETE FROM t", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)"])
        with pipe.running(rows=1) as events, writer(source) as write:
            while not isinstance(next(events), BatchLoaded):
                pass
            write([f"UPDATE t SET c = 6 WHERE k = {moving}", "INSERT INTO t VALUES (5, 4)"])
            *_, last = events
        assert isinstance(last, StreamFinished)
        assert last.outcome.rows_read == 4
        assert last.outcome.checkpoint is not None
        assert last.outcome.checkpoint.high.text == "4"
        assert holds(pipe, "1:1", "2:2", "3:3", "4:4")
        pipe.synced()
        moved = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4} | {moving: 6}
        assert holds(pipe, *(f"{k}:{c}" for k, c in moved.items()))


@pytest.mark.parametrize("system", [POSTGRESQL, MYSQL, SQLITE, DUCKDB, PARQUET])
def test_a_cursor_that_becomes_null_and_back(
    copies: Copies, system: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = system_of(system, tmp_path / "from", request)
    included, excluded = (
        copies(source, null_cursor=policy) for policy in (NullCursor.INCLUDE, NullCursor.EXCLUDE)
    )
    source.run(["CREATE TABLE t (k INT, c INT)", "INSERT INTO t VALUES (1, 1), (2, 2), (3, NULL), (4, NULL)"])

    def check(with_nulls: Sequence[str], without: Sequence[str]) -> None:
        for pipes, expected in ((included, with_nulls), (excluded, without)):
            for pipe in pipes:
                pipe.synced()
                assert holds(pipe, *expected), pipe.stream.null_cursor

    check(["1:1", "2:2", "3:", "4:"], ["1:1", "2:2"])
    source.run(["UPDATE t SET c = 3 WHERE k = 3"])
    check(["1:1", "2:2", "3:3", "4:"], ["1:1", "2:2", "3:3"])
    source.run(["UPDATE t SET c = NULL WHERE k = 3"])
    # A row that is left out is, to a merge, as one that is deleted: a cursor does not see it.
    gone = ["3:3"] if excluded[0].stream.disposition is Disposition.MERGE else []
    check(["1:1", "2:2", "3:", "4:"], ["1:1", "2:2", *gone])
    source.run(["UPDATE t SET c = k WHERE c IS NULL"])
    check(["1:1", "2:2", "3:3", "4:4"], ["1:1", "2:2", "3:3", "4:4"])
    source.run(["UPDATE t SET c = NULL WHERE k = 4", "INSERT INTO t VALUES (5, 4), (6, NULL)"])
    check(["1:1", "2:2", "3:3", "4:", "5:4", "6:"], ["1:1", "2:2", "3:3", *(["4:4"] if gone else []), "5:4"])


@pytest.mark.parametrize("system", [POSTGRESQL, MYSQL, SQLITE, DUCKDB, PARQUET])
def test_a_null_cursor_is_refused_until_it_has_a_value(
    copies: Copies, system: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = system_of(system, tmp_path / "from", request)
    pipes = copies(source)
    source.run(["CREATE TABLE t (k INT, c INT)", "INSERT INTO t VALUES (1, 1), (2, 2)"])
    for pipe in pipes:
        pipe.synced()
    source.run(["UPDATE t SET c = NULL WHERE k = 2", "INSERT INTO t VALUES (3, 3)"])
    for pipe in pipes:
        before = pipe.state()
        for _ in range(2):
            with pytest.raises(NullCursorError, match=r"1 row.* 'c'"):
                pipe.sync()
        assert (holds(pipe, "1:1", "2:2"), pipe.state()) == (True, before)
    source.run(["UPDATE t SET c = 4 WHERE k = 2"])
    for pipe in pipes:
        pipe.synced()
        assert holds(pipe, "1:1", "2:4", "3:3")


ODD = {
    "text among integers": ("INTEGER", "5", "'soon'"),
    "a real among integers": ("INTEGER", "5", "5.5"),
    "bytes among integers": ("BIGINT", "5", "x'00'"),
    "text among reals": ("REAL", "5", "'soon'"),
    "text among decimals": ("DECIMAL(9,2)", "5", "'soon'"),
    "bytes among texts": ("TEXT", "'5'", "x'00'"),
    "an integer among times": ("TIMESTAMP", "'2026-01-01 10:00:00'", "1700000000"),
    "text among days": ("DATE", "'2026-01-01'", "'soon'"),
    "text among integers without a type": ("", "5", "'soon'"),
    "a real among integers without a type": ("", "5", "5.5"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_value_of_another_type_in_a_sqlite_cursor(copies: Copies, odd: str, tmp_path: Path) -> None:
    """It is named, whatever its place in SQLite's order; nothing is lost; once it is mended all is there."""
    kind, first, value = ODD[odd]
    source = SqliteFile(tmp_path, "from")
    source.run([f"CREATE TABLE t (k INT PRIMARY KEY, c {kind})", f"INSERT INTO t VALUES (1, {first})"])
    pipes = copies(source)
    for pipe in pipes:
        pipe.synced()
    source.run([f"INSERT INTO t VALUES (2, {first}), (3, {value}), (4, {first})"])
    for pipe in pipes:
        before = pipe.state()
        for _ in range(2):
            with pytest.raises((DataError, ConfigError), match="'c'") as caught:
                pipe.sync()
            assert (caught.value.column, bool(caught.value.hint)) == ("c", True)
        assert ([k for (k,) in pipe.rows("k")], pipe.state()) == (["1"], before)
    source.run([f"UPDATE t SET c = {first} WHERE k = 3"])
    for pipe in pipes:
        pipe.synced()
        assert sorted(str(k) for (k,) in pipe.rows("k")) == ["1", "2", "3", "4"]
