"""A stand-in for SQL Server: TDS 7.4 over SQLite, for the real driver. It is not the engine.

`python -m tests.servers.stub_mssql [CERTIFICATE KEY]` listens on a free port of 127.0.0.1 and prints it. A
login's database is a file's path without its `.db`. Statements of Atlas are translated; the system's
views are answered from SQLite's catalog. What a database allows is told by its name: `..._snapshot`,
`..._statement`, `..._locks`; in one with `_blind` the login does not see others; one with `_busy` has a
transaction that has been open for an hour.
"""

from __future__ import annotations

import re
import select
import socketserver
import sqlite3
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from tests.servers.stub_tds import (
    ATTENTION,
    DONE,
    DONE_ATTENTION,
    DONE_ERROR,
    LOGGED_IN,
    PASSWORD,
    Refused,
    Wire,
    answer,
    done,
    error,
    logged_in,
    prelogin,
)

COLLATION = "Latin1_General_100_BIN2"
LONE = "half of a pair"  # what stands for a surrogate alone, which SQLite cannot hold
Rows = tuple[Sequence[str], Sequence[Sequence[object]]]


_NAMES = {"": "int", "blob": "varbinary(max)"}  # of types, where SQLite has others


# Statements


def translated(sql: str) -> str:
    """T-SQL as SQLite runs it: CAST and CONVERT become calls, TOP becomes LIMIT."""
    limit = ""
    if found := re.match(r"\s*SELECT TOP \((\d+)\) ", sql):
        sql, limit = "SELECT " + sql[found.end() :], f" LIMIT {found[1]}"
    return _calls(sql) + limit


def _calls(sql: str) -> str:
    written, place = "", 0
    pattern = re.compile(r"N?'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|\b(CAST|CONVERT)\(")
    while found := pattern.search(sql, place):
        written += sql[place : found.start()]
        if not found[1]:
            text = found[0]
            if text.startswith("["):
                text = _quoted(text[1:-1].replace("]]", "]"))
            written, place = written + text.removeprefix("N"), found.end()
            continue
        end = _closing(sql, found.end())
        inside = sql[found.end() : end]
        if found[1] == "CAST":
            value, _, kind = inside.rpartition(" AS ")
            written += f"ms_cast({_calls(value)}, '{kind}', 0)"
        else:
            kind, value, *style = _arguments(inside)
            written += f"ms_cast({_calls(value)}, '{kind.strip()}', {style[0] if style else 0})"
        place = end + 1
    return written + sql[place:]


def _closing(sql: str, place: int) -> int:
    depth = 1
    for found in re.compile(r"N?'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|[()]").finditer(sql, place):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.start()
    raise Refused(102, "Incorrect syntax near ')'.")


def _arguments(inside: str) -> list[str]:
    found, depth, last = [], 0, 0
    for match in re.finditer(r"N?'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|[(),]", inside):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match[0] == "," and not depth:
            found.append(inside[last : match.start()])
            last = match.end()
    return [*found, inside[last:]]


def ms_cast(value: object, kind: str, style: int) -> object:
    """A value in another type, as far as Atlas asks for it."""
    if value is None:
        return None
    if kind.startswith("varbinary"):
        if not isinstance(value, str):
            return value
        return value.replace(LONE, "\ud83d").encode("utf-16-le", "surrogatepass")
    if kind.startswith(("varchar", "nvarchar", "char", "nchar")):
        text = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
        return text.replace(" ", "T") if style == 126 else text
    if kind in ("bigint", "int", "smallint", "tinyint"):
        return int(str(value))
    if kind.startswith(("decimal", "numeric", "money", "float")):
        return float(str(value))
    if kind.startswith("datetime"):
        whole, _, fraction = str(value).replace("T", " ").removesuffix("Z").partition(".")
        return f"{whole}.{fraction[:7]:0<6}"
    return value


