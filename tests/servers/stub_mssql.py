"""A stand-in for SQL Server: TDS 7.4 over SQLite, for the real driver. It is not the engine.

`python -m tests.servers.stub_mssql [CERTIFICATE KEY]` listens on a free port of 127.0.0.1 and prints it. A
login's database is a file's path without its `.db`. Statements of Atlas are translated; the system's
views are answered from SQLite's catalog. What a database allows is told by its name: `..._snapshot`,
`..._statement`, `..._locks`; in one with `_blind` the login does not see others; one with `_busy` has a
transaction that has been open for an hour. Protocol: https://learn.microsoft.com/openspecs/windows_protocols/ms-tds.
"""

from __future__ import annotations

import re
import socket
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

COLLATION = "Latin1_General_100_BIN2"
LONE = "half of a pair"  # what stands for a surrogate alone, which SQLite cannot hold
PASSWORD = "stub's pässword"
Rows = tuple[Sequence[str], Sequence[Sequence[object]]]


_NAMES = {"": "int", "blob": "varbinary(max)"}  # of types, where SQLite has others


class Refused(Exception):
    """An error of the server: its number and its words."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


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

    def __init__(self, name: str) -> None:
        path = Path(f"{name}.db")
        if not path.exists():
            raise Refused(4060, f'Cannot open database "{name}" requested by the login. The login failed.')
        self._name = name
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None, timeout=30)
        self._sqlite.execute("ATTACH ? AS dbo", (str(path),))
        self._sqlite.create_function("ms_cast", 3, ms_cast)
        self._sqlite.create_function("SYSUTCDATETIME", 0, lambda: datetime.now(UTC).isoformat()[:26])
        self._sqlite.create_collation(COLLATION, lambda one, other: (one > other) - (one < other))
        views: Sequence[tuple[str, Callable[[str], Rows]]] = (
            ("dm_exec_describe_first_result_set", self._describe),
            ("dm_exec_requests", self._requests),
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
        for part, answer in self._views:
            if part in sql:
                return answer(sql)
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

    def _requests(self, _: str) -> Rows:
        return tuple("abcd"), [(datetime.now(UTC).isoformat()[:26], 0, "READ_WRITE", None)]

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


# The protocol

PRELOGIN, LOGIN, BATCH, ATTENTION, ANSWER = 0x12, 0x10, 0x01, 0x06, 0x04
_LAST = 1
_DONE, _DONE_COUNT, _DONE_ERROR, _DONE_ATTENTION = 0, 0x10, 0x02, 0x20


class Wire:
    """Packets over a socket, within TLS once that is agreed on."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    def receive(self) -> tuple[int, bytes]:
        """One message, of as many packets as it takes."""
        body = b""
        while True:
            kind, status, length = struct.unpack(">BBH4x", self._read(8))
            body += self._read(length - 8)
            if status & _LAST:
                return kind, body

    def send(self, body: bytes, kind: int = ANSWER) -> None:
        pieces = [body[start : start + 4000] for start in range(0, len(body), 4000)] or [b""]
        for number, piece in enumerate(pieces, 1):
            status = _LAST if number == len(pieces) else 0
            self._write(struct.pack(">BBHHBB", kind, status, len(piece) + 8, 0, number % 256, 0) + piece)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """The handshake, whose pieces are packets of their own."""
        tls = context.wrap_bio(self._in, self._out, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_handshake()
                self._in.write(self.receive()[1])
                continue
            self._flush_handshake()
            break
        self._tls = tls

    def _flush_handshake(self) -> None:
        if self._out.pending:
            self.send(self._out.read(), PRELOGIN)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            if self._tls is None:
                piece = self._socket.recv(size - len(found))
                if not piece:
                    raise EOFError
                found += piece
                continue
            try:
                found += self._tls.read(size - len(found))
            except ssl.SSLWantReadError:
                piece = self._socket.recv(65536)
                if not piece:
                    raise EOFError from None
                self._in.write(piece)
        return found

    def _write(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._out.read()
        self._socket.sendall(data)


class Session(socketserver.BaseRequestHandler):
    context: ssl.SSLContext | None = None

    def handle(self) -> None:
        wire, database = Wire(self.request), None
        try:
            wire.receive()
            wire.send(_prelogin(1 if self.context else 2))
            if self.context:
                wire.encrypt(self.context)
            try:
                database = Database(_logged_in(wire.receive()[1]))
            except Refused as refused:
                wire.send(_error(refused) + _done(_DONE_ERROR))
                return
            wire.send(_LOGGED_IN + _done(_DONE))
            while True:
                kind, body = wire.receive()
                if kind == ATTENTION:
                    wire.send(_done(_DONE_ATTENTION))
                    continue
                (headers,) = struct.unpack_from("<I", body)
                try:
                    wire.send(_answer(*database.run(body[headers:].decode("utf-16-le", "surrogatepass"))))
                except Refused as refused:
                    wire.send(_error(refused) + _done(_DONE_ERROR))
        except (EOFError, OSError):
            pass
        finally:
            if database is not None:
                database.close()


def _prelogin(encryption: int) -> bytes:
    options = [(0, bytes([16, 0, 0, 1, 0, 0])), (1, bytes([encryption])), (2, b"\0"), (3, b""), (4, b"\0")]
    place, heads, data = 5 * len(options) + 1, b"", b""
    for token, value in options:
        heads += struct.pack(">BHH", token, place + len(data), len(value))
        data += value
    return heads + b"\xff" + data


def _logged_in(body: bytes) -> str:
    """The database that a login names."""

    def text(at: int) -> bytes:
        place, length = struct.unpack_from("<HH", body, at)
        return body[place : place + 2 * length]

    user, database = text(40).decode("utf-16-le"), text(68).decode("utf-16-le")
    password = bytes(((b ^ 0xA5) << 4 | (b ^ 0xA5) >> 4) & 0xFF for b in text(44)).decode("utf-16-le")
    if password != PASSWORD:
        raise Refused(18456, f"Login failed for user '{user}'.")
    return database


def _text(text: str, size: str) -> bytes:
    data = text.encode("utf-16-le")
    return struct.pack(size, len(data) // 2) + data


def _token(kind: int, body: bytes) -> bytes:
    return struct.pack("<BH", kind, len(body)) + body


def _done(status: int, rows: int = 0) -> bytes:
    return struct.pack("<BHHQ", 0xFD, status, 0, rows)


def _error(refused: Refused) -> bytes:
    body = struct.pack("<IBB", refused.number, 1, 16) + _text(refused.text, "<H") + _text("STUB", "<B")
    return _token(0xAA, body + _text("", "<B") + struct.pack("<I", 1))


_LOGGED_IN = _token(0xAD, b"\x01\x74\x00\x00\x04" + _text("Stub", "<B") + bytes([16, 0, 0, 1]))
_COLLATED = bytes([0x09, 0x04, 0xD0, 0x00, 0x34])


def _answer(names: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    if not names:
        return _done(_DONE)
    kinds = [_kind([row[place] for row in rows]) for place in range(len(names))]
    columns = zip(names, kinds, strict=True)
    head = b"".join(b"\0\0\0\0\x09\0" + kind[0] + _text(name, "<B") for name, kind in columns)
    found = [struct.pack("<BH", 0x81, len(names)), head]
    for row in rows:
        found.append(b"\xd1" + b"".join(kind[1](cell) for kind, cell in zip(kinds, row, strict=True)))
    return b"".join([*found, _done(_DONE_COUNT, len(rows))])


def _kind(cells: Sequence[object]) -> tuple[bytes, Callable[[object], bytes]]:
    """A column's type on the wire, and how its cells are written."""
    given = {type(cell) for cell in cells} - {type(None)}
    if given == {bytes}:
        return b"\xa5\xff\xff", _long  # varbinary(max)
    if given == {int}:
        return b"\x26\x08", lambda cell: b"\0" if cell is None else struct.pack("<Bq", 8, cell)
    if given == {float}:
        return b"\x6d\x08", lambda cell: b"\0" if cell is None else struct.pack("<Bd", 8, cell)
    return (
        b"\xe7\x40\x1f" + _COLLATED,
        lambda cell: b"\xff\xff" if cell is None else _counted(str(cell).encode("utf-16-le")),
    )


def _counted(data: bytes) -> bytes:
    return struct.pack("<H", len(data)) + data


def _long(cell: object) -> bytes:
    if cell is None:
        return b"\xff" * 8
    assert isinstance(cell, bytes)
    piece = struct.pack("<I", len(cell)) + cell if cell else b""
    return struct.pack("<Q", len(cell)) + piece + struct.pack("<I", 0)


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
