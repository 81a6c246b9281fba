"""The limit of a path: what the best tool of one of its ends needs for its part alone, or for a plain copy.

`words` says what the command does, and so what it leaves out. No limit keeps a checkpoint, a ledger or a
history, checks a value, or knows how to go on where it ended.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.data import POSTGRES_COLUMNS, TABLE
from benchmarks.ends import End, Setting
from benchmarks.measure import Command


@dataclass(frozen=True, slots=True)
class Limit:
    """A command for one load, in words and as a function; `program` must be here."""

    program: str
    words: str
    command: Callable[[Setting], Command]


def _postgres_out(setting: Setting) -> Command:
    return _shell(f"{_copy_out(setting.source)} > /dev/null", setting, setting.source)


def _postgres_to_postgres(setting: Setting) -> Command:
    pipe = f"{_copy_out(setting.source)} | {_copy_in(setting.destination)}"
    return _shell(pipe, setting, setting.destination)


def _postgres_in(setting: Setting) -> Command:
    rows = shlex.quote(str(setting.place.copy_file(setting.rows)))
    return _shell(f"cat {rows} | {_copy_in(setting.destination)}", setting, setting.destination)


def _mysql_out(setting: Setting) -> Command:
    where = setting.source.connection
    reach = f"--protocol=tcp -h {where['host']} -P {where['port']} -u {where['username']}"
    query = shlex.quote(f"SELECT * FROM {TABLE}")
    line = f"mariadb --no-defaults {reach} --quick -N -e {query} {where['database']} > /dev/null"
    return Command(("/bin/sh", "-c", line), setting.folder, {"MYSQL_PWD": str(where["password"])})


def _sqlite_out(setting: Setting) -> Command:
    return Command(
        ("sqlite3", "-readonly", str(setting.source.path), ".mode off", f"SELECT * FROM {TABLE}"),
        setting.folder,
    )


def _duckdb_to_parquet(setting: Setting) -> Command:
    file = setting.folder / "limit.parquet"
    sql = f"COPY {TABLE} TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
    return _duckdb(setting, str(setting.source.path), sql)


def _file_to_duckdb(setting: Setting) -> Command:
    reader = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[setting.source.protocol]
    sql = f"CREATE TABLE {TABLE} AS SELECT * FROM {reader}('{setting.source.path}')"
    return _duckdb(setting, str(setting.destination.path), sql)


POSTGRES_OUT = Limit("psql", "psql, binary COPY to /dev/null", _postgres_out)
POSTGRES_TO_POSTGRES = Limit("psql", "psql | psql, binary COPY", _postgres_to_postgres)
POSTGRES_IN = Limit("psql", "cat | psql, binary COPY", _postgres_in)
MYSQL_OUT = Limit("mariadb", "mariadb --quick to /dev/null", _mysql_out)
SQLITE_OUT = Limit("sqlite3", "sqlite3 reading, nothing printed", _sqlite_out)
DUCKDB_TO_PARQUET = Limit(sys.executable, "DuckDB's own COPY TO", _duckdb_to_parquet)
FILE_TO_DUCKDB = Limit(sys.executable, "DuckDB's own CREATE TABLE AS", _file_to_duckdb)


def _copy_out(source: End) -> str:
    return f"{_psql(source)} -c {shlex.quote(f'COPY {TABLE} TO STDOUT (FORMAT binary)')}"


def _copy_in(destination: End) -> str:
    create = shlex.quote(f"CREATE TABLE {TABLE} ({POSTGRES_COLUMNS})")
    copy = shlex.quote(f"COPY {TABLE} FROM STDIN (FORMAT binary)")
    return f"{_psql(destination)} -c {create} -c {copy}"


def _psql(end: End) -> str:
    where = end.connection
    return f"psql -XAtq -h {where['host']} -p {where['port']} -U {where['username']} -d {where['database']}"


def _shell(line: str, setting: Setting, end: End) -> Command:
    """A pipeline; both ends are databases of one server, so one password serves them."""
    return Command(("/bin/sh", "-c", line), setting.folder, {"PGPASSWORD": str(end.connection["password"])})


def _duckdb(setting: Setting, database: str, sql: str) -> Command:
    program = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    return Command((sys.executable, "-c", program, database, sql), setting.folder)
