"""The data path end to end on real files: what a sync leaves behind, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import ConfigError, DataError, DestinationError, SchemaChangeError, SourceError
from atlas_etl.model import (
    BatchLimits,
    Disposition,
    NullCursor,
    RetryPolicy,
    Run,
    RunStatus,
    Stream,
    StreamRun,
    TableName,
    TableState,
)
from atlas_etl.pipeline.events import (
    BatchLoaded,
    RunFinished,
    StreamFinished,
    StreamRead,
    StreamStarted,
    TransferEvent,
)
from atlas_etl.pipeline.run import exit_code, run_streams
from atlas_etl.pipeline.transfer import Job, transfer
from tests.servers import ServerAddress

STARTED = datetime(2026, 7, 1, 8, tzinfo=UTC)
Row = tuple[str | None, ...]


class House:
    """A DuckDB file to read and a destination to write, with the pipeline between them."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.source_path = folder / "source.duckdb"
        self.protocol = protocol
        key, ending = {"sqlite": ("database_path", "db"), "parquet": ("path", "files")}.get(
            protocol, ("path", "duckdb")
        )
        self.settings: dict[str, object] = {key: str(folder / f"warehouse.{ending}")}
        self.connector_name = "shop"
        self.runs = 0

    def source(self, *statements: str) -> None:
        with duckdb.connect(str(self.source_path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)

    def connector(self) -> Connector:
        adapter = registry.load("duckdb")
        assert adapter.connector is not None
        return adapter.connector(adapter.connection.model_validate({"path": str(self.source_path)}))

    def destination(self) -> Destination:
        adapter = registry.load(self.protocol)
        assert adapter.destination is not None
        return adapter.destination(adapter.connection.model_validate(self.settings))

    def events(
        self, stream: Stream, *, full_refresh: bool = False, limits: BatchLimits | None = None
    ) -> Iterator[TransferEvent]:
        self.runs += 1
        job = Job(
            f"run-{self.runs}", self.connector_name, stream, STARTED, full_refresh, limits or BatchLimits()
        )
        with (
            closing(self.connector()) as source,
            closing(self.destination()) as target,
            closing(transfer(source, target, job)) as events,
        ):
            yield from events

    def sync(self, stream: Stream, *, full_refresh: bool = False) -> StreamRun:
        *_, last = self.events(stream, full_refresh=full_refresh)
        assert isinstance(last, StreamFinished)
        return last.outcome

    def place(self, target: Destination, stream: Stream) -> TableName:
        return target.table_name(self.connector_name, stream)

    def state(self, stream: Stream) -> TableState:
        with closing(self.destination()) as target:
            return target.inspect(self.connector_name, stream.name, self.place(target, stream))

    def table(self, stream: Stream) -> pa.Table:
        with closing(self.destination()) as target:
            return target.query(f"SELECT * FROM {self.place(target, stream)}")

    def rows(self, stream: Stream) -> list[Row]:
        """The rows as text, sorted."""
        found = self.table(stream)
        texts = [values.to_text(column.combine_chunks()).to_pylist() for column in found.columns]
        return sorted(zip(*texts, strict=True), key=str)


@pytest.fixture(params=["duckdb", "sqlite", "parquet"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return House(tmp_path, request.param)


@pytest.fixture(params=["duckdb", "sqlite", "parquet", "postgresql", "mysql"])
def any_house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """Databases on servers too."""
    house = House(tmp_path, request.param)
    fixture = {"postgresql": "postgres", "mysql": "mysql"}.get(request.param)
    if fixture is not None:
        address: ServerAddress = request.getfixturevalue(fixture)
        house.settings = {
            "host": address.host, "port": address.port, "database": address.database,
            "username": address.username, "password": address.password,
        }  # fmt: skip
        house.connector_name = f"shop_{address.database[-6:]}"  # a database of its own in MySQL
    return house


@pytest.fixture
def duck(tmp_path: Path) -> House:
    return House(tmp_path, "duckdb")


def orders(**more: object) -> Stream:
    return Stream("orders", **{"table": "orders", **more})


# Undoing


@pytest.mark.parametrize("at", [StreamStarted, BatchLoaded, StreamRead])
@pytest.mark.parametrize("disposition", Disposition)
def test_closing_the_iterator_undoes_the_load(
    house: House, at: type[TransferEvent], disposition: Disposition
) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, 'x' AS v FROM range(5) AS r(i)")
    stream = orders(cursor="id", primary_key=("id",), disposition=disposition)
    house.sync(stream)
    before, there = house.rows(stream), house.state(stream)
    house.source("UPDATE orders SET v = 'y'", "INSERT INTO orders SELECT i, 'z' FROM range(5, 5000) AS r(i)")
    events = house.events(stream, limits=BatchLimits(rows=100))
    seen = next(event for event in events if isinstance(event, at))
    assert seen.stream == "orders"
    events.close()  # type: ignore[attr-defined]
    assert (house.rows(stream), house.state(stream)) == (before, there)
    assert house.sync(stream).rows_read >= 4996
    assert len(house.rows(stream)) == 5000


def test_an_error_in_the_middle_undoes_the_load_and_says_where(duck: House) -> None:
    duck.source("CREATE TABLE orders AS SELECT i AS id, date '2026-01-01' AS day FROM range(3000) AS r(i)")
    stream = orders(cursor="id")
    duck.sync(stream)
    before, there = duck.rows(stream), duck.state(stream)
    duck.source(
        "INSERT INTO orders SELECT i, date '2026-01-02' FROM range(3000, 6000) AS r(i)",
        "INSERT INTO orders VALUES (6001, 'infinity')",
    )
    loaded = []
    with pytest.raises(DataError) as caught:
        loaded += duck.events(stream, limits=BatchLimits(rows=1000))
    assert (caught.value.column, caught.value.stream, caught.value.exit_code) == ("day", "orders", 7)
    assert "6001" in caught.value.message
    assert (duck.rows(stream), duck.state(stream)) == (before, there)


def test_the_events_of_a_transfer_come_in_order(duck: House) -> None:
    duck.source("CREATE TABLE orders AS SELECT i AS id FROM range(250) AS r(i)")
    stream = orders(cursor="id")
    started, *loaded, read, finished = duck.events(stream, limits=BatchLimits(rows=100))
    assert isinstance(started, StreamStarted)
    assert (started.table, started.disposition, started.resumed_from) == (
        "shop.orders", Disposition.APPEND, None,
    )  # fmt: skip
    assert all(isinstance(event, BatchLoaded) for event in loaded)
    counts = [event.rows for event in loaded if isinstance(event, BatchLoaded)]
    assert counts == sorted(counts)
    assert (counts[-1], len(counts) > 2) == (250, True)
    assert isinstance(read, StreamRead)
    assert isinstance(finished, StreamFinished)
    outcome = finished.outcome
    assert (outcome.status, outcome.rows_read, outcome.rows_loaded) == (RunStatus.COMPLETED, 250, 250)
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.high.text == "249"
    started, *_ = duck.events(stream)
    assert isinstance(started, StreamStarted)
    assert started.resumed_from == outcome.checkpoint
    again = duck.sync(stream)
    assert (again.rows_read, again.rows_loaded, again.checkpoint) == (1, 0, outcome.checkpoint)


# Whose table, and by which cursor


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.REPLACE, None])
def test_a_table_with_somebody_elses_rows_is_refused(
    duck: House, disposition: Disposition | None, tmp_path: Path
) -> None:
    duck.source("CREATE TABLE orders AS SELECT 1 AS id")
    with duckdb.connect(str(duck.settings["path"])) as warehouse:
        warehouse.execute("CREATE SCHEMA shop")
        warehouse.execute("CREATE TABLE shop.orders AS SELECT 7 AS id")
    stream = orders(cursor="id", disposition=disposition)
    for full_refresh in (False, True):
        with pytest.raises(DestinationError, match=r"shop\.orders") as caught:
            duck.sync(stream, full_refresh=full_refresh)
        assert (caught.value.code, caught.value.exit_code) == ("table_not_ours", 4)
    assert duck.rows(stream) == [("7",)]
    with duckdb.connect(str(duck.settings["path"])) as warehouse:
        warehouse.execute("DELETE FROM shop.orders")
    assert duck.sync(stream).rows_loaded == 1


def test_another_cursor_needs_a_full_refresh(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, 100 - i AS version FROM range(10) AS r(i)")
    house.sync(orders(cursor="id"))
    with pytest.raises(ConfigError, match=r"'version'.*'id'") as caught:
        house.sync(orders(cursor="version"))
    assert (caught.value.code, caught.value.column) == ("cursor_changed", "version")
    assert "--full-refresh" in str(caught.value.hint)
    house.sync(orders(cursor="version"), full_refresh=True)
    found = house.state(orders(cursor="version")).checkpoint
    assert found is not None
    assert (found.cursor, found.high.text) == ("version", "100")
    assert len(house.rows(orders())) == 10


@pytest.mark.parametrize(("before", "after"), [("INTEGER", "VARCHAR"), ("VARCHAR", "INTEGER")])
def test_a_cursor_that_is_ordered_otherwise_now_needs_a_full_refresh(
    house: House, before: str, after: str
) -> None:
    house.source(f"CREATE TABLE orders (id {before})", "INSERT INTO orders VALUES (9), (10), (11), (100)")
    house.sync(orders(cursor="id"))
    there = house.rows(orders())
    house.source(f"ALTER TABLE orders ALTER id TYPE {after}", "INSERT INTO orders VALUES (12)")
    with pytest.raises(SchemaChangeError, match="'id'") as caught:
        house.sync(orders(cursor="id"))
    assert (caught.value.code, caught.value.exit_code) == ("cursor_type_changed", 7)
    assert "--full-refresh" in str(caught.value.hint)
    assert house.rows(orders()) == there
    house.sync(orders(cursor="id"), full_refresh=True)
    assert len(house.rows(orders())) == 5


def test_a_cursor_of_another_number_type_goes_on(house: House) -> None:
    house.source("CREATE TABLE orders (id SMALLINT)", "INSERT INTO orders VALUES (1), (2), (2)")
    house.sync(orders(cursor="id"))
    house.source("ALTER TABLE orders ALTER id TYPE BIGINT", "INSERT INTO orders VALUES (2), (5000000000)")
    assert house.sync(orders(cursor="id")).rows_loaded == 2
    house.source("ALTER TABLE orders ALTER id TYPE DECIMAL(20,2)", "INSERT INTO orders VALUES (5000000000.5)")
    assert house.sync(orders(cursor="id")).rows_loaded == 1
    found = sorted(float(str(row[0])) for row in house.rows(orders()))
    assert found == [1, 2, 2, 2, 5000000000, 5000000000.5]


# Every kind of cursor: rows at the tail change, come and go, and the copy is the source


KINDS = {
    "INTEGER": ("1", "2", "3"),
    "BIGINT": ("-9223372036854775808", "9007199254740993", "9223372036854775807"),
    "UBIGINT": ("0", "9223372036854775808", "18446744073709551615"),
    "DECIMAL(12,2)": ("-1.50", "9.99", "10.00"),
    "DECIMAL(38,10)": ("1.0000000001", "9999999999999999999999999999.0000000001",
                       "9999999999999999999999999999.0000000002"),
    "DOUBLE": ("-0.1", "0.1", "1e300"),
    "VARCHAR": ("Zebra", "apple", "äpfel 😀"),
    "DATE": ("0001-01-01", "2026-02-28", "9999-12-31"),
    "TIMESTAMP": ("2026-01-01 09:00:00.000001", "2026-01-01 09:00:00.000002", "2026-01-01 09:00:00.000003"),
    "TIMESTAMPTZ": ("1969-12-31 23:59:59.999999Z", "2026-01-01 09:00:00Z", "2026-01-01 09:00:00.000001Z"),
    "TIMESTAMP_NS": ("2026-01-01 09:00:00.000000001", "2026-01-01 09:00:00.000000002",
                     "2026-01-01 09:00:00.000000003"),
    "UUID": ("00000000-0000-4000-8000-000000000000", "7fffffff-ffff-4fff-8fff-ffffffffffff",
             "ffffffff-ffff-4fff-8fff-ffffffffffff"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_tail_is_exact_for_every_kind_of_cursor(house: House, kind: str) -> None:
    low, middle, high = KINDS[kind]
    stream = orders(cursor="c")

    def insert(cursor: str, *texts: str) -> None:
        for text in texts:
            house.source(f"INSERT INTO orders VALUES (CAST('{cursor}' AS {kind}), '{text}')")

    def texts() -> list[str | None]:
        return sorted(row[1] or "" for row in house.rows(stream))

    house.source(f"CREATE TABLE orders (c {kind}, v VARCHAR)")
    insert(low, "low", "tie of low")
    insert(middle, "middle", "tie of middle")
    assert house.sync(stream).rows_loaded == 4
    insert(middle, "late tie")
    house.source(
        "DELETE FROM orders WHERE v = 'tie of middle'", "UPDATE orders SET v = 'M' WHERE v = 'middle'"
    )
    house.sync(stream)
    assert texts() == ["M", "late tie", "low", "tie of low"]
    insert(high, "high")
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.rows_loaded) == (3, 1)
    assert texts() == ["M", "high", "late tie", "low", "tie of low"]
    house.source("DELETE FROM orders WHERE v = 'high'")
    again = house.sync(stream)
    assert (again.rows_read, again.checkpoint) == (0, outcome.checkpoint)
    assert texts() == ["M", "late tie", "low", "tie of low"]
    insert(high, "new high")
    house.sync(stream)
    assert texts() == ["M", "late tie", "low", "new high", "tie of low"]


@pytest.mark.parametrize("policy", [NullCursor.INCLUDE, NullCursor.EXCLUDE])
def test_null_cursors_as_the_stream_wants_them(house: House, policy: NullCursor) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, v VARCHAR)", "INSERT INTO orders VALUES (1, 'a'), (NULL, 'b')"
    )
    stream = orders(cursor="id", null_cursor=policy)
    house.sync(stream)
    house.source("INSERT INTO orders VALUES (NULL, 'c'), (2, 'd')", "DELETE FROM orders WHERE v = 'b'")
    for _ in range(2):
        house.sync(stream)
        kept = ["a", "c", "d"] if policy is NullCursor.INCLUDE else ["a", "d"]
        assert sorted(row[1] or "" for row in house.rows(stream)) == kept
    house.source("DELETE FROM orders WHERE id IS NOT NULL")
    house.sync(stream)
    assert sorted(row[1] or "" for row in house.rows(stream)) == [v for v in kept if v != "d"]


def test_rows_that_are_all_without_a_cursor_are_read_whole_every_time(house: House) -> None:
    house.source("CREATE TABLE orders (id INTEGER, v VARCHAR)", "INSERT INTO orders VALUES (NULL, 'a')")
    stream = orders(cursor="id", null_cursor=NullCursor.INCLUDE)
    for added in ("b", "c"):
        assert house.sync(stream).checkpoint is None
        house.source(f"INSERT INTO orders VALUES (NULL, '{added}')")
    house.sync(stream)
    assert [row[1] for row in house.rows(stream)] == ["a", "b", "c"]


def test_lag_reads_again_what_may_come_late(house: House) -> None:
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, v VARCHAR)",
        "INSERT INTO orders VALUES ('2026-01-01 09:00', 'a'), ('2026-01-01 09:30', 'b')",
        "INSERT INTO orders VALUES ('2026-01-01 10:00', 'c')",
    )
    stream = orders(cursor="seen", lag=timedelta(minutes=30))
    checkpoint = house.sync(stream).checkpoint
    assert checkpoint is not None
    assert (checkpoint.high.text, checkpoint.tail_from.text) == (
        "2026-01-01T10:00:00.000000", "2026-01-01T09:30:00.000000",
    )  # fmt: skip
    house.source(
        "INSERT INTO orders VALUES ('2026-01-01 09:30', 'late'), ('2026-01-01 09:29:59.999999', 'too late')",
        "DELETE FROM orders WHERE v = 'b'",
    )
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.checkpoint) == (2, checkpoint)
    assert sorted(row[1] or "" for row in house.rows(stream)) == ["a", "c", "late"]
    with pytest.raises(ConfigError, match="lag") as caught:
        house.sync(orders(cursor="v", lag=timedelta(minutes=1)), full_refresh=True)
    assert caught.value.code == "lag"


