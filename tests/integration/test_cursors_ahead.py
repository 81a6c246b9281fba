"""A cursor far in the future, or endless, hides no row that follows: sync warns, and later rows arrive."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.pipe import Pipe
from tests.integration.table_systems import DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE, SqliteFile, system_of
from tests.project import Project

from atlas_etl.errors import HazardError
from atlas_etl.model import Disposition, Hazard, HazardPolicy, Stream, TableName

ENDLESS = "no row could come"


@dataclass(frozen=True)
class Case:
    system: str
    sql: str
    ahead: str  # a literal
    far: str | None  # what the warning says of the distance; None: there is no warning
    now: str  # a literal of a row that follows
    timezone: str | None = None

    def __str__(self) -> str:
        return f"{self.system} {self.sql} {self.ahead}"


CASES = (
    Case(POSTGRESQL, "timestamptz", "'2999-01-01Z'", "years", "now()"),
    Case(POSTGRESQL, "timestamp", "'9999-12-31 23:59:59'", "years", "now() AT TIME ZONE 'Asia/Tokyo'"),
    Case(POSTGRESQL, "timestamp(0)", "now() + interval '3.5 h'", "3 hours", "now()", "UTC"),
    Case(POSTGRESQL, "date", "'2999-01-01'", "years", "now()"),
    Case(POSTGRESQL, "double precision", "'Infinity'", ENDLESS, "1.5"),
    Case(MYSQL, "DATETIME(6)", "'9999-12-31 23:59:59.999999'", "years", "NOW(6)"),
    Case(MYSQL, "TIMESTAMP NULL", "'2038-01-19 03:14:07'", "years", "NOW()"),
    Case(SQLITE, "TIMESTAMP", "'9999-12-31 23:59:59'", "years", "CURRENT_TIMESTAMP"),
    Case(SQLITE, "TIMESTAMP", "datetime('now', '+3.5 days')", "3 days", "datetime('now')"),
    Case(SQLITE, "TIMESTAMP", "datetime('now', '+5 hours')", "hours", "datetime('now', '-5 hours')",
         "America/Lima"),
    Case(SQLITE, "TIMESTAMPTZ", "'2999-01-01T00:00:00Z'", "years", "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"),
    Case(SQLITE, "DATE", "date('now', '+4 days')", "days", "date('now')"),
    Case(SQLITE, "REAL", "9e999", ENDLESS, "1.5"),
    Case(DUCKDB, "TIMESTAMPTZ", "'2999-01-01 00:00Z'", "years", "now()"),
    Case(DUCKDB, "TIMESTAMP_NS", "'2200-01-01'", "years", "now()::TIMESTAMP"),
    Case(DUCKDB, "DATE", "CAST(now() + INTERVAL 13 HOUR AS DATE)", None, "current_date"),  # east of here
    Case(DUCKDB, "DOUBLE", "'nan'", ENDLESS, "1.5"),
    Case(PARQUET, "TIMESTAMP", "'9999-12-31 23:59:59.999999'", "years", "now()::TIMESTAMP"),
    Case(PARQUET, "DATE", "'9999-12-31'", "years", "current_date"),
    Case(PARQUET, "DOUBLE", "'nan'", ENDLESS, "1.5"),
)  # fmt: skip
OTHERS = {POSTGRESQL: SQLITE, MYSQL: POSTGRESQL, SQLITE: PARQUET, DUCKDB: SQLITE, PARQUET: "jsonl"}


@pytest.fixture(params=[Disposition.APPEND, Disposition.MERGE])
def disposition(request: pytest.FixtureRequest) -> Disposition:
    return request.param


def check(pipes: list[Pipe], expected: set[int]) -> set[str]:
    """Sync, compare, and give back the warnings."""
    warnings: set[str] = set()
    for pipe in pipes:
        warnings |= set(pipe.synced().warnings)
        assert Counter(int(str(k)) for (k,) in pipe.rows("k")) == Counter(expected)
    return warnings


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_that_follow_it_arrive(
    case: Case, disposition: Disposition, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = system_of(case.system, tmp_path / "from", request)
    source.run(
        [f"CREATE TABLE t (k INT PRIMARY KEY, c {case.sql})", f"INSERT INTO t VALUES (1, {case.ahead})"]
    )
    with closing(source.connector()) as connector:
        pipes = []
        for protocol in (DUCKDB, OTHERS[case.system]):
            into = system_of(protocol, tmp_path / "into", request)
            stream = Stream(
                "copy", table="t", cursor="c", disposition=disposition, primary_key=("k",),
                into=TableName("copied", into.schema), timezone=case.timezone,
            )  # fmt: skip
            pipes.append(Pipe(connector, into.destination(), stream, "c"))
        with closing(pipes[0].destination), closing(pipes[1].destination):
            assert_warned(case, check(pipes, {1}))
            for k in (2, 3):
                source.run([f"INSERT INTO t VALUES ({k}, {case.now})"])
                assert_warned(case, check(pipes, set(range(1, k + 1))))
            source.run([f"UPDATE t SET c = {case.now} WHERE k = 1", f"INSERT INTO t VALUES (4, {case.now})"])
            assert check(pipes, {1, 2, 3, 4}) == set()
            source.run([f"INSERT INTO t VALUES (5, {case.now})"])
            assert check(pipes, {1, 2, 3, 4, 5}) == set()


@pytest.mark.parametrize(
    ("system", "sql", "endless"),
    [
        (POSTGRESQL, "timestamptz", "'infinity'"),
        (POSTGRESQL, "date", "'20000-01-01'"),
        (POSTGRESQL, "numeric(9,2)", "'NaN'"),
        (DUCKDB, "TIMESTAMP", "'infinity'"),
        (PARQUET, "TIMESTAMP", "TIMESTAMP 'infinity'"),
    ],
)
def test_no_policy_makes_an_endless_cursor_text_that_hides_what_follows(
    system: str, sql: str, endless: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = system_of(system, tmp_path / "from", request)
    early = "0.5" if "numeric" in sql else "'2026-01-01'"
    source.run([f"CREATE TABLE t (k INT, c {sql}, d {sql})", f"INSERT INTO t VALUES (1, {early}, {endless})"])
    stream = Stream("t", table="t", cursor="c", hazards=dict.fromkeys(Hazard, HazardPolicy.TEXT))
    warehouse = system_of(SQLITE, tmp_path / "into", request)
    with closing(source.connector()) as connector, closing(warehouse.destination()) as destination:
        pipe = Pipe(connector, destination, stream, "c")
        check([pipe], {1})
        source.run([f"INSERT INTO t VALUES (2, {endless}, {early})"])
        with pytest.raises(HazardError, match="'c' holds"):
            pipe.sync()
        assert pipe.rows("k") == [("1",)]


def assert_warned(case: Case, warnings: set[str]) -> None:
    if case.far is None:
        assert not warnings
        return
    (warning,) = warnings
    assert "'c'" in warning
    assert case.far in warning


def test_sync_tells_a_person_and_a_script(project: Project) -> None:
    source = SqliteFile(project.folder, "shop")
    source.run(["CREATE TABLE t (k INT, c TIMESTAMP)", "INSERT INTO t VALUES (1, '2999-01-01 00:00:00')"])
    stream = {"table": "t", "cursor": "c"}
    definition = {"protocol": "sqlite", "connection": source.settings, "streams": [stream]}
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    done = project.atlas("connector", "sync", "shop", "--json")
    (told,) = done.json()["runs"][0]["streams"][0]["warnings"]
    assert told.startswith("the cursor column 'c' holds 2999-01-01T00:00:00.000000, 97")
    assert f"shop t: warning: {told}" in done.stderr
