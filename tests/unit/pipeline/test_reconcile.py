"""Deletes at the source through the pipeline: when they are looked for, what is refused, how a run ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from msgspec.structs import replace

from atlas_etl.contracts import Connector, Extract
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    BatchLimits,
    Deletes,
    Deletion,
    Disposition,
    Hazard,
    HazardPolicy,
    NullCursor,
    ReadRequest,
    RetryPolicy,
    Run,
    RunStatus,
    Stream,
    StreamInfo,
    StreamRun,
    Window,
)
from atlas_etl.pipeline.deletes import is_due
from atlas_etl.pipeline.events import (
    BatchLoaded,
    Event,
    KeysRead,
    RunFinished,
    StreamFinished,
    StreamRead,
    StreamReconciled,
    StreamRetrying,
    StreamStarted,
)
from atlas_etl.pipeline.run import exit_code, run_streams
from tests.unit.pipeline.house import STARTED, House, orders

HARD = Deletes(max_share=1)
SOFT = Deletes(Deletion.SOFT, max_share=1)
AT_ONCE = RetryPolicy(attempts=2, first_wait=timedelta(0), longest_wait=timedelta(0))
KEYED = "CREATE TABLE orders (id BIGINT PRIMARY KEY, v VARCHAR, seen TIMESTAMP)"


def ten(first: int = 0) -> str:
    rows = (f"({n}, 'v{n}', TIMESTAMP '2026-01-01' + INTERVAL {n} SECOND)" for n in range(first, first + 10))
    return f"INSERT INTO orders VALUES {', '.join(rows)}"


@dataclass
class Between(Connector):
    """A source to which something happens each time after it was opened, or that fails then."""

    inner: Connector
    happens: list[object] = field(default_factory=list)  # what to call before each open, or to raise
    requests: list[ReadRequest] = field(default_factory=list)

    def open(self, request: ReadRequest) -> AbstractContextManager[Extract]:
        return self._open(request)

    @contextmanager
    def _open(self, request: ReadRequest) -> Iterator[Extract]:
        self.requests.append(request)
        what = self.happens.pop(0) if self.happens else None
        if isinstance(what, Exception):
            raise what
        if callable(what):
            what()
        with self.inner.open(request) as extract:
            yield extract

    def describe(self, stream: Stream) -> StreamInfo:
        return self.inner.describe(stream)

    def close(self) -> None:
        self.inner.close()


class Syncs:
    """Runs of one house, each with its events."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.events: list[Event] = []
        self.happens: list[object] = []
        self.requests: list[ReadRequest] = []

    def run(self, *streams: Stream, full_refresh: bool = False, limits: BatchLimits | None = None) -> Run:
        self.house.runs += 1
        run = Run(f"run-{self.house.runs}", self.house.connector_name, RunStatus.RUNNING, "test", STARTED)
        with (
            closing(Between(self.house.connector(), self.happens)) as source,
            closing(self.house.destination()) as target,
        ):
            self.events = list(
                run_streams(
                    run, source, target, streams, full_refresh=full_refresh,
                    limits=limits or BatchLimits(), window=Window(), retry=AT_ONCE,
                )
            )  # fmt: skip
        self.requests = source.requests
        ended = self.events[-1]
        assert isinstance(ended, RunFinished)
        return ended.run

    def one(self, stream: Stream, **more: bool) -> StreamRun:
        (outcome,) = self.run(stream, **more).streams
        return outcome

    def ids(self, stream: Stream) -> list[str | None]:
        index = self.house.table(stream).column_names.index("id")
        return sorted((row[index] for row in self.house.rows(stream)), key=lambda cell: int(str(cell)))


@pytest.fixture
def syncs(house: House) -> Syncs:
    return Syncs(house)


@pytest.fixture
def duck_syncs(duck: House) -> Syncs:
    return Syncs(duck)


def merged(**more: object) -> Stream:
    return orders(**{"cursor": "seen", "deletes": HARD, **more})


