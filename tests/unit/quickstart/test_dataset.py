"""The quickstart's source: what is in it, what the next day changes, and what is refused."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from importlib import resources
from pathlib import Path

import duckdb
import pytest

from atlas_etl.errors import SourceError, UsageError
from atlas_etl.quickstart.dataset import (
    CURSOR,
    TABLES,
    ChangeSummary,
    DatasetSummary,
    TableChange,
    apply_changes,
    create_database,
    example_query,
)

ROOT = Path(__file__).resolve().parents[3]
FIRST = {"airlines": 16, "cities": 93, "airports": 97, "weather": 2730, "flights": 33087}
UNTOUCHED = TableChange(inserted=0, updated=0)
NEXT_DAY = {
    "airlines": UNTOUCHED,
    "cities": UNTOUCHED,
    "airports": UNTOUCHED,
    "weather": TableChange(inserted=72, updated=0),
    "flights": TableChange(inserted=930, updated=54),
}

Row = tuple[object, ...]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "flights.db"
    create_database(path)
    return path


@pytest.fixture
def source(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database)) as connection:
        yield connection


def keyed_rows(path: Path, table: str) -> dict[Row, Row]:
    with closing(sqlite3.connect(path)) as connection:
        columns = connection.execute(f"SELECT name, pk FROM pragma_table_info('{table}')").fetchall()
        key = [name for name, position in sorted(columns, key=lambda column: column[1]) if position]
        rows = connection.execute(f"SELECT {', '.join(key)}, * FROM {table}").fetchall()
    return {row[: len(key)]: row[len(key) :] for row in rows}


def scalar(source: sqlite3.Connection, query: str) -> object:
    return source.execute(query).fetchone()[0]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_summary_counts_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "flights.db"
    assert create_database(path) == DatasetSummary(tables=FIRST)
    assert {table: len(keyed_rows(path, table)) for table in TABLES} == FIRST
    assert [entry.name for entry in tmp_path.iterdir()] == ["flights.db"]


@pytest.mark.parametrize("next_day", [False, True])
def test_references_hold_and_the_file_is_sound(database: Path, next_day: bool) -> None:
    if next_day:
        apply_changes(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_list(flights)").fetchall()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_key_and_an_indexed_cursor_without_nulls(
    source: sqlite3.Connection, table: str
) -> None:
    columns = source.execute(f"SELECT name, type, pk FROM pragma_table_info('{table}')").fetchall()
    assert any(position for _, _, position in columns)
    assert (CURSOR, "TIMESTAMP", 0) in columns
    plan = source.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {CURSOR} >= '2013'").fetchone()[3]
    assert f"USING INDEX {table}_{CURSOR}" in plan
    assert scalar(source, f"SELECT count(*) FROM {table} WHERE {CURSOR} IS NULL") == 0


@pytest.mark.parametrize("table", TABLES)
def test_instants_are_utc_text_and_sort_as_time(database: Path, table: str) -> None:
    apply_changes(database)
    with closing(sqlite3.connect(database)) as connection:
        columns = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
        for column in [name for name, declared in columns if declared == "TIMESTAMP"]:
            odd = f"SELECT count(*) FROM {table} WHERE {column} <> datetime({column})"
            assert scalar(connection, odd) == 0
            unreadable = f"{column} IS NOT NULL AND datetime({column}) IS NULL"
            assert scalar(connection, f"SELECT count(*) FROM {table} WHERE {unreadable}") == 0


def test_decimals_are_numbers_that_fit_their_declaration(database: Path) -> None:
    apply_changes(database)
    seen = 0
    with closing(sqlite3.connect(database)) as connection:
        for table in TABLES:
            for name, declared in connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')"):
                if not declared.startswith("DECIMAL"):
                    continue
                seen += 1
                precision, scale = map(int, declared.removeprefix("DECIMAL(").removesuffix(")").split(","))
                values = connection.execute(f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL")
                for (value,) in values:
                    assert isinstance(value, int | float)
                    exact = Decimal(repr(value))
                    assert exact == round(exact, scale)
                    assert abs(exact) < 10 ** (precision - scale)
    assert seen == 13


def test_integers_are_integers(source: sqlite3.Connection) -> None:
    for table in TABLES:
        for name, declared in source.execute(
            f"SELECT name, type FROM pragma_table_info('{table}')"
        ).fetchall():
            if declared == "INTEGER":
                kinds = source.execute(f"SELECT DISTINCT typeof({name}) FROM {table}").fetchall()
                assert {kind for (kind,) in kinds} <= {"integer", "null"}


@pytest.mark.parametrize("table", TABLES)
def test_rows_share_cursor_values(source: sqlite3.Connection, table: str) -> None:
    ties = f"SELECT count(*) FROM (SELECT 1 FROM {table} GROUP BY {CURSOR} HAVING count(*) > 1)"
    assert scalar(source, ties) != 0


def test_the_next_day_ends_in_ties_too(database: Path) -> None:
    apply_changes(database)
    with closing(sqlite3.connect(database)) as connection:
        at_high = f"SELECT count(*) FROM weather WHERE {CURSOR} = (SELECT max({CURSOR}) FROM weather)"
        assert scalar(connection, at_high) == 3


def test_text_beyond_ascii_and_nulls_are_there(source: sqlite3.Connection) -> None:
    assert source.execute(
        "SELECT name_ja, name_ko, name_el FROM cities WHERE name = 'Atlanta'"
    ).fetchone() == (
        "アトランタ",
        "아틀란타",
        "Ατλάντα",
    )
    nulls = {
        "cities": ["name_ja", "name_ko", "name_el"],
        "weather": ["wind_direction", "wind_gust_mph", "pressure_hpa"],
        "flights": ["tail_number", "departed_at", "arrived_at", "air_time_minutes"],
    }
    for table, columns in nulls.items():
        for column in columns:
            assert scalar(source, f"SELECT count(*) FROM {table} WHERE {column} IS NULL") != 0
            assert scalar(source, f"SELECT count(*) FROM {table} WHERE {column} = ''") == 0


def test_no_flight_is_known_before_it_happens(source: sqlite3.Connection) -> None:
    midnight = "2013-02-08 04:59:59"
    for column in ("departed_at", "arrived_at", "scheduled_departure", CURSOR):
        assert str(scalar(source, f"SELECT max({column}) FROM flights")) <= midnight
    assert scalar(source, "SELECT count(*) FROM flights WHERE arrived_at < departed_at") == 0
    inexact = "distance_km <> round(distance_miles * 1.609344, 6)"
    assert scalar(source, f"SELECT count(*) FROM flights WHERE {inexact}") == 0


def test_the_next_day_touches_only_what_it_says(database: Path) -> None:
    before = {table: keyed_rows(database, table) for table in TABLES}
    summary = apply_changes(database)
    after = {table: keyed_rows(database, table) for table in TABLES}
    assert summary == ChangeSummary(tables=NEXT_DAY)
    assert (summary.inserted, summary.updated) == (1002, 54)
    for table in TABLES:
        assert before[table].keys() <= after[table].keys()
        inserted = after[table].keys() - before[table].keys()
        updated = {key for key, row in before[table].items() if after[table][key] != row}
        assert TableChange(len(inserted), len(updated)) == summary.tables[table]
        newest = max(str(row[-1]) for row in before[table].values())
        assert all(str(after[table][key][-1]) > newest for key in inserted | updated)


def test_an_update_says_only_what_was_not_known(database: Path, source: sqlite3.Connection) -> None:
    names = [name for (name,) in source.execute("SELECT name FROM pragma_table_info('flights')")]
    before = keyed_rows(database, "flights")
    apply_changes(database)
    after = keyed_rows(database, "flights")
    for key, row in before.items():
        for name, old, new in zip(names, row, after[key], strict=True):
            assert old == new or name == CURSOR or old is None


def test_the_next_day_comes_once(database: Path) -> None:
    apply_changes(database)
    content = digest(database)
    with pytest.raises(UsageError) as caught:
        apply_changes(database)
    assert caught.value.code == "quickstart_already_changed"
    assert digest(database) == content


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "flights.db"
    path.write_text("mine")
    with pytest.raises(UsageError) as caught:
        create_database(path)
    assert caught.value.code == "quickstart_file_exists"
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        create_database(tmp_path / "nowhere" / "flights.db")
    assert caught.value.code == "quickstart_unwritable"
    assert list(tmp_path.iterdir()) == []


def test_changes_need_the_quickstarts_own_database(tmp_path: Path) -> None:
    path = tmp_path / "flights.db"
    with pytest.raises(UsageError) as caught:
        apply_changes(path)
    assert caught.value.code == "quickstart_missing"
    assert not path.exists()

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE flights (id INTEGER PRIMARY KEY)")
    with pytest.raises(UsageError) as caught:
        apply_changes(path)
    assert caught.value.code == "quickstart_not_ours"

    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(SourceError) as unreadable:
        apply_changes(path)
    assert unreadable.value.code == "quickstart_unwritable"


def test_a_change_that_does_not_fit_changes_nothing(database: Path) -> None:
    """A new flight that is there already is met after the new weather was inserted."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO flights SELECT 117380, airline_code, flight_number, tail_number, origin_code,"
            " destination_code, scheduled_departure, departed_at, scheduled_arrival, arrived_at,"
            " air_time_minutes, distance_miles, distance_km, updated_at FROM flights WHERE id = 1"
        )
    before = {table: keyed_rows(database, table) for table in TABLES}
    with pytest.raises(SourceError):
        apply_changes(database)
    assert {table: keyed_rows(database, table) for table in TABLES} == before


