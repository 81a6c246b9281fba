"""Looking into a database that is a file and written to: its folder, its rights and its room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from atlas_etl.connectors.examined import folder
from atlas_etl.connectors.sql._look import TableLook
from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.model import Finding, Severity, TableName


class FileTargetLook:
    """A database file that is written (_examined_target.TargetLook)."""

    def __init__(self, path: Path | None, reading: Callable[[], AbstractContextManager[TableLook]]) -> None:
        """`path` is None in memory; `reading` opens the file to read it, and raises where that cannot be."""
        self._path = path
        self._reading = reading

    def system(self, sessions: int) -> Iterator[Finding]:  # noqa: ARG002
        path = self._path
        if path is None:
            message = "it is in memory, and gone with the process"
            yield Finding("disk_space", "destination", Severity.NOTE, message)
            return
        yield from folder("destination", path.parent, holds=path.stat().st_size if path.is_file() else 0)
        if not path.exists():
            return
        if not os.access(path, os.W_OK):
            message, fix = f"{path} may not be written", f"chmod u+w {path}"
            yield Finding(
                "database_file", "destination", Severity.PROBLEM, message, fix, ExitCode.DESTINATION
            )
            return
        try:
            with self._reading():
                pass
        except AtlasError as failure:
            severity = Severity.WARNING if failure.retryable else Severity.PROBLEM
            yield Finding(
                "database_file", "destination", severity, failure.message, failure.hint, ExitCode.DESTINATION
            )
        else:
            yield Finding("database_file", "destination", Severity.OK, f"{path} can be opened")

    def table(self, table: TableName) -> Iterator[Finding]:  # noqa: ARG002
        """Whoever may write the file may make and change every table in it."""
        yield from ()

    def tables(self) -> AbstractContextManager[TableLook] | None:
        return self._reading() if self._path is not None and self._path.exists() else None