# Zones


def test_naive_times_get_the_zone_of_the_stream(house: House) -> None:
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, zoned TIMESTAMPTZ, day DATE, v VARCHAR)",
        "INSERT INTO orders VALUES "
        "('2026-07-01 12:00', '2026-07-01 12:00Z', '2026-07-01', 'summer'),"
        "('2026-01-01 12:00', NULL, NULL, 'winter')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin")
    outcome = house.sync(stream)
    assert house.rows(stream) == [
        ("2026-01-01T11:00:00.000000Z", None, None, "winter"),
        ("2026-07-01T10:00:00.000000Z", "2026-07-01T12:00:00.000000Z", "2026-07-01", "summer"),
    ]
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.high.text == "2026-07-01T12:00:00.000000"  # the source's own
    house.source(
        "UPDATE orders SET v = 'summer 2' WHERE v = 'summer'",
        "INSERT INTO orders VALUES ('2026-07-01 12:00', NULL, NULL, 'tie')",
        "INSERT INTO orders VALUES ('2026-07-01 12:30', NULL, NULL, 'new')",
    )
    for _ in range(2):
        house.sync(stream)
        assert [(row[0], row[3]) for row in house.rows(stream)] == [
            ("2026-01-01T11:00:00.000000Z", "winter"),
            ("2026-07-01T10:00:00.000000Z", "summer 2"),
            ("2026-07-01T10:00:00.000000Z", "tie"),
            ("2026-07-01T10:30:00.000000Z", "new"),
        ]