def test_the_example_query_answers_after_the_next_day(database: Path) -> None:
    """The SQL is DuckDB's, over types as a copy has them; the schema's name needs quoting."""
    apply_changes(database)
    with duckdb.connect() as warehouse:
        warehouse.execute('CREATE SCHEMA "new-york"')
        for table, condition in (
            ("cities", "true"),
            ("airports", "true"),
            ("flights", "scheduled_departure >= '2013-02-07'"),
        ):
            copy_table(database, warehouse, table, condition)
        answer = warehouse.sql(example_query("new-york"))
        assert answer.columns == ["city", "abroad", "flights", "grounded", "km_not_flown"]
        assert answer.types[-1] == "DECIMAL(38,6)"
        rows = answer.fetchall()
    assert len(rows) == 8
    assert rows[0] == ("Boston", "ボストン", 49, 34, Decimal("10460.736000"))
    assert rows[2] == ("Washington", "Ουάσιγκτον", 50, 27, Decimal("9374.428800"))


def copy_table(database: Path, warehouse: duckdb.DuckDBPyConnection, table: str, condition: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        columns = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
        declared = ", ".join(f"{name} {kind}" for name, kind in columns)
        warehouse.execute(f'CREATE TABLE "new-york".{table} ({declared})')
        places = ", ".join("?" for _ in columns)
        rows = connection.execute(f"SELECT * FROM {table} WHERE {condition}").fetchall()
        warehouse.executemany(f'INSERT INTO "new-york".{table} VALUES ({places})', rows)


def test_the_archive_holds_nothing_of_the_day_it_was_made() -> None:
    shipped = resources.files("atlas_etl.quickstart").joinpath("nyc_flights.zip")
    with shipped.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert b"\r" not in archive.read(info)


def test_the_build_is_repeatable(tmp_path: Path) -> None:
    sources = os.environ.get("ATLAS_QUICKSTART_SOURCES")
    if sources is None:
        pytest.skip("ATLAS_QUICKSTART_SOURCES names no folder with the three source packages")
    script = ROOT / "scripts" / "build-quickstart-data"
    made = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for output in made:
        command = [sys.executable, str(script), "--sources", sources, "--output", str(output)]
        subprocess.run(command, check=True, capture_output=True)
    assert digest(made[0]) == digest(made[1])
    shipped = resources.files("atlas_etl.quickstart").joinpath("nyc_flights.zip")
    with shipped.open("rb") as stream, zipfile.ZipFile(stream) as old, zipfile.ZipFile(made[0]) as new:
        assert old.namelist() == new.namelist()
        assert all(old.read(name) == new.read(name) for name in old.namelist())
