"""Getting into SQLite: the connection's settings, and the databases that they open."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import URL, Engine, create_engine

from atlas_etl.connectors.base import ConnectionConfig, ProjectPath
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._sqlite.driver import Driver, file_uri
from atlas_etl.errors import AtlasError, ConfigError, DestinationError

_MEMORY = ":memory:"
_WRITER_CACHE = 64 * 1024  # KiB; SQLite's own default is 2 MiB


class SqliteOptions(BaseModel):
    """Settings of a SQLite connection (https://www.sqlite.org/pragma.html)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    timeout: float = Field(default=60, ge=0, description="seconds to wait for another process's lock")
    cache_size: int | None = Field(default=None, gt=0, description="memory for pages, in KiB")
    journal_mode: Literal["wal", "delete"] | None = Field(
        default=None, description="of a file that is written; left out: as it is, and wal for a new file"
    )


class SqliteConnection(ConnectionConfig):
    """A SQLite database."""

    database_path: Literal[":memory:"] | ProjectPath = Field(
        union_mode="left_to_right", description="the database file, or :memory:"
    )
    options: SqliteOptions = Field(default_factory=SqliteOptions)

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self.database_path if isinstance(self.database_path, Path) else None

    @property
    def in_memory_without(self) -> str | None:
        return "database_path" if self.path is None else None


def open_to_read(config: SqliteConnection, raises: Failure) -> Driver:
    """A connection that cannot write. Raises SourceError or DestinationError."""
    path, options = config.path, config.options
    if path is None:
        return Driver(_MEMORY, raises=raises, timeout=options.timeout)
    _refuse_unreadable(path, raises)
    driver = Driver(file_uri(path, "ro"), raises=raises, timeout=options.timeout)
    if options.cache_size is not None:
        driver.execute(f"PRAGMA cache_size = -{options.cache_size}")
    return driver


def open_to_write(config: SqliteConnection) -> Driver:
    """A connection whose commits are on disk, to a file that is made if need be. Raises DestinationError."""
    path, options = config.path, config.options
    if path is None:
        return Driver(_MEMORY, raises=DestinationError, timeout=options.timeout)
    is_new = _make_file(path)
    driver = Driver(file_uri(path, "rw"), raises=DestinationError, timeout=options.timeout)
    try:
        if mode := options.journal_mode or ("wal" if is_new else None):
            driver.execute(f"PRAGMA journal_mode = {mode}")
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA foreign_keys = OFF")
        # So that views of a table survive its rebuilding.
        driver.execute("PRAGMA legacy_alter_table = ON")
        driver.execute(f"PRAGMA cache_size = -{options.cache_size or _WRITER_CACHE}")
    except AtlasError:
        driver.close()
        raise
    return driver


def _refuse_unreadable(path: Path, raises: Failure) -> None:
    """Say more than SQLite would. The file is not opened here, because closing it would drop its locks."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as failure:
        raise raises(
            f"there is no SQLite file at {path}",
            hint="check the path (`database_path` in a definition)",
            code="database_not_found",
        ) from failure
    except OSError as failure:
        raise raises(
            f"{path} cannot be read: {failure.strerror}",
            hint="check the permissions of its folders",
            code="not_readable",
        ) from failure
    if not is_file:
        raise raises(
            f"{path} is not a file",
            hint="check the path (`database_path` in a definition)",
            code="not_a_database",
        )
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise raises(f"{path} cannot be read", hint="check the file's permissions", code="not_readable")


def _make_file(path: Path) -> bool:
    """Make an empty database that only its owner can read, where there is none. Raises DestinationError."""
    if path.is_dir():
        raise DestinationError(f"{path} is a folder", hint="name a file in it", code="not_a_database")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return path.stat().st_size == 0
    except FileNotFoundError as failure:
        raise DestinationError(
            f"the folder {path.parent} does not exist",
            hint="make it, or change the destination's `database_path`",
            code="folder_not_found",
        ) from failure
    except OSError as failure:
        raise DestinationError(
            f"no file can be made in {path.parent}: {failure.strerror}",
            hint="check the folder's permissions and free space, or change `database_path`",
            code="not_writable",
        ) from failure
    return True


def engine(config: SqliteConnection) -> Engine:
    """An engine of Python's own sqlite3. Do not keep it open on a file that Atlas writes in this process:
    it is a second copy of SQLite, and each would drop the other's locks (see _sqlite.driver).
    """
    path = str(config.path) if config.path is not None else _MEMORY
    return create_engine(
        URL.create("sqlite", database=path), connect_args={"timeout": config.options.timeout}
    )


def dispose(client: object) -> None:
    if not isinstance(client, Engine):
        raise ConfigError("not a SQLAlchemy engine")
    client.dispose()
