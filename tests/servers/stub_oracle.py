"""A stand-in for the driver of Oracle at its DB-API: SQLite under the names of oracledb, and no engine.

There is no TNS here: `connect` takes the place of `oracledb.connect`, with the driver's own parameters, and
gives what plays its connections and cursors. A service name is a file's path without its `.db`, whose tables
are of the schema ETL. Only statements that Atlas sends are known, those on the dictionary by their text;
SQLite runs those on rows. What a database allows is told by its name: in one with `_blind` the user does not
see other sessions; one with `_busy` has a transaction that has been open for an hour; one with `_standby` is
a replica; one with `_latin` has another character set, one with `_old` is of 12.2, and in one with `_denied`
nothing may be made.
"""

from __future__ import annotations

import os
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

from tests.servers.stub_oracle_sql import (
    CHARACTER_SETS,
    DDL,
    DML,
    LITERAL,
    Refusal,
    add_functions,
    bound,
    changing,
    defining,
    foreign,
    numbered,
    refusal,
    selected,
    staged,
)

PASSWORD = "stub-Pa55word"
SCHEMA = "ETL"
Rows = list[tuple[object, ...]]

_TYPES = {
    **dict.fromkeys(("NUMBER", "NUMBERTEXT"), oracledb.DB_TYPE_NUMBER),
    "VARCHAR2": oracledb.DB_TYPE_VARCHAR,
    "NVARCHAR2": oracledb.DB_TYPE_NVARCHAR,
    "CLOB": oracledb.DB_TYPE_CLOB,
    "DATE": oracledb.DB_TYPE_DATE,
    "TIMESTAMP": oracledb.DB_TYPE_TIMESTAMP,
    "TIMESTAMPTZ": oracledb.DB_TYPE_TIMESTAMP_TZ,
    "BINARY_FLOAT": oracledb.DB_TYPE_BINARY_FLOAT,
    "BINARY_DOUBLE": oracledb.DB_TYPE_BINARY_DOUBLE,
    "RAW": oracledb.DB_TYPE_RAW,
    "BLOB": oracledb.DB_TYPE_BLOB,
    "BFILE": oracledb.DB_TYPE_BFILE,
    "": oracledb.DB_TYPE_NUMBER,
}
_FLOATS = (oracledb.DB_TYPE_BINARY_FLOAT, oracledb.DB_TYPE_BINARY_DOUBLE)
_SILENT = ("ALTER SESSION SET ", "SET TRANSACTION READ ONLY")


def refused(number: int, text: str) -> oracledb.DatabaseError:
    """The driver's error for one of the server's."""
    account = errors._Error(f"ORA-{number:05}: {text}", code=number)
    return account.exc_type(account)


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

    def setinputsizes(self, *sizes: object) -> None:
        self._sizes = sizes

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        for row in rows:
            assert len(row) == len(self._sizes)
            for cell, size in zip(row, self._sizes, strict=True):
                assert cell is None or not isinstance(size, int) or len(str(cell)) <= size
        self._client.change(sql, rows)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self.description, found = self._client.run(sql, parameters)
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
    if cell is not None and column.type_code in _FLOATS:
        return float(str(cell))
    if cell is None or column.type_code is not oracledb.DB_TYPE_NUMBER:
        return cell
    return str(cell) if into is not None and into.kind is str else float(str(cell))


