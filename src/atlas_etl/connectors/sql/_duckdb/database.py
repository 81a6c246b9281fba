"""One DuckDB database: how to open it, how to quote, and what its errors mean."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from pydantic import Field, field_validator
from tenacity import RetryCallState, retry, stop_after_delay, wait_fixed

from atlas_etl.connectors.base import ConnectionConfig, ProjectPath
from atlas_etl.connectors.enclosed import ENCLOSE, NO_EXTENSIONS
from atlas_etl.connectors.sql._meaning import ONLY_TABLES, TABLE_EXISTS, Failure, computes
from atlas_etl.errors import AtlasError, DestinationError, InterruptedRunError, RefusedRowError

OUT_OF_MEMORY = "out_of_memory"
DISK_FULL = "disk_full"
_CLOSED_WITHIN = 10  # seconds
_MADE_WITHIN = 1  # second
_LOCKED_PATIENCE = 4  # whoever has the file open may load into it for long, and DuckDB itself does not wait
_IN_USE = "Unique file handle conflict"
_INVALID = "not a valid DuckDB database"
_HOLDER = re.compile(r"lock is held in .* \(PID (\d+)\)")
_READ_ONLY = "attached in read-only mode"
_CORRECT = "correct the data or the table"

HERE = "WHERE schema_name = ? AND table_name = ? AND database_name = current_database()"


class DuckDBConnection(ConnectionConfig):
    """A DuckDB database.

    It reaches no other file and no network, and loads no extension, unless `options` have
    `enable_external_access: true`.
    """

    path: ProjectPath | None = Field(default=None, description="the database file; left out: in memory")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="DuckDB settings, e.g. memory_limit, threads"
    )

    @field_validator("path", mode="before")
    @classmethod
    def _as_duckdb_has_it(cls, path: object) -> object:
        return None if path == ":memory:" else path

    @property
    def in_memory_without(self) -> str | None:
        return "path" if self.path is None else None

    @property
    def may_reach_out(self) -> bool:
        """Whether SQL may name other files, databases and extensions."""
        chosen = {name.lower(): str(value).lower() for name, value in self.options.items()}
        return chosen.get("enable_external_access") in ("true", "1", "on", "yes")


def _may_pass(state: RetryCallState) -> bool:
    """Whether a file is being let go of by another thread, or made by another process, right now."""
    failure = state.outcome.exception() if state.outcome is not None else None
    text = str(failure) if isinstance(failure, duckdb.Error) else ""
    config: DuckDBConnection = state.args[0]
    return _IN_USE in text or (_INVALID in text and config.path is not None and _is_new(config.path))


def _is_new(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _MADE_WITHIN
    except OSError:
        return False


@retry(retry=_may_pass, stop=stop_after_delay(_CLOSED_WITHIN), wait=wait_fixed(0.01), reraise=True)
def connect(config: DuckDBConnection, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open the database, sessions pinned to UTC. Raises duckdb.Error."""
    path = ":memory:" if config.path is None else str(config.path)
    settings: dict[str, str | bool | int | float | list[str]] = {**NO_EXTENSIONS, **config.options}
    try:
        opened = duckdb.connect(path, read_only=read_only and config.path is not None, config=settings)
    except duckdb.ConnectionException:
        if not read_only:
            raise
        opened = duckdb.connect(path, config=settings)  # this process already writes to the file
    opened.execute("SET TimeZone = 'UTC'")
    if not config.may_reach_out:
        opened.execute(ENCLOSE)
    return opened


_OF_VALUES = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
)
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _first_line(failure: Exception) -> str:
    return str(failure).strip().partition("\n")[0]


_MADE = re.compile(r'Table with name ".*" already exists')
_NEAR = re.compile(r'^(?:Did you mean|Candidate bindings:) ("[^?\n]+)', re.M)  # in DuckDB's second line