@pytest.mark.parametrize("moment", ["2026-10-25 02:30", "2026-03-29 02:30"], ids=["twice", "never"])
@pytest.mark.parametrize("cursor", ["id", "seen"])
def test_a_local_time_that_is_twice_or_never_is_refused(house: House, moment: str, cursor: str) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, seen TIMESTAMP)",
        f"INSERT INTO orders VALUES (1, '2026-01-01 12:00'), (2, '{moment}')",
    )
    stream = orders(cursor=cursor, timezone="Europe/Berlin")
    with pytest.raises(DataError, match=r"'seen'.*Europe/Berlin") as caught:
        house.sync(stream)
    assert (caught.value.code, caught.value.column, caught.value.exit_code) == ("ambiguous_time", "seen", 7)
    assert not house.state(stream).loaded_by_atlas
    house.sync(orders(cursor=cursor))
    assert len(house.rows(stream)) == 2


@pytest.mark.parametrize(
    ("high", "lag", "rows"),
    [
        # 30 minutes before 03:10 is 02:40, which that day has not.
        ("2026-03-29 03:10", 30, ("2026-03-29 01:59:59.999999", "2026-03-29 03:00")),
        # 30 minutes before 03:10 is 02:40, which that day has twice.
        ("2026-10-25 03:10", 30, ("2026-10-25 01:59:59.999999", "2026-10-25 03:00")),
    ],
    ids=["gap", "fold"],
)
def test_a_tail_may_begin_where_the_zone_has_no_single_time(
    house: House, high: str, lag: int, rows: tuple[str, str]
) -> None:
    before, within = rows
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, v VARCHAR)",
        f"INSERT INTO orders VALUES ('{before}', 'before'), ('{within}', 'within'), ('{high}', 'high')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin", lag=timedelta(minutes=lag))
    house.sync(stream)
    house.source(f"INSERT INTO orders VALUES ('{within}', 'late')", "DELETE FROM orders WHERE v = 'within'")
    for _ in range(2):
        assert house.sync(stream).rows_read == 2
        assert sorted(row[1] or "" for row in house.rows(stream)) == ["before", "high", "late"]