class StubConnection:
    """One session; its transaction begins with SET TRANSACTION, or with its first change."""

    def __init__(self, path: str) -> None:
        if not Path(f"{path}.db").exists():
            account = errors._create_err(
                errors.ERR_INVALID_SERVICE_NAME, service_name="nowhere", host="127.0.0.1", port=1521
            )
            raise account.exc_type(account)
        self._path = path
        self.version = "12.2.0.1.0" if "_old" in path else "23.0.0.0.0"
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None, timeout=30, check_same_thread=False)
        self._sqlite.execute(f"ATTACH ? AS {SCHEMA}", (f"{path}.db",))
        add_functions(self._sqlite)
        self._sqlite.create_collation("BINARY_AI", lambda one, other: (one > other) - (one < other))
        self._known: Sequence[tuple[str, Callable[[str], Rows]]] = (
            ("'SESSION_USER'", self._abilities),
            (
                "'DATABASE_ROLE'",
                lambda _: [(_now(), "PHYSICAL STANDBY" if "_standby" in path else "PRIMARY")],
            ),
            ("SYSTIMESTAMP", lambda _: [(_now(),)]),
            ("'CURRENT_SCHEMA'", lambda _: [(SCHEMA,)]),
            ("'DB_UNIQUE_NAME'", lambda _: [("STUB", path, None)]),
            ("gv$session", self._sessions),
            ("gv$transaction", lambda _: [(3600 if "_busy" in path else None,)]),
            ("FROM session_privs", lambda _: []),
            ("SELECT COUNT(*) FROM all_tables t", self._count_tables),
            ("SELECT t.owner FROM all_tables t", self._schemas),
            ("FROM all_tab_cols", self._kept),
            ("FROM all_indexes", self._unique),
            ("FROM all_constraints r", lambda _: []),
            ("FROM all_tables", self._tables),
            ("FROM all_tab_columns", self._columns),
            ("FROM all_constraints", self._keys),
            ("FROM all_ind_columns", self._leading),
        )

    def cursor(self) -> StubCursor:
        return StubCursor(self)

    def commit(self) -> None:
        if self._sqlite.in_transaction:
            self._sqlite.execute("COMMIT")

    def rollback(self) -> None:
        if self._sqlite.in_transaction:
            self._sqlite.execute("ROLLBACK")

    def cancel(self) -> None:
        self._sqlite.interrupt()

    def close(self) -> None:
        self._sqlite.close()

    def run(
        self, sql: str, parameters: Sequence[object] = ()
    ) -> tuple[list[oracledb.FetchInfo], Iterator[tuple[object, ...]]]:
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
        if sql.startswith((*DML, *DDL, "CREATE ")):
            self.change(sql, [parameters])
            return [], iter(())
        columns = self.described(sql)
        return columns, self._fetching(sql, parameters)

    def change(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """A statement that gives no rows, for each of the parameters' rows."""
        try:
            foreign(sql)
            if (stage := staged(sql)) is not None:
                self._sqlite.execute(stage)
            elif sql.startswith(DDL):
                self.commit()
                self._define(sql)
            elif sql.startswith(DML):
                self._lock()
                for statement in changing(sql):
                    for row in rows:
                        self._sqlite.execute(statement, tuple(map(bound, row)))
            else:
                raise Refusal(900, "invalid SQL statement, as far as the stand-in knows")
        except sqlite3.Error as failure:
            found = refusal(failure)
            raise refused(found.number, found.text) from None
        except Refusal as found:
            raise refused(found.number, found.text) from None

    def _define(self, sql: str) -> None:
        statements, may_be_there = defining(sql, self._made)
        try:
            for statement in statements:
                self._sqlite.execute(statement)
        except sqlite3.Error as failure:
            if not (may_be_there and refusal(failure).number == 955):
                raise

    def _lock(self) -> None:
        if not self._sqlite.in_transaction:
            self._sqlite.execute("BEGIN IMMEDIATE")  # one that writes at a time

    def _made(self, table: str) -> str:
        found = self._sqlite.execute(f"SELECT sql FROM {SCHEMA}.sqlite_schema WHERE name = ?", (table,))
        return str(found.fetchone()[0])

    def described(self, sql: str) -> list[oracledb.FetchInfo]:
        """What `parse` tells: SQLite knows the types of a view's columns."""
        try:
            self._sqlite.execute("DROP VIEW IF EXISTS temp.described")
            plain, _ = selected(numbered(sql, "NULL"))
            self._sqlite.execute(f"CREATE TEMP VIEW described AS {plain}")
            found = self._sqlite.execute("PRAGMA temp.table_info(described)").fetchall()
        except sqlite3.Error as failure:
            raise refused(942 if "no such table" in str(failure) else 900, str(failure)) from None
        except Refusal as found_wrong:
            raise refused(found_wrong.number, found_wrong.text) from None
        required = self._required()
        return [_info(name, kind, name not in required) for _, name, kind, *_ in found]

    def _fetching(self, sql: str, parameters: Sequence[object]) -> Iterator[tuple[object, ...]]:
        try:
            statement, is_locked = selected(sql)
            if is_locked:
                self._lock()
            yield from self._sqlite.execute(statement, tuple(map(bound, parameters)))
        except sqlite3.OperationalError as failure:
            raise refused(1013 if "interrupted" in str(failure) else 600, str(failure)) from None

    def _sessions(self, _: str) -> Rows:
        if "_blind" in self._path:
            raise refused(942, 'table or view "SYS"."GV_$SESSION" does not exist')
        return [(None,)]

    def _names(self, kinds: Sequence[str] = ("table", "view")) -> list[tuple[str, str]]:
        found = self._sqlite.execute(f"SELECT name, type FROM {SCHEMA}.sqlite_schema").fetchall()
        return [(name, kind) for name, kind in found if kind in kinds]

    def _abilities(self, _: str) -> Rows:
        role = "PHYSICAL STANDBY" if "_standby" in self._path else "PRIMARY"
        return [(SCHEMA, role, CHARACTER_SETS["_latin" in self._path], 0 if "_denied" in self._path else 1)]

    def _count_tables(self, sql: str) -> Rows:
        owner, *names = _literals(sql)
        there = {name for name, _ in self._names()} if owner == SCHEMA else set()
        return [(len(there.intersection(names)),)]

    def _schemas(self, sql: str) -> Rows:
        (wanted,) = _literals(sql)
        return [(SCHEMA,) for name, _ in self._names() if name == wanted]

    def _kept(self, sql: str) -> Rows:
        wanted = tuple(_literals(sql)[1:3])
        rows: Rows = []
        for owner, table, name, kind, length, _, precision, scale, nullable, _ in self._columns(sql):
            if (owner, table) == wanted:
                rows.append((name, kind, length, None, precision, scale, None, nullable, "NO", "NO"))
        return rows

    def _unique(self, sql: str) -> Rows:
        _, table, *_ = _literals(sql)
        return [("PK", column[1]) for name, column in self._pragma() if name == table and column[5]]

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
            kind = kind.removesuffix("TEXT")
            numbers = [int(each) for each in re.findall(r"\d+", sizes)]
            nullable = "N" if required or key else "Y"
            precision, scale = (*numbers, 0)[:2] if kind == "NUMBER" and numbers else (None, None)
            named = kind
            if kind.startswith("TIMESTAMP"):
                zone = " WITH TIME ZONE" if kind.endswith("TZ") else ""
                named = f"TIMESTAMP({numbers[0]}){zone}"
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
    precision, scale = (*numbers, 0)[:2] if kind.startswith("NUMBER") and numbers else (0, -127)
    if kind.startswith("TIMESTAMP"):
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


def _literals(sql: str) -> list[str]:
    return [text[1:-1].replace("''", "'") for text in re.findall(LITERAL, sql)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")[:26]


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

    @property
    def environment(self) -> dict[str, str]:
        """What has a command talk to the stand-in, too."""
        own = Path(__file__).parent
        return {"PYTHONPATH": os.pathsep.join((str(own / "stub_oracle_site"), str(own.parents[1])))}

    def fresh_database(self, allows: str = "plain") -> dict[str, object]:
        """What gets a connector into an empty database that allows this (see above)."""
        path = str(self.folder / f"t{uuid4().hex}_{allows}")
        execute(path, "PRAGMA journal_mode = WAL")
        return {"host": "127.0.0.1", "service_name": path, "username": "etl", "password": PASSWORD}


def execute(path: str, sql: str, parameters: Sequence[object] = ()) -> None:
    """A statement of SQLite, committed, behind the driver's back."""
    with closing(sqlite3.connect(f"{path}.db", isolation_level=None)) as client:
        client.execute(sql, tuple(parameters))