class Database:
    """One session's view of a file."""

    def __init__(self, name: str, is_called_off: Callable[[], bool]) -> None:
        path = Path(f"{name}.db")
        if not path.exists():
            raise Refused(4060, f'Cannot open database "{name}" requested by the login. The login failed.')
        self._name = name
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None, timeout=30)
        self._sqlite.execute("ATTACH ? AS dbo", (str(path),))
        self._sqlite.set_progress_handler(is_called_off, 100_000)
        self._sqlite.create_function("ms_cast", 3, ms_cast)
        self._sqlite.create_function("SYSUTCDATETIME", 0, lambda: datetime.now(UTC).isoformat()[:26])
        self._sqlite.create_collation(COLLATION, lambda one, other: (one > other) - (one < other))
        views: Sequence[tuple[str, Callable[[str], Rows]]] = (
            ("dm_exec_describe_first_result_set", self._describe),
            ("'Updateability'", self._server),
            ("dm_exec_requests", lambda _: (("age",), [(None,)])),
            ("dm_tran_active_transactions", self._transactions),
            ("snapshot_isolation_state", self._isolation),
            ("'ServerName'", lambda _: (("a", "b"), [("STUB", name)])),
            ("'ProductVersion'", lambda _: (("a", "b", "c", "d"), [("16.0.1", "Stub", name, "etl")])),
            ("FROM sys.objects AS o", self._tables),
            ("FROM sys.columns", self._columns),
        )
        self._views = views

    def run(self, sql: str) -> Rows:
        """One batch; the names and rows of its answer."""
        for part, view in self._views:
            if part in sql:
                return view(sql)
        if sql.lstrip().startswith("SET "):
            if "BEGIN TRANSACTION" in sql:
                self._sqlite.execute("BEGIN")
            return (), []
        try:
            cursor = self._sqlite.execute(translated(sql))
            names = [column[0] for column in cursor.description or ()]
            return names, cursor.fetchall()
        except sqlite3.Error as failure:
            raise Refused(208 if "no such table" in str(failure) else 102, str(failure)) from None

    def close(self) -> None:
        self._sqlite.close()

    def _describe(self, sql: str) -> Rows:
        names = ("name", "type", "nullable", "collation", "error")
        query = re.search(r"first_result_set\((N'(?:[^']|'')*'), NULL, 0\)", sql)
        assert query is not None
        text = query[1][2:-1].replace("''", "'")
        try:
            self._sqlite.execute("DROP VIEW IF EXISTS temp.described")
            self._sqlite.execute(f"CREATE TEMP VIEW described AS {translated(text)}")
            found = self._sqlite.execute("PRAGMA temp.table_info(described)").fetchall()
        except (sqlite3.Error, Refused) as failure:
            return names, [(None, None, None, None, str(failure))]
        required = self._required()
        return names, [
            (
                name,
                _NAMES.get(kind, kind),
                int(name not in required),
                COLLATION if "char" in kind else None,
                None,
            )
            for name, kind in ((column, kind.lower()) for _, column, kind, _, _, _ in found)
        ]

    def _required(self) -> set[str]:
        tables = [name for _, name, *_ in self._tables("")[1]]
        columns = (
            column
            for name in tables
            for column in self._sqlite.execute(f"PRAGMA dbo.table_info({_quoted(name)})")
        )
        return {str(column[1]) for column in columns if column[3] or column[5]}

    def _server(self, _: str) -> Rows:
        return tuple("abc"), [(datetime.now(UTC).isoformat()[:26], 0, "READ_WRITE")]

    def _transactions(self, _: str) -> Rows:
        if "_blind" in self._name:
            raise Refused(300, "VIEW SERVER PERFORMANCE STATE permission was denied on object 'server'.")
        return ("age",), [(3600 if "_busy" in self._name else None,)]

    def _isolation(self, _: str) -> Rows:
        return ("state", "versions"), [(int("_snapshot" in self._name), int("_locks" not in self._name))]

    def _tables(self, sql: str) -> Rows:
        wanted = re.search(r"s\.name = (N'(?:[^']|'')*') AND o\.name = (N'(?:[^']|'')*')", sql)
        found = self._sqlite.execute(
            "SELECT 'dbo', name, CASE type WHEN 'view' THEN 'V' ELSE 'U' END, rowid FROM dbo.sqlite_schema "
            "WHERE type IN ('table', 'view')"
        ).fetchall()
        rows = [(*row, None) for row in found]
        if wanted:
            schema, name = (text[2:-1].replace("''", "'") for text in wanted.groups())
            rows = [row for row in rows if (row[0], row[1]) == (schema, name)]
        return tuple("abcde"), rows

    def _columns(self, _: str) -> Rows:
        rows: list[Sequence[object]] = []
        for _schema, table, _kind, number, _count in self._tables("")[1]:
            leads = self._leading(str(table))
            for column in self._sqlite.execute(f"PRAGMA dbo.table_info({_quoted(table)})"):
                name, kind, required, key = column[1], column[2].lower(), column[3], column[5]
                numbers = [int(each) for each in re.findall(r"\d+", kind.partition("(")[2])]
                base = kind.partition("(")[0]
                length = 2 * numbers[0] if base.startswith("n") and numbers else -1
                precision, scale = (*numbers, 0, 0)[:2]
                if base.startswith("datetime2"):
                    base, scale = "datetime2", numbers[0]
                rows.append((
                    number, name, base, length, precision, scale,
                    int(not required and not key), 0, key or None, int(name in leads or key == 1),
                ))  # fmt: skip
        return tuple("abcdefghij"), rows

    def _leading(self, table: str) -> set[str]:
        indexes = self._sqlite.execute(f"PRAGMA dbo.index_list({_quoted(table)})").fetchall()
        return {
            str(self._sqlite.execute(f"PRAGMA dbo.index_info({_quoted(index[1])})").fetchone()[2])
            for index in indexes
        }