def test_deleted_rows_go_after_the_load(any_house: House) -> None:
    syncs, stream = Syncs(any_house), merged()
    any_house.source(KEYED, ten())
    first = syncs.one(stream, limits=BatchLimits(rows=4))
    assert (first.status, first.rows_loaded, first.rows_deleted) == (RunStatus.COMPLETED, 10, 0)
    kinds = [type(event) for event in syncs.events]
    loaded, read = kinds.count(BatchLoaded), kinds.count(KeysRead)
    assert read >= 3
    assert kinds == [
        StreamStarted, *[BatchLoaded] * loaded, StreamRead, *[KeysRead] * read, StreamRead, StreamReconciled,
        StreamFinished, RunFinished,
    ]  # fmt: skip
    any_house.source(
        "DELETE FROM orders WHERE id IN (2, 9)", "INSERT INTO orders VALUES (10, 'new', '2027-01-01')"
    )
    second = syncs.one(stream)
    assert (second.rows_loaded, second.rows_deleted) == (1, 2)
    (event,) = (event for event in syncs.events if isinstance(event, StreamReconciled))
    assert (event.deleted, event.kept) == (2, 9)
    assert syncs.ids(stream) == ["0", "1", "3", "4", "5", "6", "7", "8", "10"]


def test_soft_deletes_add_a_column_and_what_came_back_is_live_again(any_house: House) -> None:
    syncs, stream = Syncs(any_house), merged(deletes=SOFT)
    any_house.source(KEYED, ten())
    began = datetime.now(UTC)
    syncs.run(merged(deletes=None))  # a table from before
    any_house.source("DELETE FROM orders WHERE id IN (3, 4)")
    assert syncs.one(stream).rows_deleted == 2

    def marks() -> dict[object, datetime | None]:
        found = any_house.table(stream)
        marks = zip(found.column("id"), found.column("_atlas_deleted_at"), strict=True)
        return {key.as_py(): mark.as_py() for key, mark in marks if mark.is_valid}

    first = marks()
    assert sorted(first) == [3, 4]
    assert all(began < mark < datetime.now(UTC) for mark in first.values() if mark)
    assert syncs.one(stream).rows_deleted == 0
    assert marks() == first
    # One that no load reads again, and one that it does.
    any_house.source("INSERT INTO orders VALUES (3, 'v3', TIMESTAMP '2020-01-01')")
    any_house.source("INSERT INTO orders VALUES (4, 'again', TIMESTAMP '2027-01-01')")
    assert syncs.one(stream).rows_deleted == 0
    assert marks() == {}
    assert len(syncs.ids(stream)) == 10


def test_too_many_deletes_fail_the_stream_and_keep_its_load(syncs: Syncs) -> None:
    stream = merged(deletes=Deletes())
    syncs.house.source(KEYED, ten())
    syncs.run(stream)
    syncs.house.source(
        "DELETE FROM orders WHERE id < 5", "INSERT INTO orders VALUES (10, 'new', '2027-01-01')"
    )
    run = syncs.run(stream)
    (outcome,) = run.streams
    assert (outcome.status, outcome.rows_loaded, outcome.rows_deleted) == (RunStatus.FAILED, 1, 0)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.exit_code) == ("too_many_deletes", 7)
    assert "5 of the 11 rows" in outcome.error.message
    assert "max_share: 0.46" in str(outcome.error.hint)
    assert exit_code([run]) == 7
    assert outcome.checkpoint == syncs.house.state(stream).checkpoint
    assert len(syncs.ids(stream)) == 11
    assert syncs.one(replace(stream, deletes=Deletes(max_share=0.46))).rows_deleted == 5
    assert syncs.ids(stream) == ["5", "6", "7", "8", "9", "10"]


def test_an_empty_source_is_refused(syncs: Syncs) -> None:
    stream = merged(deletes=Deletes(max_share=0.99))
    syncs.house.source(KEYED)
    assert syncs.one(stream).error is None
    syncs.house.source(ten())
    syncs.run(stream)
    syncs.house.source("DELETE FROM orders")
    outcome = syncs.one(stream)
    assert outcome.error is not None
    assert "no rows at all" in outcome.error.message
    assert len(syncs.ids(stream)) == 10
    assert syncs.one(replace(stream, deletes=HARD)).rows_deleted == 10
    assert syncs.ids(stream) == []


