"""Tables at a destination changed behind Atlas's back: by the system's own client, or in the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import adbc_driver_sqlite.dbapi
import duckdb
import psycopg
import pymysql

from atlas_etl.model import TableName

MANIFEST = "_atlas_manifest.json"


def tamper(
    protocol: str, settings: Mapping[str, object], table: TableName, statements: Sequence[str]
) -> None:
    """Run statements on a stored table, which they call `{t}`, and commit them."""
    _WAYS[protocol](settings, table, statements)


def _duckdb(settings: Mapping[str, object], table: TableName, statements: Sequence[str]) -> None:
    with duckdb.connect(str(settings["path"])) as connection:
        for statement in statements:
            connection.execute(statement.format(t=_quoted(table)))


def _sqlite(settings: Mapping[str, object], table: TableName, statements: Sequence[str]) -> None:
    # Not Python's own copy of SQLite: see connectors/sql/_sqlite/driver.py.
    path = str(settings["database_path"])
    with (
        adbc_driver_sqlite.dbapi.connect(path, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement.format(t=_quoted(table)))


def _postgresql(settings: Mapping[str, object], table: TableName, statements: Sequence[str]) -> None:
    with psycopg.connect(
        host=str(settings["host"]), port=settings["port"], dbname=str(settings["database"]),
        user=str(settings["username"]), password=str(settings["password"]),
    ) as connection:  # fmt: skip
        for statement in statements:
            connection.execute(statement.format(t=_quoted(table)).encode())


def _mysql(settings: Mapping[str, object], table: TableName, statements: Sequence[str]) -> None:
    connection = pymysql.connect(
        host=str(settings["host"]), port=int(str(settings["port"])), user=str(settings["username"]),
        password=str(settings["password"]), charset="utf8mb4",
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'")
        for statement in statements:
            cursor.execute(statement.format(t=_quoted(table)))
        connection.commit()


def _parquet(settings: Mapping[str, object], table: TableName, statements: Sequence[str]) -> None:
    folder = Path(str(settings["path"])) / str(table.schema) / table.name
    manifest = json.loads((folder / MANIFEST).read_text())
    live = [str(folder / file["name"]) for file in manifest["files"]]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TABLE t AS FROM read_parquet(?, union_by_name = true)", [live])
        for statement in statements:
            connection.execute(statement.format(t="t"))
        connection.execute(f"COPY t TO '{live[0]}'")
        rows = connection.execute("SELECT count(*) FROM t").fetchone()
    assert rows is not None
    file = manifest["files"][0] | {"rows": rows[0], "bytes": Path(live[0]).stat().st_size}
    file |= {"tail": False, "cursor": None}  # its edges are no longer what the manifest said
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": [file]}))


def edit_lines(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a folder's only live file (CSV, JSON lines)."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (file,) = (file for file in manifest["files"] if file["rows"])
    path = folder / file["name"]
    lines = change(path.read_text().splitlines(keepends=True))
    path.write_text("".join(lines))
    file |= {"bytes": path.stat().st_size, "rows": len(lines)}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": [file]}))


def _quoted(table: TableName) -> str:
    return ".".join(f'"{part}"' for part in (table.schema, table.name) if part)


_WAYS: Mapping[str, Callable[[Mapping[str, object], TableName, Sequence[str]], None]] = {
    "duckdb": _duckdb,
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
    "parquet": _parquet,
}
