"""A stand-in for SQL Server: TDS 7.4 over SQLite, for the real driver. It is not the engine.

`python -m tests.servers.stub_mssql [CERTIFICATE KEY]` listens on a free port of 127.0.0.1 and prints it. A
login's database is a file's path without its `.db`. Statements of Atlas are translated; the system's
views are answered from SQLite's catalog. What a database allows is told by its name: `..._snapshot`,
`..._statement`, `..._locks`; in one with `_denied` nothing may be made, one with `_replica` is read-only, one
with `_old` lacks OPENJSON; in one with `_blind` the login does not see others; one with `_busy` has a
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
from pathlib import Path
from uuid import uuid4

from tests.servers.stub_mssql_catalog import COLLATION, Catalog, Rows, declared
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
from tests.servers.stub_tsql import (
    LITERAL,
    NAME,
    STATEMENTS,
    add_functions,
    arguments,
    compared,
    name_of,
    quoted,
    refusal,
    text_of,
    translated,
)


class Database:
    """One session's view of a database: a file for the schema dbo, and one for each other schema."""

    def __init__(self, name: str, is_called_off: Callable[[], bool]) -> None:
        self._path = Path(f"{name}.db")
        if not self._path.exists():
            raise Refused(4060, f'Cannot open database "{name}" requested by the login. The login failed.')
        self._name = name
        self._aborts = False  # XACT_ABORT
        self._made: list[str] = []  # schemas of the open transaction
        self._sqlite = sqlite3.connect(
            ":memory:", isolation_level=None, timeout=30, detect_types=sqlite3.PARSE_DECLTYPES
        )
        self._sqlite.execute("ATTACH ? AS dbo", (str(self._path),))
        self._sqlite.set_progress_handler(is_called_off, 100_000)
        self._sqlite.create_function(
            "SYSUTCDATETIME", 0, lambda: datetime.now(UTC).isoformat(timespec="microseconds")[:26]
        )
        self._sqlite.create_collation(COLLATION, compared)
        self._sqlite.create_collation(
            "CATALOG_DEFAULT", lambda one, other: compared(one.lower(), other.lower())
        )
        add_functions(self._sqlite)
        self._catalog = Catalog(self._sqlite, name)

    def run(self, sql: str) -> Rows:
        """One batch; the names and rows of its answer."""
        self._attach()
        if sql.lstrip().startswith("SELECT"):
            found = self._catalog.answer(sql)
            if found is not None:
                return found
        try:
            return self._control(sql) or self._statement(sql)
        except sqlite3.Error as failure:
            refused = refusal(failure)
        except Refused as found:
            refused = found
        if self._aborts and self._sqlite.in_transaction:
            self._roll_back()
        raise refused

    def close(self) -> None:
        if self._sqlite.in_transaction:
            self._roll_back()
        self._sqlite.close()

    def _control(self, sql: str) -> Rows | None:
        """Transactions, settings, schemas and tables that are changed; None where it is none of these."""
        done: Rows = (), []
        if sql.lstrip().startswith("SET "):
            if found := re.search(r"SET XACT_ABORT (ON|OFF)", sql):
                self._aborts = found[1] == "ON"
            if "BEGIN TRANSACTION" in sql:
                self._sqlite.execute("BEGIN")
            return done
        if sql == "BEGIN TRANSACTION":
            self._sqlite.execute("BEGIN IMMEDIATE")  # one that writes at a time
        elif sql == "COMMIT TRANSACTION":
            if not self._sqlite.in_transaction:
                raise Refused(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
            self._sqlite.execute("COMMIT")
            self._made.clear()
        elif sql == "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION":
            if self._sqlite.in_transaction:
                self._roll_back()
        elif found := re.fullmatch(r"(SAVE|ROLLBACK) TRANSACTION (\w+)", sql):
            self._sqlite.execute(f"{'SAVEPOINT' if found[1] == 'SAVE' else 'ROLLBACK TO'} {found[2]}")
        elif found := re.fullmatch(rf"IF SCHEMA_ID\(({LITERAL})\) IS NULL EXEC\(({LITERAL})\)", sql):
            if self._catalog.schema(text_of(found[1])) is None:
                self.run(text_of(found[2]))
        elif found := re.fullmatch(rf"CREATE SCHEMA (\w+|{NAME})", sql):
            self._make_schema(name_of(found[1]) if found[1].startswith("[") else found[1])
        elif found := re.fullmatch(
            rf"IF OBJECT_ID\(({LITERAL}), N'U'\) IS NULL (CREATE TABLE .*)", sql, re.DOTALL
        ):
            if self._catalog.table(text_of(found[1])) is None:
                self.run(found[2])
        elif found := re.fullmatch(r"(UPDATE .*); IF @@ROWCOUNT = 0 (INSERT .*)", sql, re.DOTALL):
            if not self._sqlite.execute(self._translated(found[1])).rowcount:
                self.run(found[2])
        elif found := re.fullmatch(rf"ALTER TABLE ({NAME})\.({NAME}) (.*)", sql, re.DOTALL):
            self._alter(name_of(found[1]), name_of(found[2]), found[3])
        else:
            return None
        return done

    def _statement(self, sql: str) -> Rows:
        if not STATEMENTS.match(sql):
            raise Refused(102, "Incorrect syntax, as far as the stand-in knows.")
        cursor = self._sqlite.execute(self._translated(sql))
        return [column[0] for column in cursor.description or ()], cursor.fetchall()

    def _translated(self, sql: str) -> str:
        return translated(sql, self._catalog.table, self._catalog.schema)

    def _roll_back(self) -> None:
        self._sqlite.execute("ROLLBACK")
        for schema in self._made:
            self._sqlite.execute(f"DETACH {quoted(schema)}")
            self._file(schema).unlink()
        self._made.clear()

    # Schemas and tables

    def _attach(self) -> None:
        """See the schemas that other sessions have made."""
        there = self._catalog.schemas()
        for file in self._path.parent.glob(f"{self._path.stem}.*.db"):
            schema = bytes.fromhex(file.name.split(".")[-2]).decode()
            if schema not in there:
                self._sqlite.execute(f"ATTACH ? AS {quoted(schema)}", (str(file),))

    def _file(self, schema: str) -> Path:
        return schema_file(self._name, schema)

    def _make_schema(self, schema: str) -> None:
        if self._catalog.schema(schema) is not None:
            raise Refused(2714, "There is already an object of that name in the database.")
        with closing(sqlite3.connect(self._file(schema))) as client:
            client.execute("PRAGMA journal_mode = WAL")
        if self._sqlite.in_transaction:
            self._made.append(schema)
        self._attach()

    def _alter(self, schema: str, table: str, change: str) -> None:
        """Columns that are added, and tables made anew for columns and keys that become others."""
        name = f"{quoted(schema)}.{quoted(table)}"
        if found := re.fullmatch(rf"ADD ({NAME} .*)", change, re.DOTALL):
            self._sqlite.execute(f"ALTER TABLE {name} ADD COLUMN {self._translated(found[1])}")
            return
        info = self._catalog.info(schema, table)
        columns = {column[1]: (column[2], bool(column[3])) for column in info}
        key = [column[1] for column in sorted(info, key=lambda column: column[5]) if column[5]]
        cast = ""
        if found := re.fullmatch(rf"ALTER COLUMN ({NAME}) (\S+)(?: COLLATE \w+)? (NOT NULL|NULL)", change):
            cast, kind = name_of(found[1]), found[2]
            if cast in key:
                raise Refused(5074, "The object 'PK' is dependent on the column.")
            columns[cast] = self._translated(kind), found[3] == "NOT NULL"
        elif re.fullmatch(rf"DROP CONSTRAINT {NAME}", change):
            key = []
        elif found := re.fullmatch(rf"ADD CONSTRAINT {NAME} PRIMARY KEY \((.*)\)", change):
            key = [name_of(part.strip()) for part in arguments(found[1])]
        else:
            raise Refused(102, f"Incorrect syntax near {change}.")
        texts = (
            f"{quoted(column)} {kind}{f' COLLATE {COLLATION}' if kind.startswith('nvarchar') else ''}"
            f"{' NOT NULL' if needed else ''}"
            for column, (kind, needed) in columns.items()
        )
        keyed = f", PRIMARY KEY ({', '.join(map(quoted, key))})" if key else ""
        cells = (
            f"ms_cast({quoted(column)}, '{declared(kind)}', 0)" if column == cast else quoted(column)
            for column, (kind, _) in columns.items()
        )
        made = f"{quoted(schema)}.{quoted('made anew')}"
        self._sqlite.execute(f"CREATE TABLE {made} ({', '.join(texts)}{keyed})")
        self._sqlite.execute(f"INSERT INTO {made} SELECT {', '.join(cells)} FROM {name}")
        self._sqlite.execute(f"DROP TABLE {name}")
        self._sqlite.execute(f"ALTER TABLE {made} RENAME TO {quoted(table)}")


def schema_file(database: str, schema: str) -> Path:
    """The file of a schema, which is a database of SQLite."""
    return Path(f"{database}.db" if schema == "dbo" else f"{database}.{schema.encode().hex()}.db")


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


sqlite3.register_converter("bit", lambda digits: digits == b"1")


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
