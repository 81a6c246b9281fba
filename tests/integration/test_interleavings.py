"""Random interleavings of writers and syncs: after each sync the copy holds what was committed before it.

Writers have transactions of their own, which stay open while syncs run and are committed or rolled back
later, in another order than they began in, and in the middle of a sync too. ATLAS_TEST_EXAMPLES sets how
many histories are tried; a failing one is printed with how to repeat it.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.pipe import Pipe
from tests.integration.table_systems import DuckDBFile, PostgresDatabase, SqliteFile, System
from tests.servers import ServerAddress
from tests.servers.postgres import connect
from tests.unit.connectors.sqlite_files import OtherProcess, other_process

from atlas_etl.connectors.sql._postgresql import snapshot as postgresql_snapshot
from atlas_etl.model import Disposition, Stream
from atlas_etl.pipeline.events import StreamFinished, StreamStarted

WRITERS = 3
NUMBERS = itertools.count()

patient = settings(
    max_examples=int(os.environ.get("ATLAS_TEST_EXAMPLES", "12")), deadline=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip

Rows = dict[int, int]  # version by key


class Session(Protocol):
    """One writer's connection."""

    def run(self, statement: str) -> None: ...


@dataclass
class Writer:
    """A writer, and what it has written and not yet committed."""

    session: Session
    open: bool = False
    pending: Rows = field(default_factory=dict)


@dataclass
class Source:
    """A table `k, c, v` under writers, and a model of what is committed in it."""

    table: str
    writers: list[Writer]
    cursor: str  # SQL for the cursor of a row that is written now
    begin: str = "BEGIN"
    committed: Rows = field(default_factory=dict)
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def insert(self, writer: Writer) -> None:
        self._begun(writer)
        key = next(self.keys)
        writer.session.run(f"INSERT INTO {self.table} VALUES ({key}, {self.cursor}, 0)")
        writer.pending[key] = 0

    def update(self, writer: Writer, choice: int) -> None:
        """Change a row that no other writer has changed: it would wait."""
        self._begun(writer)
        there = self.committed | writer.pending
        free = set(there) - {key for other in self.writers if other is not writer for key in other.pending}
        if free:
            key = sorted(free)[choice % len(free)]
            writer.session.run(f"UPDATE {self.table} SET c = {self.cursor}, v = v + 1 WHERE k = {key}")
            writer.pending[key] = there[key] + 1

    def end(self, writer: Writer, how: str) -> None:
        if writer.open:
            writer.session.run(how)
            self.committed |= writer.pending if how == "COMMIT" else {}
        writer.open, writer.pending = False, {}

    def _begun(self, writer: Writer) -> None:
        if not writer.open:
            writer.session.run(self.begin)
        writer.open = True


@dataclass(frozen=True)
class Action:
    """`sync` may have a writer commit while it reads."""

    kind: str  # insert, update, commit, rollback, sync
    writer: int
    choice: int = 0


def histories(kinds: list[str]) -> st.SearchStrategy[list[Action]]:
    action = st.builds(Action, st.sampled_from(kinds), st.integers(0, WRITERS - 1), st.integers(0, 5))
    return st.lists(action, min_size=4, max_size=16)


INSERTS = ["insert", "insert", "commit", "rollback", "sync", "sync"]


def play(source: Source, pipe: Pipe, history: list[Action]) -> None:
    for action in [*history, Action("sync", 0)]:
        writer = source.writers[action.writer % len(source.writers)]
        match action.kind:
            case "insert":
                source.insert(writer)
            case "update":
                source.update(writer, action.choice)
            case "commit" | "rollback":
                source.end(writer, action.kind.upper())
            case "sync":
                expected = dict(source.committed)
                with pipe.running(rows=1 + action.choice) as events:
                    for event in events:
                        if isinstance(event, StreamStarted) and action.choice % 2:
                            source.end(writer, "COMMIT")
                assert isinstance(event, StreamFinished)
                assert Counter(pipe.rows("k", "v")) == Counter((str(k), str(v)) for k, v in expected.items())
    for writer in source.writers:
        source.end(writer, "ROLLBACK")


@contextmanager
def pipe_from(system: System, folder: Path, table: str, disposition: Disposition) -> Iterator[Pipe]:
    """From a table into DuckDB."""
    with (
        closing(system.connector()) as connector,
        closing(DuckDBFile(folder, f"into_{table}").destination()) as destination,
    ):
        yield Pipe(
            connector, destination, Stream(table, table=table, cursor="c", disposition=disposition), "c"
        )


