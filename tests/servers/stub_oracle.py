"""A stand-in for the driver of Oracle at its DB-API: SQLite under the names of oracledb, and no engine.

There is no TNS here: `connect` takes the place of `oracledb.connect`, with the driver's own parameters, and
gives what plays its connections and cursors. A service name is a file's path without its `.db`, whose tables
are of the schema ETL. Only statements that Atlas sends are known, those on the dictionary by their text;
SQLite runs those on rows. What a database allows is told by its name: in one with `_blind` the user does not
see other sessions; one with `_busy` has a transaction that has been open for an hour; one with `_standby` is
a replica.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from uuid import uuid4

import oracledb
from oracledb import errors

PASSWORD = "stub-Pa55word"
SCHEMA = "ETL"
Rows = list[tuple[object, ...]]

_TYPES = {
    "NUMBER": oracledb.DB_TYPE_NUMBER,
    "VARCHAR2": oracledb.DB_TYPE_VARCHAR,
    "NVARCHAR2": oracledb.DB_TYPE_NVARCHAR,
    "CLOB": oracledb.DB_TYPE_CLOB,
    "DATE": oracledb.DB_TYPE_DATE,
    "TIMESTAMP": oracledb.DB_TYPE_TIMESTAMP,
    "BINARY_DOUBLE": oracledb.DB_TYPE_BINARY_DOUBLE,
    "RAW": oracledb.DB_TYPE_RAW,
    "BLOB": oracledb.DB_TYPE_BLOB,
    "BFILE": oracledb.DB_TYPE_BFILE,
    "": oracledb.DB_TYPE_NUMBER,
}
_SILENT = ("ALTER SESSION SET ", "SET TRANSACTION READ ONLY")


def refused(number: int, text: str) -> oracledb.DatabaseError:
    """The driver's error for one of the server's."""
    account = errors._Error(f"ORA-{number:05}: {text}", code=number)
    return account.exc_type(account)


def to_char(value: object, pattern: str | None = None) -> object:
    """A time that SQLite has as ISO text, in a format of Atlas."""
    if value is None or pattern is None:
        return value
    whole, _, fraction = str(value).replace(" ", "T").partition(".")
    digits = int(pattern[-1]) if ".FF" in pattern else 0
    return (
        (" " if pattern.startswith("S") else "")
        + whole
        + (f".{fraction:0<{digits}.{digits}}" if digits else "")
    )


def to_timestamp(text: str, _: str) -> str:
    """A time as SQLite has it here."""
    whole, _, fraction = text.replace("T", " ").partition(".")
    return f"{whole}.{fraction[:6]:0<6}"


def translated(sql: str) -> str:
    """As SQLite runs it: FETCH FIRST is LIMIT."""
    return re.sub(r" FETCH FIRST (\d+) ROWS ONLY$", r" LIMIT \1", sql)


class StubVar:
    """What a column is fetched into."""

    def __init__(self, kind: object) -> None:
        self.kind = kind


class StubCursor:
    """As far as Atlas uses a cursor."""

    def __init__(self, client: StubConnection) -> None:
        self._client = client
        self._rows: Iterator[tuple[object, ...]] = iter(())
        self.arraysize, self.prefetchrows = 100, 2
        self.outputtypehandler: Callable[[Any, Any], Any] | None = None
        self.description: list[oracledb.FetchInfo] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._rows = iter(())

    def var(self, kind: object, **_: object) -> StubVar:
        return StubVar(kind)

    def parse(self, sql: str) -> None:
        self.description = self._client.described(sql)

    def execute(self, sql: str) -> None:
        self.description, found = self._client.run(sql)
        variables = [
            self.outputtypehandler(self, each) if self.outputtypehandler else None
            for each in self.description
        ]
        self._rows = (tuple(map(_fetched, row, self.description, variables)) for row in found)

    def fetchall(self) -> Rows:
        return list(self._rows)

    def fetchmany(self) -> Rows:
        found = []
        for row in self._rows:
            found.append(row)
            if len(found) >= self.arraysize:
                break
        return found


def _fetched(cell: object, column: oracledb.FetchInfo, into: StubVar | None) -> object:
    """A number is its digits where it is fetched into a text, and else a double, as the driver has it."""
    if cell is None or column.type_code is not oracledb.DB_TYPE_NUMBER:
        return cell
    return str(cell) if into is not None and into.kind is str else float(str(cell))


class StubConnection:
    """One session; its transaction begins with SET TRANSACTION."""

    version = "23.0.0.0.0"

    def __init__(self, path: str) -> None:
        if not Path(f"{path}.db").exists():
            account = errors._create_err(
                errors.ERR_INVALID_SERVICE_NAME, service_name="nowhere", host="127.0.0.1", port=1521
            )
            raise account.exc_type(account)
        self._path = path
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None, timeout=30, check_same_thread=False)
        self._sqlite.execute(f"ATTACH ? AS {SCHEMA}", (f"{path}.db",))
        for name, count, function in (
            ("TO_CHAR", -1, to_char),
            ("TO_TIMESTAMP", 2, to_timestamp),
            ("TO_DATE", 2, lambda text, _: text.replace("T", " ")),
        ):
            self._sqlite.create_function(name, count, function)
        self._sqlite.create_collation("BINARY_AI", lambda one, other: (one > other) - (one < other))
        self._known: Sequence[tuple[str, Callable[[str], Rows]]] = (
            (
                "'DATABASE_ROLE'",
                lambda _: [(_now(), "PHYSICAL STANDBY" if "_standby" in path else "PRIMARY")],
            ),
            ("SYSTIMESTAMP", lambda _: [(_now(),)]),
            ("'CURRENT_SCHEMA'", lambda _: [(SCHEMA,)]),
            ("'DB_UNIQUE_NAME'", lambda _: [("STUB", path, None)]),
            ("gv$session", self._sessions),
            ("gv$transaction", lambda _: [(3600 if "_busy" in path else None,)]),
            ("FROM all_tables", self._tables),
            ("FROM all_tab_columns", self._columns),
            ("FROM all_constraints", self._keys),
            ("FROM all_ind_columns", self._leading),
        )

    def cursor(self) -> StubCursor:
        return StubCursor(self)

    def rollback(self) -> None:
        if self._sqlite.in_transaction:
            self._sqlite.execute("ROLLBACK")

    def cancel(self) -> None:
        self._sqlite.interrupt()

    def close(self) -> None:
        self._sqlite.close()

    def run(self, sql: str) -> tuple[list[oracledb.FetchInfo], Iterator[tuple[object, ...]]]:
        """A statement's columns and rows."""
        if sql.startswith(_SILENT):
            if sql.startswith("SET TRANSACTION"):
                self._sqlite.execute("BEGIN")
            return [], iter(())
        for part, answer in self._known:
            if part in sql:
                rows = answer(sql)
                return [
                    _info(f"C{n}", "VARCHAR2(128)", True) for n in range(len(rows[0]) if rows else 0)
                ], iter(rows)
        columns = self.described(sql)
        return columns, self._fetching(sql)

    def described(self, sql: str) -> list[oracledb.FetchInfo]:
        """What `parse` tells: SQLite knows the types of a view's columns."""
        try:
            self._sqlite.execute("DROP VIEW IF EXISTS temp.described")
            self._sqlite.execute(f"CREATE TEMP VIEW described AS {translated(sql)}")
            found = self._sqlite.execute("PRAGMA temp.table_info(described)").fetchall()
        except sqlite3.Error as failure:
            raise refused(942 if "no such table" in str(failure) else 900, str(failure)) from None
        required = self._required()
        return [_info(name, kind, name not in required) for _, name, kind, *_ in found]

    def _fetching(self, sql: str) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._sqlite.execute(translated(sql))
        except sqlite3.OperationalError as failure:
            raise refused(1013 if "interrupted" in str(failure) else 600, str(failure)) from None

    def _sessions(self, _: str) -> Rows:
        if "_blind" in self._path:
            raise refused(942, 'table or view "SYS"."GV_$SESSION" does not exist')
        return [(None,)]

    def _names(self, kinds: Sequence[str] = ("table", "view")) -> list[tuple[str, str]]:
        found = self._sqlite.execute(f"SELECT name, type FROM {SCHEMA}.sqlite_schema").fetchall()
        return [(name, kind) for name, kind in found if kind in kinds]

    def _tables(self, sql: str) -> Rows:
        wanted = re.search(r"owner = '((?:[^']|'')*)' AND table_name = '((?:[^']|'')*)'", sql)
        rows: Rows = [(SCHEMA, name, kind.upper(), None) for name, kind in self._names()]
        if wanted:
            name = tuple(each.replace("''", "'") for each in wanted.groups())
            rows = [row for row in rows if row[:2] == name]
        return rows

    def _pragma(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for name, _ in self._names():
            for column in self._sqlite.execute(f"PRAGMA {SCHEMA}.table_info({_quoted(name)})"):
                yield name, column

    def _columns(self, _: str) -> Rows:
        rows: Rows = []
        for table, (_, name, declared, required, _, key) in self._pragma():
            kind, _, sizes = declared.upper().partition("(")
            numbers = [int(each) for each in re.findall(r"\d+", sizes)]
            nullable = "N" if required or key else "Y"
            precision, scale = (*numbers, None, None)[:2] if kind == "NUMBER" else (None, None)
            named = f"{kind}({numbers[0]})" if kind == "TIMESTAMP" else kind
            length = numbers[0] if numbers else None
            rows.append((SCHEMA, table, name, named, length, length, precision, scale, nullable, "NO"))
        return rows

    def _keys(self, _: str) -> Rows:
        return [(SCHEMA, table, column[1], column[5]) for table, column in self._pragma() if column[5]]

    def _leading(self, _: str) -> Rows:
        rows: Rows = [(SCHEMA, table, column[1]) for table, column in self._pragma() if column[5] == 1]
        for table, _ in self._names(("table",)):
            for index in self._sqlite.execute(f"PRAGMA {SCHEMA}.index_list({_quoted(table)})").fetchall():
                first = self._sqlite.execute(f"PRAGMA {SCHEMA}.index_info({_quoted(index[1])})").fetchone()
                rows.append((SCHEMA, table, first[2]))
        return rows

    def _required(self) -> set[str]:
        return {column[1] for _, column in self._pragma() if column[3] or column[5]}


def _info(name: str, declared: str, nullable: bool) -> oracledb.FetchInfo:
    """The driver's own description of a column."""
    declared = "NUMBER(38,0)" if declared.upper() == "INT" else declared
    kind, _, sizes = declared.upper().partition("(")
    numbers = [int(each) for each in re.findall(r"\d+", sizes)]
    precision, scale = (*numbers, 0)[:2] if kind == "NUMBER" and numbers else (0, -127)
    if kind == "TIMESTAMP":
        precision, scale = 0, numbers[0]
    size = numbers[0] if numbers else 0
    return oracledb.FetchInfo._from_impl(
        SimpleNamespace(
            name=name,
            dbtype=_TYPES[kind],
            objtype=None,
            precision=precision,
            scale=scale,
            max_size=size,
            buffer_size=4 * size,
            nulls_allowed=nullable,
            is_json=False,
            is_oson=False,
        )
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()[:26]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def connect(*, user: str, password: str, params: oracledb.ConnectParams) -> StubConnection:
    """In the place of `oracledb.connect`."""
    if password != PASSWORD:
        raise refused(1017, "invalid credential or not authorized; logon denied")
    assert user == "etl"
    return StubConnection(str(params.service_name))


@dataclass(frozen=True)
class StubOracle:
    """The folder of the stand-in's databases."""

    folder: Path

    def fresh_database(self, allows: str = "plain") -> dict[str, object]:
        """What gets a connector into an empty database that allows this (see above)."""
        path = str(self.folder / f"t{uuid4().hex}_{allows}")
        execute(path, "PRAGMA journal_mode = WAL")
        return {"host": "127.0.0.1", "service_name": path, "username": "etl", "password": PASSWORD}


def execute(path: str, sql: str, parameters: Sequence[object] = ()) -> None:
    """A statement of SQLite, committed, behind the driver's back."""
    with closing(sqlite3.connect(f"{path}.db", isolation_level=None)) as client:
        client.execute(sql, tuple(parameters))
