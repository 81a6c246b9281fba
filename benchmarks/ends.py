"""Both ends of a path: sources that hold the wide table, and empty destinations; a class adds one."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.servers import ServerAddress, mysql, postgres

from benchmarks import data


@dataclass(frozen=True, slots=True)
class End:
    """One system as Atlas's definitions write it: protocol and connection, the password among its keys."""

    protocol: str
    connection: Mapping[str, str | int] = field(repr=False)
    stream: Mapping[str, str] = field(default_factory=dict)  # what is read: a table or a path

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
        self._copy_file: tuple[int, Path] | None = None

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

    def copy_file(self, rows: int) -> Path:
        """The wide table as PostgreSQL's binary COPY writes it; the last one made is kept."""
        if self._copy_file is None or self._copy_file[0] != rows:
            path = self.folder / "wide.copy"
            with self.postgres_database() as address:
                data.fill_postgres(address, rows, self.seed)
                data.copy_out(address, path)
            self._copy_file = rows, path
        return self._copy_file[1]

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
    rows: int
    source: End
    destination: End
    folder: Path


class Source(ABC):
    """A system that is read from."""

    name: str

    @abstractmethod
    def filled(self, place: Place, rows: int) -> AbstractContextManager[End]:
        """The wide table with so many rows, removed afterwards. Raises tests.servers.Unavailable."""


class Destination(ABC):
    """A system that is written to."""

    name: str

    @abstractmethod
    def empty(self, place: Place) -> AbstractContextManager[End]:
        """A new one, removed afterwards. Raises tests.servers.Unavailable."""


class PostgresSource(Source):
    name = "postgres"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.postgres_database() as address:
            data.fill_postgres(address, rows, place.seed)
            yield End("postgresql", _connection(address), {"table": f"public.{data.TABLE}"})


class MySQLSource(Source):
    name = "mysql"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.mysql_database() as address:
            data.fill_mysql(address, rows, place.seed)
            yield End("mysql", _connection(address), {"table": data.TABLE})


class SQLiteSource(Source):
    name = "sqlite"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / "source.db"
            data.fill_sqlite(path, rows, place.seed)
            yield End("sqlite", {"database_path": str(path)}, {"table": data.TABLE})


class DuckDBSource(Source):
    name = "duckdb"

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / "source.duckdb"
            data.fill_duckdb(path, rows, place.seed)
            yield End("duckdb", {"path": str(path)}, {"table": data.TABLE})


class FileSource(Source):
    """One file of a format."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextmanager
    def filled(self, place: Place, rows: int) -> Iterator[End]:
        with place.scratch() as folder:
            path = folder / f"{data.TABLE}.{self.name}"
            data.write_file(path, rows, place.seed)
            yield End(self.name, {"path": str(path)}, {"path": str(path)})


class DuckDBDestination(Destination):
    name = "duckdb"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.scratch() as folder:
            yield End("duckdb", {"path": str(folder / "warehouse.duckdb")})


class ParquetDestination(Destination):
    name = "parquet"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.scratch() as folder:
            yield End("parquet", {"path": str(folder / "lake")})


class PostgresDestination(Destination):
    name = "postgres"

    @contextmanager
    def empty(self, place: Place) -> Iterator[End]:
        with place.postgres_database() as address:
            yield End("postgresql", _connection(address))


def _connection(address: ServerAddress) -> dict[str, str | int]:
    return {
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "username": address.username,
        "password": address.password,
    }