def test_nanoseconds_get_their_zone_too(house: House) -> None:
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP_NS, v VARCHAR)",
        "INSERT INTO orders VALUES ('2026-07-01 12:00:00.000001000', 'a')",
        "INSERT INTO orders VALUES ('2026-07-01 12:00:00.000002000', 'b')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin")
    house.sync(stream)
    house.source("INSERT INTO orders VALUES ('2026-07-01 12:00:00.000002000', 'tie')")
    house.sync(stream)
    found = [(str(row[0])[:26], row[1]) for row in house.rows(stream)]
    assert found == [
        ("2026-07-01T10:00:00.000001", "a"),
        ("2026-07-01T10:00:00.000002", "b"),
        ("2026-07-01T10:00:00.000002", "tie"),
    ]


def test_a_zone_given_later_needs_a_full_refresh(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT TIMESTAMP '2026-07-01 12:00' AS seen")
    house.sync(orders(cursor="seen"))
    with pytest.raises(SchemaChangeError, match="'seen'"):
        house.sync(orders(cursor="seen", timezone="Europe/Berlin"))
    assert house.rows(orders()) == [("2026-07-01T12:00:00.000000",)]
    house.sync(orders(cursor="seen", timezone="Europe/Berlin"), full_refresh=True)
    assert house.rows(orders()) == [("2026-07-01T10:00:00.000000Z",)]


# Columns


def test_metadata_columns_say_which_run_loaded_a_row_and_when(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT 1 AS id")
    stream = orders(cursor="id", metadata_columns=True)
    house.sync(stream)
    house.source("INSERT INTO orders VALUES (2)")
    house.sync(stream)
    assert house.table(stream).column_names == ["id", "_atlas_run_id", "_atlas_loaded_at"]
    at = "2026-07-01T08:00:00.000000Z"
    assert house.rows(stream) == [("1", "run-2", at), ("2", "run-2", at)]  # 1 was the tail
    house.source("INSERT INTO orders VALUES (3)")
    house.sync(stream)
    assert [row[1] for row in house.rows(stream)] == ["run-2", "run-3", "run-3"]


def test_columns_come_widen_and_go(house: House) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, small SMALLINT, price DECIMAL(5,2), gone VARCHAR)",
        "INSERT INTO orders VALUES (1, 7, 1.50, 'g')",
    )
    stream = orders(cursor="id")
    house.sync(stream)
    house.source(
        "ALTER TABLE orders DROP COLUMN gone",
        "ALTER TABLE orders ADD COLUMN extra DATE",
        "ALTER TABLE orders ALTER small TYPE BIGINT",
        "ALTER TABLE orders ALTER price TYPE DECIMAL(20,4)",
        "INSERT INTO orders VALUES (2, 3000000000, 12345678901.0001, '2026-01-01')",
    )
    house.sync(stream)
    found = [dict(zip(house.table(stream).column_names, row, strict=True)) for row in house.rows(stream)]
    assert found == [
        # 1 is the tail of the first load: it came again as the source has it now.
        {"id": "1", "small": "7", "price": "1.5000", "gone": None, "extra": None},
        {"id": "2", "small": "3000000000", "price": "12345678901.0001", "gone": None, "extra": "2026-01-01"},
    ]  # fmt: skip
    house.source(
        "ALTER TABLE orders ALTER small TYPE SMALLINT USING NULL",
        "ALTER TABLE orders ALTER price TYPE DECIMAL(5,2) USING 2.5",
    )
    house.sync(stream)  # never narrowed
    assert house.state(stream).schema is not None
    assert house.rows(stream)[0][1:3] == ("7", "1.5000")
    assert house.rows(stream)[1][1:3] == (None, "2.5000")


