"""PostgreSQL to PostgreSQL: rows pass undecoded, and nothing but their speed tells that they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.sql._postgresql import load as postgresql_load
from atlas_etl.errors import DestinationError, HazardError, NullKeyError
from atlas_etl.model import Disposition, Hazard, HazardPolicy, Stream, StreamRun
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database

KINDS = {
    "boolean": "'t'", "smallint": "'-7'", "integer": "'2147483647'", "bigint": "'-9'",
    "real": "'NaN'", "double precision": "'-Infinity'", "numeric(12,2)": "'-0.10'", "numeric(60,5)": "'1e40'",
    "numeric": "'-1e-70'", "numeric(90,2)": "'NaN'",
    "text": "'ü\U0001f600'", "varchar(9)": "'ab'", "char(5)": "'ab'", "bytea": "'\\x00ff'",
    "date": "'2024-02-29'", "time": "'23:59:59.999'", "timestamp": "'0001-01-01'",
    "timestamptz": "'2024-02-29 12:30:45.123456+02'", "interval": "'1 mon 3 days'",
    "uuid": "'123e4567-e89b-12d3-a456-426614174000'",
    "json": "'{\"b\":  1.50}'", "jsonb": "'{\"b\": [1.50]}'",
    "integer[]": "'{1,NULL,3}'", "text[]": "'{}'", "jsonb[]": "'{\"{}\"}'", "mood": "'so so'",
}  # fmt: skip
DECODED = ("jsonb[]", "mood", "numeric(90,2)")  # read as text, or kept in another type


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute("CREATE TYPE mood AS ENUM ('sad', 'so so')")
    yield found
    found.close()


@pytest.fixture
def passed() -> Iterator[Callable[[], int]]:
    """How many batches were written as they came."""
    with patch.object(values, "wire_bytes", side_effect=values.wire_bytes) as spy:
        assert postgresql_load.values is values
        yield lambda: spy.call_count


def sync(database: Database, name: str = "t", **more: object) -> StreamRun:
    stream = Stream(name, table=f"public.{name}", **{"disposition": Disposition.APPEND, **more})
    job = Job("run", "shop", stream, datetime.now(UTC))
    *_, last = transfer(database.connector(), database.destination(), job)
    assert isinstance(last, StreamFinished)
    return last.outcome


def table(database: Database, name: str) -> list[tuple[object, ...]]:
    return database.rows(f"SELECT t::text FROM {name} t ORDER BY 1")


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_arrives_as_it_was(database: Database, passed: Callable[[], int], kind: str) -> None:
    database.execute(
        f"CREATE TABLE t (n int, v {kind})",
        f"INSERT INTO t VALUES (1, {KINDS[kind]}), (2, NULL), (3, {KINDS[kind]})",
    )
    assert sync(database).rows_loaded == 3
    assert (passed() > 0) == (kind not in DECODED)
    assert table(database, "shop.t") == table(database, "public.t")


def test_the_next_loads_pass_too_and_the_tail_is_replaced(
    database: Database, passed: Callable[[], int]
) -> None:
    database.execute(
        "CREATE TABLE t (n bigint, x text)", "INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 9) i"
    )
    assert sync(database, cursor="n").checkpoint is not None
    database.execute("INSERT INTO t SELECT i, NULL FROM generate_series(9, 200000) i")
    before = passed()
    outcome = sync(database, cursor="n")
    assert passed() > before
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.high.text == "200000"
    assert table(database, "shop.t") == table(database, "public.t")


@pytest.mark.parametrize(
    ("kind", "odd", "hazard"),
    [
        ("timestamptz", "'infinity'", Hazard.INFINITY), ("date", "'-infinity'", Hazard.INFINITY),
        ("timestamp", "'294276-12-31'", Hazard.OUT_OF_RANGE),
        ("numeric(12,2)", "'NaN'", Hazard.DECIMAL_SPECIAL),
        ("time", "'24:00'", Hazard.TIME_RANGE), ("integer[]", "'{{1}}'", Hazard.ARRAY_SHAPE),
    ],
)  # fmt: skip
def test_what_has_no_exact_form_is_judged_as_if_all_were_decoded(
    database: Database, passed: Callable[[], int], kind: str, odd: str, hazard: Hazard
) -> None:
    """Also where most of the rows passed before it."""
    database.execute(
        f"CREATE TABLE t (n int, v {kind}, filler text)",
        f"INSERT INTO t SELECT i, {KINDS[kind]}, repeat('x', 500) FROM generate_series(1, 5000) i",
        f"INSERT INTO t VALUES (0, {odd}, '')",
    )
    with pytest.raises(HazardError):
        sync(database)
    outcome = sync(database, hazards={hazard: HazardPolicy.NULL})
    assert outcome.nulled == {f"v: {hazard}": 1}
    assert passed() > 1
    database.execute("UPDATE t SET v = NULL WHERE n = 0")
    assert table(database, "shop.t") == table(database, "public.t")


@pytest.mark.parametrize(("key", "passes"), [("int", True), ("date", True), ("text", False)])
def test_a_merge_passes_where_no_two_rows_can_share_a_key(
    database: Database, passed: Callable[[], int], key: str, passes: bool
) -> None:
    """Texts that differ may be one key to the destination's collation."""
    values_of = "('2024-01-01'::date + i)" if key == "date" else "i"
    database.execute(
        f"CREATE TABLE t (k {key} PRIMARY KEY, c bigint, x numeric(12,2), filler text)",
        f"INSERT INTO t SELECT {values_of}, i, 1.25, repeat('x', 900) FROM generate_series(1, 5000) i",
    )
    merge = {
        "cursor": "c",
        "disposition": Disposition.MERGE,
        "hazards": {Hazard.DECIMAL_SPECIAL: HazardPolicy.NULL},
    }
    assert sync(database, **merge).rows_loaded == 5000
    before = passed()
    database.execute(
        "UPDATE t SET c = c + 5000, x = CASE c WHEN 2000 THEN 'NaN' ELSE 2.5 END WHERE c % 2 = 0"
    )
    assert sync(database, **merge).rows_loaded == 2500
    assert (passed() > before) == passes
    database.execute("UPDATE t SET x = NULL WHERE x = 'NaN'")
    assert table(database, "shop.t") == table(database, "public.t")


