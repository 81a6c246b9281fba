"""What the stand-in for SQL Server tells of itself: the system's views, of SQLite's catalog."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tests.servers.stub_tds import Refused
from tests.servers.stub_tsql import LITERAL, NAME, name_of, quoted, text_of, translated

COLLATION = "Latin1_General_100_BIN2"
Rows = tuple[Sequence[str], Sequence[Sequence[object]]]

_NAMES = {"": "int", "blob": "varbinary(max)"}  # of types, where SQLite has others


class Catalog:
    """The schemas, tables and views that one session sees, and what its database's name says that it may."""

    def __init__(self, client: sqlite3.Connection, name: str) -> None:
        self._sqlite = client
        self._name = name
        views: Sequence[tuple[str, Callable[[str], Rows]]] = (
            ("dm_exec_describe_first_result_set", self._describe),
            ("HAS_PERMS_BY_NAME(DB_NAME()", self._abilities),
            ("'SCHEMA', 'ALTER'", self._rights),
            ("'Updateability'", self._server),
            ("dm_exec_requests", lambda _: (("age",), [(None,)])),
            ("dm_tran_active_transactions", self._transactions),
            ("snapshot_isolation_state", self._isolation),
            ("'ServerName'", lambda _: (("a", "b"), [("STUB", name)])),
            ("'ProductVersion'", lambda _: (("a", "b", "c", "d"), [("16.0.1", "Stub", name, "etl")])),
            ("SELECT s.name FROM sys.objects AS o", self._ledgers),
            ("FROM sys.objects AS o", self._tables),
            ("FROM sys.foreign_keys", lambda _: (("a", "b"), [])),
            ("FROM sys.indexes AS i", self._keys),
            ("c.collation_name", self._kept),
            ("FROM sys.columns", self._columns),
        )
        self._views = views

    def answer(self, sql: str) -> Rows | None:
        """What a SELECT from one of the system's views gives; None where it is of no view that is known."""
        return next((view(sql) for part, view in self._views if part in sql), None)

    def schemas(self) -> list[str]:
        found = self._sqlite.execute("PRAGMA database_list").fetchall()
        return [name for _, name, _ in found if name not in ("main", "temp")]

    def schema(self, name: str) -> int | None:
        schemas = self.schemas()
        return schemas.index(name) + 1 if name in schemas else None

    def table(self, name: str) -> int | None:
        """By `[schema].[table]`, as OBJECT_ID finds it in a database whose collation ignores case."""
        parts = re.fullmatch(rf"({NAME})\.({NAME})", name)
        if parts is None:
            raise Refused(102, f"Incorrect name {name}.")
        for schema, table, _, number in self._every():
            if schema == name_of(parts[1]) and table.lower() == name_of(parts[2]).lower():
                return number
        return None

    def _every(self) -> list[tuple[str, str, str, int]]:
        """Schema, name, kind and number of all tables and views."""
        return [
            (schema, name, "V" if kind == "view" else "U", 1000 * (place + 1) + number)
            for place, schema in enumerate(self.schemas())
            for number, (name, kind) in enumerate(
                self._sqlite.execute(
                    f"SELECT name, type FROM {quoted(schema)}.sqlite_schema WHERE type IN ('table', 'view')"
                ).fetchall()
            )
        ]

    def info(self, schema: str, table: str) -> list[tuple[int, str, str, int, object, int]]:
        return self._sqlite.execute(f"PRAGMA {quoted(schema)}.table_info({quoted(table)})").fetchall()

    def _describe(self, sql: str) -> Rows:
        names = ("name", "type", "nullable", "collation", "error")
        query = re.search(rf"first_result_set\(({LITERAL}), NULL, 0\)", sql)
        assert query is not None
        try:
            self._sqlite.execute("DROP VIEW IF EXISTS temp.described")
            self._sqlite.execute(
                f"CREATE TEMP VIEW described AS {translated(text_of(query[1]), self.table, self.schema)}"
            )
            found = self._sqlite.execute("PRAGMA temp.table_info(described)").fetchall()
        except (sqlite3.Error, Refused) as failure:
            return names, [(None, None, None, None, str(failure))]
        required = self._required()
        return names, [
            (name, declared(kind), int(name not in required), COLLATION if "char" in kind else None, None)
            for name, kind in ((column, kind.lower()) for _, column, kind, _, _, _ in found)
        ]

    def _required(self) -> set[str]:
        columns = (column for schema, name, *_ in self._every() for column in self.info(schema, name))
        return {str(column[1]) for column in columns if column[3] or column[5]}

    def _server(self, _: str) -> Rows:
        return tuple("ab"), [(datetime.now(UTC).isoformat(timespec="microseconds")[:26], "READ_WRITE")]

    def _abilities(self, _: str) -> Rows:
        may = int("_denied" not in self._name)
        replica = "READ_ONLY" if "_replica" in self._name else "READ_WRITE"
        level = 120 if "_old" in self._name else 160
        return tuple("abcdefg"), [("16.0.1", "Stub", "etl", replica, level, may, may)]

    def _rights(self, sql: str) -> Rows:
        found = re.search(rf"SCHEMA_ID\(({LITERAL})\)", sql)
        assert found is not None
        there, may = self.schema(text_of(found[1])) is not None, int("_denied" not in self._name)
        return tuple("abcdef"), [(int(there), *([may if there else None] * 5))]

    def _transactions(self, _: str) -> Rows:
        if "_blind" in self._name:
            raise Refused(300, "VIEW SERVER PERFORMANCE STATE permission was denied on object 'server'.")
        return ("age",), [(3600 if "_busy" in self._name else None,)]

    def _isolation(self, _: str) -> Rows:
        return ("state", "versions"), [(int("_snapshot" in self._name), int("_locks" not in self._name))]

    def _ledgers(self, sql: str) -> Rows:
        found = re.search(rf"o\.name = ({LITERAL})", sql)
        assert found is not None
        return ("name",), [(schema,) for schema, name, *_ in self._every() if name == text_of(found[1])]

    def _tables(self, sql: str) -> Rows:
        wanted = re.search(rf"s\.name = ({LITERAL}) AND o\.name = ({LITERAL})", sql)
        rows = [(*row, None) for row in self._every() if not row[1].startswith("_atlas_")]
        if wanted:
            schema, name = map(text_of, wanted.groups())
            rows = [row for row in rows if (row[0], row[1]) == (schema, name)]
        return tuple("abcde"), rows

    def _numbered(self, sql: str) -> tuple[str, str] | None:
        """Schema and name of the table that OBJECT_ID names in a view's condition."""
        found = re.search(rf"OBJECT_ID\(({LITERAL})\)", sql)
        assert found is not None
        number = self.table(text_of(found[1]))
        return next((row[:2] for row in self._every() if row[3] == number), None)

    def _keys(self, sql: str) -> Rows:
        rows: list[Sequence[object]] = []
        table = self._numbered(sql)
        if table is not None:
            schema, name = table
            lists = self._sqlite.execute(f"PRAGMA {quoted(schema)}.index_list({quoted(name)})").fetchall()
            for _, index, unique, origin, partial in lists:
                columns = self._sqlite.execute(f"PRAGMA {quoted(schema)}.index_info({quoted(index)})")
                if unique and not partial:
                    rows += [(index, int(origin == "pk"), column) for _, _, column in columns.fetchall()]
        return tuple("abc"), rows

    def _kept(self, sql: str) -> Rows:
        table = self._numbered(sql)
        rows: list[Sequence[object]] = []
        for _, name, kind, needed, _, key in self.info(*table) if table else ():
            base, length, precision, scale = sizes(kind)
            collation = COLLATION if "char" in base else None
            rows.append((name, base, length, precision, scale, collation, int(not needed and not key), 0))
        return tuple("abcdefgh"), rows

    def _columns(self, _: str) -> Rows:
        rows: list[Sequence[object]] = []
        for schema, table, _kind, number in self._every():
            leads = self._leading(schema, table)
            for _, name, kind, required, _, key in self.info(schema, table):
                rows.append((
                    number, name, *sizes(kind), int(not required and not key), 0, key or None,
                    int(name in leads or key == 1),
                ))  # fmt: skip
        return tuple("abcdefghij"), rows

    def _leading(self, schema: str, table: str) -> set[str]:
        indexes = self._sqlite.execute(f"PRAGMA {quoted(schema)}.index_list({quoted(table)})").fetchall()
        return {
            str(self._sqlite.execute(f"PRAGMA {quoted(schema)}.index_info({quoted(index[1])})").fetchone()[2])
            for index in indexes
        }


def declared(kind: str) -> str:
    """A type as SQL Server writes it, of what SQLite keeps of its declaration."""
    kind = kind.lower().replace("(-1)", "(max)").replace("decimaltext", "decimal")
    return _NAMES.get(kind, kind)


def sizes(kind: str) -> tuple[str, int, int, int]:
    """Name, max_length, precision and scale of a declaration, as sys.columns has them."""
    base, _, size = declared(kind).partition("(")
    numbers = [int(each) for each in re.findall(r"\d+", size)]
    length = 2 * numbers[0] if base.startswith("n") and numbers else -1
    precision, scale = (*numbers, 0, 0)[:2]
    if base in ("datetime2", "datetimeoffset", "time"):
        scale = numbers[0] if numbers else 7
    return base, length, precision, scale