def _quoted(name: object) -> str:
    return '"' + str(name).replace('"', '""') + '"'


class Session(socketserver.BaseRequestHandler):
    context: ssl.SSLContext | None = None

    def _hears(self) -> bool:
        """Whether the client has hung up or sends an attention: nothing else comes while it waits."""
        return bool(select.select([self.request], [], [], 0)[0])

    def handle(self) -> None:
        wire, database = Wire(self.request), None
        try:
            wire.receive()
            wire.send(prelogin(1 if self.context else 2))
            if self.context:
                wire.encrypt(self.context)
            try:
                database = Database(logged_in(wire.receive()[1]), self._hears)
            except Refused as refused:
                wire.send(error(refused) + done(DONE_ERROR))
                return
            wire.send(LOGGED_IN + done(DONE))
            while True:
                kind, body = wire.receive()
                if kind == ATTENTION:
                    wire.send(done(DONE_ATTENTION))
                    continue
                (headers,) = struct.unpack_from("<I", body)
                try:
                    wire.send(answer(*database.run(body[headers:].decode("utf-16-le", "surrogatepass"))))
                except Refused as refused:
                    wire.send(error(refused) + done(DONE_ERROR))
        except (EOFError, OSError):
            pass
        finally:
            if database is not None:
                database.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@dataclass(frozen=True)
class StubServer:
    """A stand-in that runs: its port, and the folder of its databases."""

    port: int
    folder: Path

    def fresh_database(self, allows: str = "snapshot") -> str:
        """The path of an empty database that allows this (see above), which is its name, too."""
        path = str(self.folder / f"t{uuid4().hex}_{allows}")
        execute(path, "PRAGMA journal_mode = WAL")
        return path

    def connection(self, database: str) -> dict[str, object]:
        """What gets a connector in."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "database": database,
            "username": "etl",
            "password": PASSWORD,
        }


def execute(database: str, sql: str, parameters: Sequence[object] = ()) -> None:
    """A statement of SQLite, committed, behind the server's back."""
    with closing(sqlite3.connect(f"{database}.db", isolation_level=None)) as client:
        client.execute(sql, tuple(parameters))


@contextmanager
def serve(folder: Path, *tls: Path) -> Iterator[StubServer]:
    """A stand-in in a process of its own, with the files of a certificate and its key or without."""
    command = [sys.executable, "-m", "tests.servers.stub_mssql", *map(str, tls)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield StubServer(int(process.stdout.readline()), folder)
        finally:
            process.kill()


def main(certificate: str | None = None, key: str | None = None) -> None:
    if certificate:
        Session.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        Session.context.maximum_version = ssl.TLSVersion.TLSv1_2
        Session.context.load_cert_chain(certificate, key)
    with _Server(("127.0.0.1", 0), Session) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