def test_a_merge_refuses_a_key_that_its_policy_nulls(database: Database) -> None:
    merge = {"cursor": "c", "disposition": Disposition.MERGE, "hazards": {Hazard.INFINITY: HazardPolicy.NULL}}
    database.execute("CREATE TABLE t (k date PRIMARY KEY, c int)", "INSERT INTO t VALUES ('2024-01-01', 1)")
    sync(database, **merge)
    database.execute("INSERT INTO t VALUES ('infinity', 2)")
    with pytest.raises(NullKeyError):
        sync(database, **merge)


@pytest.mark.parametrize(
    ("source", "there", "more"),
    [
        ("numeric(12,2)", "numeric(30,6)", {}), ("integer", "bigint", {}), ("json", "text", {}),
        ("timestamp", None, {"timezone": "Europe/Berlin"}), ("text", None, {"metadata_columns": True}),
        ("text", None, {"disposition": Disposition.MERGE, "primary_key": ("n",)}),
    ],
)  # fmt: skip
def test_what_changes_on_the_way_is_decoded(
    database: Database, passed: Callable[[], int], source: str, there: str | None, more: dict[str, object]
) -> None:
    database.execute(f"CREATE TABLE t (n int, v {source})", f"INSERT INTO t VALUES (1, {KINDS[source]})")
    if there is not None:
        database.execute("CREATE SCHEMA shop", f"CREATE TABLE shop.t (n int, v {there})")
    assert sync(database, **more).rows_loaded == 1
    assert passed() == 0


def test_a_table_whose_columns_were_changed_meanwhile_is_refused(
    database: Database, passed: Callable[[], int]
) -> None:
    database.execute(
        "CREATE TABLE t (v numeric(12,2))", "INSERT INTO t VALUES (1.25)",
        "CREATE SCHEMA shop", "CREATE TABLE shop.t (v numeric(12,2))",
    )  # fmt: skip
    takes = type(database.destination()).takes

    def then_changed(*given: object) -> bool:
        found = takes(*given)  # type: ignore[arg-type]
        database.execute("ALTER TABLE shop.t ALTER v TYPE numeric(10,1)")
        return found

    with (
        patch.object(type(database.destination()), "takes", then_changed),
        pytest.raises(DestinationError) as caught,
    ):
        sync(database)
    assert (caught.value.code, caught.value.retryable) == ("table_changed", True)
    assert passed() == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8), seed=st.integers(0, 10**6))
def test_random_tables_arrive_as_they_were(database: Database, kinds: list[str], seed: int) -> None:
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(kinds))
    cells = ", ".join(
        f"CASE WHEN (i * {place + 3} + {seed}) % 4 > 0 THEN {KINDS[kind]}::{kind} END"
        for place, kind in enumerate(kinds)
    )
    database.execute(
        "DROP TABLE IF EXISTS t", "DROP SCHEMA IF EXISTS shop CASCADE", f"CREATE TABLE t (n int, {columns})",
        f"INSERT INTO t SELECT i, {cells} FROM generate_series(1, {seed % 3000}) i",
    )  # fmt: skip
    sync(database, cursor="n")
    assert table(database, "shop.t") == table(database, "public.t")