@contextmanager
def translated(kind: Failure) -> Iterator[None]:
    """Turn DuckDB's errors into ours, at the call that raised them."""
    try:
        yield
    except RuntimeError as stopped:  # a signal came: DuckDB swallows what its handler raised
        raise InterruptedRunError("stopped by a signal") from stopped
    except duckdb.IOException as failure:
        raise _unreachable(kind, failure) from failure
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as failure:
        line = _first_line(failure)
        if _MADE.search(line):
            raise kind(line, hint=TABLE_EXISTS.hint, code=TABLE_EXISTS.code, retryable=True) from failure
        near = _NEAR.search(str(failure))
        hint = f"did you mean {near[1]}?" if near else "check the table, the query and its columns"
        if "Ambiguous reference to catalog or schema" in line:
            hint = "the file and a schema in it are called the same: write FILE.SCHEMA.TABLE"
        raise kind(line, hint=hint, code="sql") from failure
    except duckdb.TransactionException as failure:
        line = _first_line(failure)
        if "Could not write file" in line:
            raise _unwritable(kind, line) from failure
        raise kind(line, code="conflict", retryable=True) from failure
    except duckdb.PermissionException as failure:
        raise kind(
            _first_line(failure),
            hint="a DuckDB database reaches its own file only; what you trust may reach others, with "
            "`enable_external_access: true` in the `options` of its connection",
            code="external_access",
        ) from failure
    except duckdb.OutOfMemoryException as failure:
        raise kind(
            f"DuckDB may not use more memory: {_first_line(failure)}",
            hint="raise `memory_limit` in the `options` of the DuckDB connection",
            code=OUT_OF_MEMORY,
        ) from failure
    except _OF_VALUES as failure:
        if _READ_ONLY in str(failure):
            raise kind(
                "the DuckDB file may only be read",
                hint="check the rights of the file, and whether its disk is mounted read-only",
                code="read_only",
            ) from failure
        text = _QUOTED.sub(lambda found: f"{found[0][0]}...{found[0][0]}", _first_line(failure))
        raise kind(text) from None  # the cause would tell the value
    except duckdb.Error as failure:
        raise kind(_first_line(failure)) from failure


@contextmanager
def writing() -> Iterator[None]:
    """The same for statements that write: RefusedRowError where a table does not take a row."""
    try:
        with translated(DestinationError):
            yield
    except DestinationError as failure:
        cause = failure.__context__
        if isinstance(cause, duckdb.ConstraintException):
            text = re.sub(r'key "[^"]*"', "key", _first_line(cause))  # it holds values
            raise RefusedRowError(text, hint=_CORRECT, code="constraint") from None
        if isinstance(cause, duckdb.ConversionException | duckdb.OutOfRangeException):
            raise RefusedRowError(
                "a column of the table cannot hold a value", hint=_CORRECT, code="value_does_not_fit"
            ) from None
        if "is not an table" in failure.message or "from base table" in failure.message:
            failure.hint = ONLY_TABLES
        if "generated column" in failure.message:
            raise computes("the table") from failure
        raise


def _unreachable(kind: Failure, failure: duckdb.Error) -> AtlasError:
    line = _first_line(failure)
    if "Could not set lock on file" in line:
        holder = _HOLDER.search(line)
        return kind(
            f"another process{f' (PID {holder[1]})' if holder else ''} has the DuckDB file open",
            hint="close it (a shell, a notebook, another sync), or wait for it",
            code="database_locked",
            retryable=True,
            patience=_LOCKED_PATIENCE,
        )
    if _INVALID in line:
        return kind("the file is not a DuckDB database", hint="check `path`", code="not_a_database")
    if "Could not write file" in line or "Failed to create directory" in line:  # to spill into
        return _unwritable(kind, line)
    return kind(line, hint="check that the file and its folder can be read and written", code="unreachable")


def _unwritable(kind: Failure, line: str) -> AtlasError:
    hint = "check the disk, its free space and file size limits; what was committed before is safe"
    return kind(line, hint=hint, code=DISK_FULL)
