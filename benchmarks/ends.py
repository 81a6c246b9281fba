"""Both ends of a path: sources that hold a table, and empty destinations; a class adds one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow.parquet as pq
from psycopg import sql
from tests.servers import ServerAddress, mysql, postgres

from benchmarks import data
from benchmarks.data import Table
from benchmarks.measure import Command
from benchmarks.wide import WIDE

_PROGRAMS = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True, slots=True)
class End:
    """One system as Atlas's definitions write it: protocol and connection, the password among its keys."""

    protocol: str
    connection: Mapping[str, object] = field(repr=False)
    stream: Mapping[str, str] = field(default_factory=dict)  # what is read: a table or a path
    schema: str = ""  # where Atlas makes the table, if not in one of its own

    @property
    def path(self) -> Path:
        """The file or folder of a system that has one."""
        return Path(str(self.connection.get("path") or self.connection["database_path"]))


class Place:
    """A folder for everything that a run makes, and servers, each started when first asked for."""

    def __init__(self, seed: int, parent: Path | None = None) -> None:
        self.seed = seed
        self._stack = ExitStack()
        self._parent = parent
        self._servers: dict[str, ServerAddress] = {}
        self._copy_file: tuple[tuple[str, int], Path] | None = None
        self._load_file: tuple[tuple[str, int], Path] | None = None

    def __enter__(self) -> Place:
        made = tempfile.TemporaryDirectory(prefix="atlas-benchmark-", dir=self._parent)
        self.folder = Path(self._stack.enter_context(made))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is removed afterwards."""
        made = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def copy_file(self, table: Table, rows: int) -> Path:
        """The table as PostgreSQL's binary COPY writes it; the last one made is kept."""
        wanted = table.name, rows
        if self._copy_file is None or self._copy_file[0] != wanted:
            path = self.folder / "rows.copy"
            with self.postgres_database() as address:
                data.fill_postgres(address, table, rows, self.seed)
                data.copy_out(address, table, path)
            self._copy_file = wanted, path
        return self._copy_file[1]

    def load_file(self, table: Table, rows: int) -> Path:
        """The table as MySQL's LOAD DATA reads it; the last one made is kept."""
        wanted = table.name, rows
        if self._load_file is None or self._load_file[0] != wanted:
            path = self.folder / "rows.load"
            with self.mysql_database() as address:
                data.fill_mysql(address, table, rows, self.seed)
                data.load_out(address, table, path)
            self._load_file = wanted, path
        return self._load_file[1]

    @contextmanager
    def postgres_database(self) -> Iterator[ServerAddress]:
        """An empty PostgreSQL database, dropped afterwards. Raises tests.servers.Unavailable."""
        with postgres.fresh_database(self._server("postgres", postgres.serve)) as address:
            yield address

    @contextmanager
    def mysql_database(self) -> Iterator[ServerAddress]:
        """An empty MariaDB database, dropped afterwards. Raises tests.servers.Unavailable."""
        with mysql.fresh_database(self._server("mysql", mysql.serve)) as address:
            yield address

    def _server(self, name: str, serve: Callable[[], AbstractContextManager[ServerAddress]]) -> ServerAddress:
        if name not in self._servers:
            self._servers[name] = self._stack.enter_context(serve())
        return self._servers[name]


@dataclass(frozen=True, slots=True)
class Setting:
    """One load to run: so many rows from one end to the other, with a folder for the program's own files."""

    place: Place
    table: Table
    rows: int
    source: End
    destination: End
    folder: Path


class Source(ABC):
    """A system that is read from, with one table in it."""

    name: str

    def __init__(self, table: Table = WIDE) -> None:
        self.table = table

    @abstractmethod
    def filled(self, place: Place, rows: int) -> AbstractContextManager[End]:
        """Its table with so many rows, removed afterwards. Raises tests.servers.Unavailable."""

    def arrived(self, setting: Setting) -> bool:  # noqa: ARG002
        """Whether the destination has the values that it should, where counting rows does not tell."""
        return True


class Destination(ABC):
    """A system that is written to."""

    name: str

    @abstractmethod
    def empty(self, place: Place) -> AbstractContextManager[End]:
        """A new one, removed afterwards. Raises tests.servers.Unavailable."""

    @abstractmethod
    def rows(self, end: End, table: str) -> int:
        """How many there are in the table of this name, in whatever schema or file a program made it."""


class PostgresSource(Source):
    name = "postgres"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.postgres_database() as address:
            data.fill_postgres(address, self.table, rows, place.seed)
            yield End("postgresql", _connection(address), {"table": f"public.{self.table.name}"})