def test_keys_are_read_alone_and_from_the_catalog(duck_syncs: Syncs) -> None:
    duck_syncs.house.source(KEYED, ten())
    duck_syncs.run(merged(exclude=("v",), metadata_columns=True, lag=timedelta(1)))
    _, keys = duck_syncs.requests
    assert (keys.stream.columns, keys.stream.exclude, keys.stream.cursor, keys.since) == (
        ("id",),
        (),
        None,
        None,
    )


def test_keys_come_from_the_streams_own_rows(syncs: Syncs) -> None:
    """A row is gone that leaves a query's answer, or whose cursor becomes NULL where that is excluded."""
    syncs.house.source(KEYED, ten())
    query = merged(table=None, query="SELECT * FROM orders WHERE v <> 'hidden'", primary_key=("id",))
    syncs.run(query)
    syncs.house.source("UPDATE orders SET v = 'hidden' WHERE id = 5")
    assert syncs.one(query).rows_deleted == 1
    assert len(syncs.ids(query)) == 9
    excluding = replace(merged(null_cursor=NullCursor.EXCLUDE), name="others")
    including = replace(merged(null_cursor=NullCursor.INCLUDE), name="all")
    syncs.run(excluding, including)
    syncs.house.source("UPDATE orders SET seen = NULL WHERE id = 6")
    syncs.run(excluding, including)
    assert "6" not in syncs.ids(excluding)
    assert "6" in syncs.ids(including)


def test_rows_of_an_append_go_too(syncs: Syncs) -> None:
    stream = merged(disposition=Disposition.APPEND)
    syncs.house.source(KEYED, ten())
    syncs.run(stream)
    syncs.house.source("DELETE FROM orders WHERE id IN (0, 5, 9)", ten(10))
    assert syncs.one(stream).rows_deleted == 2  # the third was in the tail, which the load replaced
    assert syncs.ids(stream) == [str(n) for n in (1, 2, 3, 4, 6, 7, 8, *range(10, 20))]


def test_a_merge_without_a_cursor(syncs: Syncs) -> None:
    stream = orders(disposition=Disposition.MERGE, deletes=HARD)
    syncs.house.source(KEYED, ten())
    syncs.run(stream)
    syncs.house.source("DELETE FROM orders WHERE id > 7", "UPDATE orders SET v = 'x'")
    assert syncs.one(stream).rows_deleted == 2
    assert len(syncs.ids(stream)) == 8


def test_times_as_keys_are_in_the_streams_zone(duck_syncs: Syncs) -> None:
    duck_syncs.house.source(KEYED.replace("id BIGINT PRIMARY KEY", "id BIGINT"), ten())
    stream = merged(primary_key=("seen", "id"), timezone="Europe/Berlin")
    duck_syncs.run(stream)
    duck_syncs.house.source("DELETE FROM orders WHERE id = 4")
    assert duck_syncs.one(stream).rows_deleted == 1
    assert "4" not in duck_syncs.ids(stream)


def test_rows_that_come_after_the_load_are_harmless(syncs: Syncs) -> None:
    """Between the load and the look at the keys, the source goes on."""
    syncs.house.source(KEYED, ten())

    def goes_on() -> None:
        syncs.house.source(
            "INSERT INTO orders VALUES (50, 'late', '2027-01-01')", "DELETE FROM orders WHERE id = 7"
        )

    syncs.happens += [None, goes_on]
    outcome = syncs.one(merged())
    assert (outcome.rows_loaded, outcome.rows_deleted) == (10, 1)
    assert "7" not in syncs.ids(merged())
    assert syncs.one(merged()).rows_loaded == 1
    assert syncs.ids(merged())[-1] == "50"


# Keys that are refused


