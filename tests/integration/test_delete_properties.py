"""Random histories of a keyed table whose source deletes rows, reconciled after each sync, against a model.

The source goes on between a load and the look at its keys. Every history has syncs that are given up in their
middle; what those leave is only held to the promise that no row that the source has goes.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.table_history import INTEGER, Row
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

from atlas_etl import values
from atlas_etl.contracts import Connector, Destination, Extract
from atlas_etl.model import (
    DELETED_AT,
    BatchLimits,
    Deletes,
    Deletion,
    ReadRequest,
    RetryPolicy,
    Run,
    RunStatus,
    Stream,
    StreamInfo,
    StreamRun,
    Window,
)
from atlas_etl.pipeline.events import StreamFinished, StreamReconciled
from atlas_etl.pipeline.run import run_streams

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NUMBERS = itertools.count()
ONCE = RetryPolicy(attempts=1, first_wait=timedelta(0), longest_wait=timedelta(0))
CURSORS = itertools.count(1)

Systems = Callable[[Path], tuple[System, System]]
Copy = dict[int, tuple[int, bool]]  # key -> value, and whether the row is marked


@dataclass(frozen=True)
class Change:
    """What happens to the row of one key: it is put there, in whatever version, or deleted."""

    key: int
    value: int | None  # None: deleted


@dataclass(frozen=True)
class Step:
    """Changes, a sync that is given up after so many events (0: none), and one with changes in its middle."""

    before: tuple[Change, ...]
    give_up_after: int
    between: tuple[Change, ...]
    batch_rows: int
    window_rows: int
    max_share: float


changes = st.lists(
    st.builds(Change, st.integers(0, 9), st.one_of(st.none(), st.integers(0, 99))), max_size=6
).map(tuple)
steps = st.builds(
    Step, changes, st.integers(0, 9), changes, st.integers(2, 4), st.integers(3, 9),
    st.sampled_from([0.1, 0.3, 1.0]),
)  # fmt: skip
histories = st.lists(steps, min_size=2, max_size=3)
few = settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
fewer = settings(few, max_examples=6)


@dataclass
class GoesOn(Connector):
    """A source to which something happens between the first look at it and the second."""

    inner: Connector
    between: Callable[[], None]
    looks: int = 0

    def open(self, request: ReadRequest) -> AbstractContextManager[Extract]:
        if self.looks == 1:
            self.between()
        self.looks += 1
        return self.inner.open(request)

    def describe(self, stream: Stream) -> StreamInfo:
        return self.inner.describe(stream)

    def close(self) -> None:
        self.inner.close()


@dataclass
class Mirror:
    """A table at its source, as the model has it too, and its copy."""

    source: System
    destination: Destination
    name: str
    how: Deletion
    rows: dict[int, Row] = field(default_factory=dict)

    def change(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if change.value is None:
                self.rows.pop(change.key, None)
            else:
                self.rows[change.key] = (change.key, next(CURSORS), change.value)
        self.source.write(self.name, INTEGER, list(self.rows.values()), key=True)

    def sync(self, step: Step, events: int | None = None) -> tuple[StreamRun | None, StreamReconciled | None]:
        """How it ended, and what was reconciled; None where it was closed after so many events."""
        stream = Stream(
            self.name, table=self.name, cursor="c", deletes=Deletes(self.how, max_share=step.max_share)
        )
        run = Run(f"r{next(NUMBERS)}", self.name, RunStatus.RUNNING, "test", STARTED)
        reconciled = None
        going_on = GoesOn(self.source.connector(), lambda: self.change(step.between if not events else ()))
        with closing(going_on) as source:
            running = run_streams(
                run, source, self.destination, [stream], limits=BatchLimits(rows=step.batch_rows),
                window=Window(rows=step.window_rows), retry=ONCE,
            )  # fmt: skip
            with closing(running):
                for event in itertools.islice(running, events):
                    reconciled = event if isinstance(event, StreamReconciled) else reconciled
                    if isinstance(event, StreamFinished):
                        return event.outcome, reconciled
        return None, reconciled

    def copy(self) -> Copy:
        table = self.destination.table_name(self.name, Stream(self.name))
        state = self.destination.inspect(self.name, self.name, table)
        if state.schema is None:
            return {}
        found = self.destination.query(f"SELECT * FROM {table}")
        assert found.num_rows == len(set(found.column("k").to_pylist())), "a row twice"
        cells = [
            values.to_text(found.column(name).combine_chunks()).to_pylist() if name in found.column_names
            else [None] * found.num_rows
            for name in ("k", "v", DELETED_AT)
        ]  # fmt: skip
        return {int(str(k)): (int(str(v)), mark is not None) for k, v, mark in zip(*cells, strict=True)}


@contextmanager
def mirror(systems: Systems, how: Deletion) -> Iterator[Mirror]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source, target = systems(folder)
        destination = stack.enter_context(closing(target.destination()))
        yield Mirror(source, destination, f"t{next(NUMBERS)}", how)


def live(copy: Copy) -> set[int]:
    return {key for key, (_, is_marked) in copy.items() if not is_marked}


def check(systems: Systems, how: Deletion, history: list[Step]) -> None:
    with mirror(systems, how) as found:
        found.change(tuple(Change(key, key) for key in range(8)))
        for step in history:
            found.change(step.before)
            if step.give_up_after:
                before = found.copy()
                found.sync(step, step.give_up_after)
                # No row goes that the source has, and none is there that it never had.
                assert (live(before) & found.rows.keys()) <= live(found.copy())
                assert live(found.copy()) <= live(before) | found.rows.keys()
            there = found.copy()
            at_load = dict(found.rows)
            outcome, reconciled = found.sync(step)
            expected = there | {key: (value, False) for key, _, value in at_load.values()}
            gone = live(expected) - found.rows.keys()
            assert outcome is not None
            if len(gone) > step.max_share * len(live(expected)):
                assert outcome.error is not None
                assert outcome.error.code == "too_many_deletes"
                assert found.copy() == expected
                continue
            assert outcome.error is None
            assert reconciled is not None
            assert (reconciled.deleted, outcome.rows_deleted) == (len(gone), len(gone))
            if how is Deletion.HARD:
                expected = {key: row for key, row in expected.items() if key in found.rows}
            else:
                expected = {key: (value, key not in found.rows) for key, (value, _) in expected.items()}
            assert found.copy() == expected
        last = Step((), 0, (), 4, 9, 1.0)
        assert found.sync(last)[0] is not None
        copy = found.copy()
        assert {key: copy[key][0] for key in live(copy)} == {key: row[2] for key, row in found.rows.items()}


PAIRS: dict[str, Systems] = {
    "sqlite to duckdb": lambda folder: (SqliteFile(folder, "from"), DuckDBFile(folder, "into")),
    "duckdb to sqlite": lambda folder: (DuckDBFile(folder, "from"), SqliteFile(folder, "into")),
    "sqlite to parquet": lambda folder: (SqliteFile(folder, "from"), Folder(folder, "parquet")),
}


@given(pair=st.sampled_from(sorted(PAIRS)), history=histories, how=st.sampled_from(Deletion))
@few
def test_rows_that_the_source_deleted_go_and_no_others(pair: str, history: list[Step], how: Deletion) -> None:
    check(PAIRS[pair], how, history)


def server_systems(kind: type[Server], address: ServerAddress) -> Systems:
    return lambda _: (kind(address), kind(address))


@given(history=histories, how=st.sampled_from(Deletion))
@fewer
def test_postgresql_to_postgresql(postgres: ServerAddress, history: list[Step], how: Deletion) -> None:
    check(server_systems(PostgresDatabase, postgres), how, history)


@given(history=histories, how=st.sampled_from(Deletion))
@fewer
def test_mysql_to_mysql(mysql: ServerAddress, history: list[Step], how: Deletion) -> None:
    check(server_systems(MySQLDatabase, mysql), how, history)