class ChangingPostgresSource(PostgresSource):
    """The wide table with an index on its cursor, as a table that is synced again and again should have.

    One row in CHANGED_ONE_IN is changed by each `change`: other values, and a cursor past every other.
    """

    CHANGED_ONE_IN = 10

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with super().filled(place, rows) as end:
            with postgres.connect(address_of(end)) as client:
                client.execute(f"CREATE INDEX ON {self.table.name} ({self.table.cursor})")
            yield end

    def change(self, end: End, folder: Path) -> Command:
        """Changes its tenth of the rows, and vacuums."""
        cursor, table = self.table.cursor, self.table.name
        update = (
            f"UPDATE {table} SET amount = amount + 1, {cursor} = (SELECT max({cursor}) FROM {table}) "
            f"+ id * interval '1 microsecond' WHERE id % {self.CHANGED_ONE_IN} = 0"
        )
        where = address_of(end)
        reach = ("-h", where.host, "-p", str(where.port), "-U", where.username, "-d", where.database)
        return Command(
            ("psql", "-XAtq", *reach, "-c", update, "-c", f"VACUUM ANALYZE {table}"),
            folder, {"PGPASSWORD": where.password},
        )  # fmt: skip

    def arrived(self, setting: Setting) -> bool:
        """Whether the destination, PostgreSQL too, has the changed values: no other rows have their sum."""
        select = f"SELECT max({self.table.cursor}), sum(amount) FROM {self.table.name}"
        with (
            postgres.connect(address_of(setting.source)) as source,
            postgres.connect(address_of(setting.destination)) as destination,
        ):
            schemas = destination.execute(_SCHEMAS, [self.table.name]).fetchall()
            destination.execute("SELECT set_config('search_path', %s, false)", [", ".join(schemas[0])])
            return source.execute(select).fetchone() == destination.execute(select).fetchone()


class MySQLSource(Source):
    name = "mysql"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.mysql_database() as address:
            data.fill_mysql(address, self.table, rows, place.seed)
            yield End("mysql", _connection(address), {"table": self.table.name})


class SQLiteSource(Source):
    name = "sqlite"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / "source.db"
            data.fill_sqlite(path, self.table, rows, place.seed)
            yield End("sqlite", {"database_path": str(path)}, {"table": self.table.name})


class DuckDBSource(Source):
    name = "duckdb"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / "source.duckdb"
            data.fill_duckdb(path, self.table, rows, place.seed)
            yield End("duckdb", {"path": str(path)}, {"table": self.table.name})


class FileSource(Source):
    """One file of a format."""

    def __init__(self, name: str, table: Table = WIDE) -> None:
        super().__init__(table)
        self.name = name

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / f"{self.table.name}.{self.name}"
            data.write_file(path, self.table, rows, place.seed)
            yield End(self.name, {"path": str(path)}, {"path": str(path)})


class HttpSource(Source):
    """An API on loopback, served by a process of its own: pages of 1,000 records, ready as bytes."""

    name = "http"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            file = folder / f"{self.table.name}.jsonl"
            data.write_file(file, self.table, rows, place.seed)
            server = subprocess.Popen(
                [sys.executable, str(_PROGRAMS / "serve_pages.py"), str(file)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            with server:
                if server.stdin is None or server.stdout is None:
                    raise AssertionError("both are pipes")
                port = int(server.stdout.readline())
                connection = {
                    "base_url": f"http://127.0.0.1:{port}",
                    "records": "data",
                    "pagination": {"type": "page", "page_size": 1000},
                    "resources": {self.table.name: f"/{self.table.name}"},
                }
                yield End("http", connection, {"table": self.table.name})
                server.stdin.close()


class DuckDBDestination(Destination):
    name = "duckdb"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.scratch() as folder:
            yield End("duckdb", {"path": str(folder / "warehouse.duckdb")})

    def rows(self, end: End, table: str) -> int:
        with duckdb.connect(str(end.path), read_only=True) as database:
            schemas = database.execute(_SCHEMAS.replace("%s", "?"), [table]).fetchall()
            counts = [
                database.execute(f'SELECT count(*) FROM "{schema}"."{table}"').fetchone()
                for (schema,) in schemas
            ]
        return max((found[0] for found in counts if found), default=0)


class ParquetDestination(Destination):
    name = "parquet"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.scratch() as folder:
            lake = folder / "lake"
            lake.mkdir()
            yield End("parquet", {"path": str(lake)})

    def rows(self, end: End, table: str) -> int:  # noqa: ARG002
        return sum(pq.read_metadata(file).num_rows for file in end.path.rglob("*.parquet"))


class PostgresDestination(Destination):
    name = "postgres"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.postgres_database() as address:
            yield End("postgresql", _connection(address))

    def rows(self, end: End, table: str) -> int:
        with postgres.connect(address_of(end)) as client:
            schemas = client.execute(_SCHEMAS, [table]).fetchall()
            counts = [
                client.execute(
                    sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
                ).fetchone()
                for (schema,) in schemas
            ]
        return max((found[0] for found in counts if found), default=0)


class MySQLDestination(Destination):
    """A new database, into which Atlas writes by INSERTs, or with `local_infile` by LOAD DATA LOCAL."""

    def __init__(self, *, local_infile: bool = False) -> None:
        self.name = "mysql:local_infile" if local_infile else "mysql"
        self._local_infile = local_infile

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.mysql_database() as address:
            connection = {**_connection(address), "local_infile": self._local_infile}
            yield End("mysql", connection, schema=address.database)

    def rows(self, end: End, table: str) -> int:
        with closing(mysql.connect(address_of(end))) as client, client.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            found = cursor.fetchone()
        return found[0] if found else 0


_SCHEMAS = "SELECT table_schema FROM information_schema.tables WHERE table_name = %s"


def address_of(end: End) -> ServerAddress:
    """Of a system that is a server."""
    where = end.connection
    return ServerAddress(
        str(where["host"]), int(str(where["port"])), str(where["username"]), str(where["password"]),
        str(where["database"]),
    )  # fmt: skip


def _connection(address: ServerAddress) -> dict[str, object]:
    return {
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "username": address.username,
        "password": address.password,
    }