ODD = "CREATE TABLE orders (id {kind}, v VARCHAR, seen TIMESTAMP)"
REFUSED = {
    "a hazard": ("TIMESTAMP", "TIMESTAMP '2026-01-01' + INTERVAL {} DAY", "'infinity'"),
    "none": ("BIGINT", "{}", "NULL"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("policy", [HazardPolicy.QUARANTINE, HazardPolicy.NULL])
def test_a_row_whose_key_is_refused_keeps_no_other_from_being_deleted(
    any_house: House, why: str, policy: HazardPolicy
) -> None:
    kind, written, odd = REFUSED[why]
    stream = merged(primary_key=("id",), quarantine_limit=2, hazards={Hazard.INFINITY: policy})
    syncs = Syncs(any_house)
    rows = (f"({written.format(n)}, 'v{n}', TIMESTAMP '2026-01-0{n}')" for n in range(1, 6))
    any_house.source(ODD.format(kind=kind), f"INSERT INTO orders VALUES {', '.join(rows)}")
    syncs.run(stream)
    any_house.source(
        f"INSERT INTO orders VALUES ({odd}, 'odd', '2026-02-01')", "DELETE FROM orders WHERE v = 'v2'"
    )
    outcome = syncs.one(stream)
    assert (outcome.error, outcome.rows_quarantined, outcome.rows_deleted) == (None, 1, 1)
    assert any("1 row of the source has a key" in warning for warning in outcome.warnings)
    any_house.source("DELETE FROM orders WHERE v IN ('v3', 'odd')")
    outcome = syncs.one(stream)
    assert outcome.rows_deleted == 1
    assert not any("row of the source has a key" in warning for warning in outcome.warnings)
    index = any_house.table(stream).column_names.index("v")
    assert sorted(str(row[index]) for row in any_house.rows(stream)) == ["v1", "v4", "v5"]


# When


def test_a_full_refresh_needs_no_comparison(syncs: Syncs) -> None:
    syncs.house.source(KEYED, ten())
    syncs.run(merged())
    syncs.house.source("DELETE FROM orders WHERE id = 1")
    assert syncs.one(merged(), full_refresh=True).rows_deleted == 0
    assert not [event for event in syncs.events if isinstance(event, StreamReconciled)]
    assert len(syncs.ids(merged())) == 9


def test_deletes_have_a_schedule_of_their_own(any_house: House) -> None:
    syncs, daily = Syncs(any_house), merged(deletes=replace(HARD, every=timedelta(days=1)))
    any_house.source(KEYED, ten())
    syncs.run(daily)
    any_house.source("DELETE FROM orders WHERE id = 1")
    for _ in range(2):
        assert syncs.one(daily).rows_deleted == 0
        assert not [event for event in syncs.events if isinstance(event, KeysRead)]
    at_once = merged(deletes=replace(HARD, every=timedelta(microseconds=1)))
    assert syncs.one(at_once).rows_deleted == 1
    any_house.source("DELETE FROM orders WHERE id = 2")
    assert syncs.one(daily).rows_deleted == 0
    assert syncs.one(merged()).rows_deleted == 1


def test_a_day_has_passed_a_little_before_its_end() -> None:
    last = datetime(2026, 3, 1, 0, 0, 7, tzinfo=UTC)
    daily = Deletes(every=timedelta(days=1))
    assert is_due(daily, None, last)
    assert is_due(daily, last, datetime(2026, 3, 2, 0, 0, 1, tzinfo=UTC))
    assert not is_due(daily, last, datetime(2026, 3, 1, 23, 0, tzinfo=UTC))
    assert not is_due(daily, last, last - timedelta(seconds=5))  # another host's clock
    assert is_due(daily, datetime(2099, 1, 1, tzinfo=UTC), last)
    assert is_due(Deletes(), last, last)


# Refused


def test_a_source_with_a_column_of_that_name_is_refused(duck_syncs: Syncs) -> None:
    """As a warehouse is, into which deletes were marked: its marks are data here."""
    house = duck_syncs.house
    house.source(KEYED.replace(", seen", ", _Atlas_Deleted_At VARCHAR, seen"))
    house.source("INSERT INTO orders VALUES (1, 'v', 'gone', '2026-01-01')")
    for deletes in (HARD, SOFT):
        error = duck_syncs.one(merged(deletes=deletes)).error
        assert error is not None
        assert (error.exit_code, "`exclude`" in str(error.hint)) == (2, True)
        assert house.state(merged()).schema is None
    assert duck_syncs.one(merged(exclude=("_Atlas_Deleted_At",))).error is None


@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [
        (orders(deletes=HARD), "deletes", "replace"),
        (orders(deletes=HARD, cursor="seen", disposition=Disposition.REPLACE), "deletes", "replace"),
        (orders(deletes=HARD, cursor="seen"), "no_primary_key", "primary key"),
        (
            orders(deletes=SOFT, cursor="seen", primary_key=("id",), disposition=Disposition.APPEND),
            "deletes",
            "disposition merge",
        ),
    ],
)
def test_streams_that_cannot_be_compared_are_refused(
    duck_syncs: Syncs, stream: Stream, code: str, said: str
) -> None:
    duck_syncs.house.source("CREATE TABLE orders AS SELECT 1 AS id, TIMESTAMP '2026-01-01' AS seen")
    error = duck_syncs.one(stream).error
    assert error is not None
    assert (error.code, error.exit_code) == (code, 2)
    assert said in error.message
    assert duck_syncs.house.state(stream).schema is None


def test_rows_that_the_stream_did_not_load_are_not_deleted(duck_syncs: Syncs) -> None:
    duck_syncs.house.source(KEYED, ten())
    with duckdb.connect(str(duck_syncs.house.settings["path"])) as warehouse:
        warehouse.execute("CREATE SCHEMA shop")
        warehouse.execute("CREATE TABLE shop.orders AS SELECT 77 AS id")
    error = duck_syncs.one(merged()).error
    assert error is not None
    assert error.code == "table_not_ours"
    assert duck_syncs.ids(merged()) == ["77"]


def test_a_key_whose_type_changes_after_the_load(duck_syncs: Syncs) -> None:
    house = duck_syncs.house
    house.source("CREATE TABLE orders AS SELECT 1 AS id, TIMESTAMP '2026-01-01' AS seen")
    duck_syncs.happens += [None, lambda: house.source("ALTER TABLE orders ALTER COLUMN id TYPE VARCHAR")]
    outcome = duck_syncs.one(merged(primary_key=("id",)))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.rows_loaded) == ("source_changed", 1)
    assert duck_syncs.one(merged(primary_key=("id",))).error is None