def test_a_type_that_cannot_be_widened_names_both_and_a_full_refresh_makes_the_table_again(
    house: House,
) -> None:
    house.source("CREATE TABLE orders (id INTEGER, v BOOLEAN)", "INSERT INTO orders VALUES (1, true)")
    stream = orders(cursor="id")
    house.sync(stream)
    house.source(
        "ALTER TABLE orders ALTER v TYPE TIMESTAMP USING '2026-01-01 10:00'",
        "INSERT INTO orders VALUES (2, '2026-01-02 10:00')",
    )
    with pytest.raises(SchemaChangeError, match=r"'v'.*boolean.*timestamp") as caught:
        house.sync(stream)
    assert (caught.value.column, caught.value.exit_code) == ("v", 7)
    assert "--full-refresh" in str(caught.value.hint)
    assert house.rows(stream) == [("1", "true")]
    house.sync(stream, full_refresh=True)
    assert house.rows(stream) == [("1", "2026-01-01T10:00:00.000000"), ("2", "2026-01-02T10:00:00.000000")]


@pytest.mark.parametrize("kind", ["BIGINT", "BLOB"])  # widened, and made again
def test_a_full_refresh_by_key_keeps_the_latest_row(kind: str, any_house: House) -> None:
    house = any_house
    house.source("CREATE TABLE log (id INTEGER, n INTEGER, v INTEGER)", "INSERT INTO log VALUES (1, 1, 10)")
    stream = Stream("log", table="log", cursor="n", primary_key=("id",), disposition=Disposition.MERGE)
    house.sync(stream)
    house.source(
        f"ALTER TABLE log ALTER v TYPE {kind} USING '65'::{kind}",
        f"INSERT INTO log SELECT id, 2, '66'::{kind} FROM log",
        f"INSERT INTO log SELECT 2, 3, '67'::{kind}",
    )
    house.sync(stream, full_refresh=True)
    values = ("66", "67") if kind == "BIGINT" else ("3636", "3637")
    assert house.rows(stream) == [("1", "2", values[0]), ("2", "3", values[1])]
    found = house.state(stream).checkpoint
    assert found is not None
    assert found.high.text == "3"
    assert house.sync(stream).rows_loaded == 0


