"""The data files that one load writes: aside first, each with its edges, none too large to read."""

from __future__ import annotations

import re
from uuid import uuid4

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._manifest import DataFile
from atlas_etl.connectors.files._order import cursor_text
from atlas_etl.connectors.files._store import NewFile, Store
from atlas_etl.connectors.order import Edges
from atlas_etl.connectors.row_files import RowWriter

# Ours, and nobody else's: the sweep deletes by this pattern. With a dot until the load commits.
_OWN_NAME = re.compile(r"^\.?atlas-[0-9a-f]{32}\.[a-z.]+$")


class Sizes(Struct, frozen=True):
    """How large files get, in bytes of Arrow data; compressed files are a fraction of it."""

    file: int = 256 * 1024 * 1024  # a data file ends when it has so many
    tail: int = 32 * 1024 * 1024  # kept in memory to cut a tail out of
    small: int = 4 * 1024 * 1024  # on disk: files of fewer are made one...
    many: int = 100  # ...where there are so many of them


def is_own_name(name: str) -> bool:
    """Whether only Atlas gives names like this one."""
    return _OWN_NAME.match(name) is not None


def aside(name: str) -> str:
    """What a data file is called until its load commits: hidden from listings and globs."""
    return f".{name}"


class Parts:
    """A sequence of data files being written into one folder."""

    def __init__(
        self,
        store: Store,
        form: Format,
        folder: str,
        schema: pa.Schema,
        *,
        schema_version: int,
        cursor: str | None,
        sizes: Sizes,
    ) -> None:
        self._store = store
        self._format = form
        self._folder = folder
        self._schema = schema
        self._version = schema_version
        self._cursor = cursor
        self._file_bytes = sizes.file
        self._open: tuple[NewFile, RowWriter] | None = None
        self._current = DataFile("", 0, 0, schema_version)
        self._edges = Edges()
        self._size = 0
        self.files: list[DataFile] = []  # ended ones

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows of the schema."""
        if batch.num_rows == 0:
            return
        _, writer = self._open or self._begin()
        writer.write(batch)
        self._current = replace(self._current, rows=self._current.rows + batch.num_rows)
        self._size += batch.nbytes
        if self._cursor is not None:
            self._edges = self._edges.with_column(batch.column(self._cursor))
        if self._size >= self._file_bytes:
            self.end_file()

    def write_empty(self) -> None:
        """A file without rows, so that readers of the folder know the columns."""
        self._begin()
        self.end_file()

    def end_file(self) -> None:
        """Make what was written so far a file of its own, on disk."""
        if self._open is None:
            return
        file, writer = self._open
        writer.close()
        size = file.keep()
        self._open = None
        low, high = cursor_text(self._edges.low), cursor_text(self._edges.high)
        self.files.append(
            replace(
                self._current,
                bytes=size,
                cursor=self._cursor,
                low=low,
                high=high,
                nulls=self._edges.nulls,
            )
        )

    def drop(self) -> None:
        """Delete the file that is being written; those that ended stay."""
        if self._open is not None:
            file, writer = self._open
            writer.abandon()
            file.drop()
            self._open = None

    def _begin(self) -> tuple[NewFile, RowWriter]:
        name = f"atlas-{uuid4().hex}{self._format.ending}"
        file = self._store.create(f"{self._folder}/{aside(name)}")
        try:
            self._open = (file, self._format.writer(file.sink, self._schema))
        except BaseException:
            file.drop()
            raise
        self._current = DataFile(name, 0, 0, self._version)
        self._edges, self._size = Edges(), 0
        return self._open