# Failures


def test_keys_are_tried_again_without_another_load(syncs: Syncs) -> None:
    syncs.house.source(KEYED, ten())
    syncs.happens += [None, SourceError("the server went away", code="server_gone", retryable=True)]
    outcome = syncs.one(merged())
    assert (outcome.status, outcome.rows_loaded) == (RunStatus.COMPLETED, 10)
    assert [type(event) for event in syncs.events].count(StreamRetrying) == 1
    assert [request.stream.columns for request in syncs.requests] == [(), ("id",), ("id",)]


def test_a_failure_of_the_keys_is_the_streams_and_its_load_stays(syncs: Syncs) -> None:
    syncs.house.source(KEYED, ten())
    syncs.happens += [None, SourceError("no", code="permission_denied")]
    run = syncs.run(merged())
    (outcome,) = run.streams
    assert (outcome.status, outcome.rows_loaded) == (RunStatus.FAILED, 10)
    assert outcome.checkpoint == syncs.house.state(merged()).checkpoint
    assert exit_code([run]) == 3


@pytest.mark.parametrize("at", [KeysRead, StreamReconciled])
@pytest.mark.parametrize("deletes", [HARD, SOFT])
def test_closing_the_run_before_the_commit_deletes_nothing(
    any_house: House, at: type[Event], deletes: Deletes
) -> None:
    syncs, stream = Syncs(any_house), merged(deletes=deletes)
    any_house.source(KEYED, ten())
    syncs.run(stream)
    any_house.source("DELETE FROM orders WHERE id < 5")
    before, there = any_house.rows(stream), any_house.state(stream)
    run = Run("run-9", any_house.connector_name, RunStatus.RUNNING, "test", STARTED)
    with closing(any_house.connector()) as source, closing(any_house.destination()) as target:
        running = run_streams(
            run, source, target, [stream], limits=BatchLimits(rows=2), window=Window(), retry=AT_ONCE
        )
        with closing(running):
            assert any(isinstance(event, at) for event in running)
    after = any_house.state(stream)
    if at is KeysRead:
        assert any_house.rows(stream) == before
        assert after.version == there.version + 1  # the load's alone
    else:
        assert any_house.rows(stream) != before
        assert after.version == there.version + 2