class PostgresSession:
    def __init__(self, client: psycopg.Connection) -> None:
        self._client = client

    def run(self, statement: str) -> None:
        self._client.execute(statement.encode())


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail reaches a second further back than it must for a cursor with microseconds: too far to fail."""
    monkeypatch.setattr(postgresql_snapshot, "_ROUNDING", timedelta())


@pytest.fixture
def sessions(postgres: ServerAddress) -> Iterator[list[PostgresSession]]:
    with ExitStack() as stack:
        yield [PostgresSession(stack.enter_context(connect(postgres))) for _ in range(WRITERS)]


# What is written, and the cursor of a row that is written now.
CURSORS = {"timestamptz": "now()", "timestamp": "now()", "bigserial": "DEFAULT"}


def play_on_postgres(
    address: ServerAddress,
    sessions: list[PostgresSession],
    folder: Path,
    kind: str,
    history: list[Action],
    disposition: Disposition,
) -> None:
    table = f"t{next(NUMBERS)}"
    sessions[0].run(f"CREATE TABLE {table} (k int PRIMARY KEY, c {kind} NOT NULL, v int)")
    source = Source(table, [Writer(session) for session in sessions], CURSORS[kind])
    with pipe_from(PostgresDatabase(address), folder, table, disposition) as pipe:
        try:
            play(source, pipe, history)
        finally:
            for writer in source.writers:
                source.end(writer, "ROLLBACK")


@pytest.mark.usefixtures("no_margin")
@pytest.mark.parametrize("kind", CURSORS)
@given(history=histories(INSERTS))
@patient
def test_an_append_from_postgresql(
    postgres: ServerAddress, sessions: list[PostgresSession], tmp_path: Path, kind: str, history: list[Action]
) -> None:
    play_on_postgres(postgres, sessions, tmp_path, kind, history, Disposition.APPEND)


@pytest.mark.usefixtures("no_margin")
@pytest.mark.parametrize("kind", CURSORS)
@given(history=histories([*INSERTS, "update", "update"]))
@patient
def test_a_merge_from_postgresql(
    postgres: ServerAddress, sessions: list[PostgresSession], tmp_path: Path, kind: str, history: list[Action]
) -> None:
    play_on_postgres(postgres, sessions, tmp_path, kind, history, Disposition.MERGE)


class SqliteSession:
    """In another process, which has the file open for itself."""

    def __init__(self, process: OtherProcess) -> None:
        self._process = process

    def run(self, statement: str) -> None:
        assert self._process.execute(statement) == "done"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[tuple[SqliteFile, SqliteSession]]:
    file = SqliteFile(tmp_path, "from")
    file.run(["PRAGMA journal_mode = WAL"])
    with other_process(tmp_path / "from.db") as process:
        yield file, SqliteSession(process)


def play_on_sqlite(
    sqlite: tuple[SqliteFile, SqliteSession], folder: Path, history: list[Action], disposition: Disposition
) -> None:
    """One writer at a time, whose cursor stays or grows."""
    file, session = sqlite
    table = f"t{next(NUMBERS)}"
    session.run(f"CREATE TABLE {table} (k INTEGER PRIMARY KEY, c INTEGER NOT NULL, v INTEGER)")
    ticking = f"(SELECT coalesce(max(c), 0) + (SELECT count(*) FROM {table}) % 2 FROM {table})"
    source = Source(table, [Writer(session)], ticking, begin="BEGIN IMMEDIATE")
    with pipe_from(file, folder, table, disposition) as pipe:
        try:
            play(source, pipe, history)
        finally:
            source.end(source.writers[0], "ROLLBACK")


@given(history=histories(INSERTS))
@patient
def test_an_append_from_sqlite(
    sqlite: tuple[SqliteFile, SqliteSession], tmp_path: Path, history: list[Action]
) -> None:
    play_on_sqlite(sqlite, tmp_path, history, Disposition.APPEND)


@given(history=histories([*INSERTS, "update", "update"]))
@patient
def test_a_merge_from_sqlite(
    sqlite: tuple[SqliteFile, SqliteSession], tmp_path: Path, history: list[Action]
) -> None:
    play_on_sqlite(sqlite, tmp_path, history, Disposition.MERGE)
