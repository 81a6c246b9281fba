"""What paths are held against: the best tool's part of the work, or the same copy by hand.

`words` says what the command does, and so what it leaves out. None of them keeps a checkpoint, a ledger or a
history, checks a value, or knows how to go on where it ended.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.ends import ChangingPostgresSource, End, Setting
from benchmarks.measure import Command
from benchmarks.programs import program


def _nothing(setting: Setting) -> Sequence[Command]:  # noqa: ARG001
    return ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A command for one load, in words and as a function; `program` must be here.

    `before` are commands that run ahead of it, unmeasured. `copies`: the rows are at the destination then.
    """

    program: str
    words: str
    command: Callable[[Setting], Command]
    before: Callable[[Setting], Sequence[Command]] = _nothing
    copies: bool = False


def _postgres_out(setting: Setting) -> Command:
    return _shell(f"{_copy_out(setting)} > /dev/null", setting, setting.source)


def _postgres_to_postgres(setting: Setting) -> Command:
    return _shell(f"{_copy_out(setting)} | {_copy_in(setting)}", setting, setting.destination)


def _postgres_by_hand(setting: Setting) -> Command:
    return program("copy_postgres", setting, columns=setting.table.postgres.columns)


def _postgres_in(setting: Setting) -> Command:
    rows = shlex.quote(str(setting.place.copy_file(setting.table, setting.rows)))
    return _shell(f"cat {rows} | {_copy_in(setting)}", setting, setting.destination)


_GREATEST = "greatest.txt"


def _before_changes(setting: Setting) -> Sequence[Command]:
    """Every row is there; the greatest cursor is in a file; then a part of the rows changes."""
    table = setting.table
    greatest = _statement(setting.source, f"SELECT max({table.cursor}) FROM {table.name}")
    return (
        _postgres_to_postgres(setting),
        _shell(f"{greatest} > {_GREATEST}", setting, setting.source),
        ChangingPostgresSource().change(setting.source, setting.folder),
    )


def _changes(setting: Setting) -> Command:
    table = setting.table
    names = [column.split()[0] for column in table.postgres.columns.split(", ")]
    update = ", ".join(f"{name} = excluded.{name}" for name in names if name not in table.key)
    bound = f"SELECT * FROM {table.name} WHERE {table.cursor} >= '$(cat {_GREATEST})'"
    out = f'{_psql(setting.source)} -c "COPY ({bound}) TO STDOUT (FORMAT binary)"'
    into = _statement(
        setting.destination,
        "BEGIN",
        f"CREATE TEMP TABLE changed (LIKE {table.name}) ON COMMIT DROP",
        "COPY changed FROM STDIN (FORMAT binary)",
        f"INSERT INTO {table.name} SELECT * FROM changed "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {update}",
        "COMMIT",
    )
    return _shell(f"{out} | {into}", setting, setting.destination)


def _mysql_out(setting: Setting) -> Command:
    return program("drain_mysql", setting)


def _mysql_in(setting: Setting) -> Command:
    table, where = setting.table, setting.destination.connection
    rows = setting.place.load_file(table, setting.rows)
    statements = (
        f"CREATE TABLE {table.name} ({table.mysql.columns}) CHARACTER SET utf8mb4; "
        f"LOAD DATA LOCAL INFILE '{rows}' INTO TABLE {table.name} CHARACTER SET utf8mb4"
    )
    reach = ("-h", where["host"], "-P", where["port"], "-u", where["username"], where["database"])
    client = ("mariadb", "--no-defaults", "--local-infile=1", *map(str, reach), "-e", statements)
    return Command(client, setting.folder, {"MYSQL_PWD": str(where["password"])})


def _sqlite_out(setting: Setting) -> Command:
    steps = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    select = f"SELECT * FROM {setting.table.name}"
    return Command((sys.executable, "-c", steps, str(setting.source.path), select), setting.folder)


def _duckdb_to_parquet(setting: Setting) -> Command:
    file = setting.destination.path / "limit.parquet"
    sql = f"COPY {setting.table.name} TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
    return _duckdb(setting, str(setting.source.path), sql)


def _file_to_duckdb(setting: Setting) -> Command:
    reader = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[setting.source.protocol]
    sql = f"CREATE TABLE {setting.table.name} AS SELECT * FROM {reader}('{setting.source.path}')"
    return _duckdb(setting, str(setting.destination.path), sql)


def _http_out(setting: Setting) -> Command:
    return program("fetch_pages", setting)


POSTGRES_OUT = Limit("psql", "psql, binary COPY to /dev/null", _postgres_out)
POSTGRES_TO_POSTGRES = Limit("psql", "psql | psql, binary COPY", _postgres_to_postgres, copies=True)
POSTGRES_BY_HAND = Limit(
    sys.executable, "a page of psycopg: the blocks of one binary COPY written into another",
    _postgres_by_hand, copies=True,
)  # fmt: skip
POSTGRES_IN = Limit("psql", "cat of a ready file | psql, binary COPY", _postgres_in, copies=True)
POSTGRES_CHANGES = Limit(
    "psql", "psql | psql, the changed rows: binary COPY into a temporary table, one INSERT ... ON CONFLICT",
    _changes, _before_changes, copies=True,
)  # fmt: skip
MYSQL_OUT = Limit(
    sys.executable, "the binary-protocol result read from PyMySQL's socket, bytes not looked at", _mysql_out
)
MYSQL_IN = Limit("mariadb", "mariadb, LOAD DATA LOCAL of a ready file", _mysql_in, copies=True)
SQLITE_OUT = Limit(sys.executable, "SQLite stepping through the rows in C, values not looked at", _sqlite_out)
HTTP_OUT = Limit(sys.executable, "requests fetching page after page, bytes not looked at", _http_out)
DUCKDB_TO_PARQUET = Limit(sys.executable, "DuckDB's own COPY TO", _duckdb_to_parquet, copies=True)
FILE_TO_DUCKDB = Limit(sys.executable, "DuckDB's own CREATE TABLE AS", _file_to_duckdb, copies=True)


def _copy_out(setting: Setting) -> str:
    return _statement(setting.source, f"COPY {setting.table.name} TO STDOUT (FORMAT binary)")


def _copy_in(setting: Setting) -> str:
    table = setting.table
    return _statement(
        setting.destination,
        f"CREATE TABLE {table.name} ({table.postgres.columns})",
        f"COPY {table.name} FROM STDIN (FORMAT binary)",
    )


def _statement(end: End, *statements: str) -> str:
    return " ".join([_psql(end), *(f"-c {shlex.quote(statement)}" for statement in statements)])


def _psql(end: End) -> str:
    where = end.connection
    reach = f"-h {where['host']} -p {where['port']} -U {where['username']} -d {where['database']}"
    return f"psql -XAtq -v ON_ERROR_STOP=1 {reach}"


def _shell(line: str, setting: Setting, end: End) -> Command:
    """A pipeline; both ends are databases of one server, so one password serves them."""
    return Command(("/bin/sh", "-c", line), setting.folder, {"PGPASSWORD": str(end.connection["password"])})


def _duckdb(setting: Setting, database: str, sql: str) -> Command:
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    return Command((sys.executable, "-c", code, database, sql), setting.folder)