def test_a_full_refresh_brings_deletes_and_keeps_going(house: House) -> None:
    house.source("CREATE TABLE orders (id INTEGER PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2), (3)")
    stream = orders(cursor="id")
    assert house.sync(stream).disposition is Disposition.MERGE
    house.source("DELETE FROM orders WHERE id = 1", "INSERT INTO orders VALUES (4)")
    house.sync(stream)
    assert [row[0] for row in house.rows(stream)] == ["1", "2", "3", "4"]
    house.sync(stream, full_refresh=True)
    assert [row[0] for row in house.rows(stream)] == ["2", "3", "4"]
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.rows_loaded) == (1, 0)


def test_chosen_columns_and_queries(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, i * 2 AS twice, 's' AS secret FROM range(4) AS r(i)")
    house.sync(orders(cursor="id", exclude=("secret",)))
    assert house.table(orders()).column_names == ["id", "twice"]
    query = Stream("odd", query="SELECT id, twice FROM orders WHERE id % 2 = 1;", cursor="id")
    house.sync(query)
    assert house.rows(query) == [("1", "2"), ("3", "6")]
    with pytest.raises(SourceError, match="'idd'") as caught:
        house.sync(Stream("other", table="orders", cursor="idd"))
    assert (caught.value.code, "'id'" in str(caught.value.hint)) == ("column_not_found", True)


# Runs


def run_of(house: House, *streams: Stream) -> Run:
    run = Run("run-1", "shop", RunStatus.RUNNING, "test", STARTED)
    with closing(house.connector()) as source, closing(house.destination()) as target:
        *_, last = run_streams(
            run, source, target, streams, limits=BatchLimits(), retry=RetryPolicy(attempts=1)
        )
    assert isinstance(last, RunFinished)
    return last.run


def test_a_stream_that_fails_does_not_stop_the_others(house: House) -> None:
    house.source("CREATE TABLE one AS SELECT 1 AS id", "CREATE TABLE three AS SELECT 3 AS id")
    run = run_of(house, *(Stream(name, table=name) for name in ("one", "two", "three")))
    assert run.status is RunStatus.PARTIAL
    assert [outcome.status for outcome in run.streams] == [
        RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.COMPLETED,
    ]  # fmt: skip
    assert run.rows_processed == 2
    assert run.error is not None
    assert (run.error.code, run.error.exit_code) == ("table_not_found", 3)
    assert run.completed_at is not None
    assert exit_code([run]) == 5
    assert house.rows(Stream("three")) == [("3",)]


def test_a_run_whose_streams_all_fail_ends_with_the_first_ones_code(house: House) -> None:
    house.source("CREATE TABLE one (id INTEGER)", "INSERT INTO one VALUES (NULL)")
    run = run_of(house, Stream("one", table="one", cursor="id"), Stream("two", table="two"))
    assert (run.status, exit_code([run])) == (RunStatus.FAILED, 7)
    assert run.error is not None
    assert run.error.code == "null_cursor"


def test_a_run_without_streams_is_completed(duck: House) -> None:
    duck.source("SELECT 1")
    run = run_of(duck)
    assert (run.status, run.rows_processed, exit_code([run])) == (RunStatus.COMPLETED, 0, 0)
