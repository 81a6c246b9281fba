"""What the files family asks of a format: to survey, read and write files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
from msgspec import Struct, field
from pydantic import Field

from atlas_etl.connectors.base import ConnectionConfig, ProjectPath
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.known import UNKNOWN, Known
from atlas_etl.connectors.row_files import FileForm
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.model import Hazard


class FileConnection(ConnectionConfig):
    """Files of one format: a file, a glob or a folder to read, or the folder to write into."""

    path: ProjectPath = Field(description="a file, a glob such as data/orders-*.csv, or a folder")
    follow_links: bool = Field(
        default=False, description="read what links in a folder lead to, also outside of it"
    )
    group_readable: bool = Field(
        default=False, description="let the files' group read what is written (0640, folders 0750)"
    )


class Survey(Struct, frozen=True):
    """What a stream's files hold, known before the first row is given away."""

    schema: pa.Schema
    rows: int | None  # None where not all of the files were looked at
    nulls: Mapping[str, int] = field(default_factory=dict)  # NULLs by column, where they are known


class Format(FileForm, Protocol):
    """One way of laying rows out in a file. Reading raises SourceError, writing OSError or ArrowException."""

    @property
    def protocol(self) -> str: ...

    @property
    def endings(self) -> tuple[str, ...]:
        """Of its files, without their compression's: what a folder is searched for."""

    @property
    def ending(self) -> str:
        """Of the files that it writes, with their compression's."""

    @property
    def time_hazards(self) -> frozenset[Hazard]:
        """What its dates and timestamps may hold."""

    def survey(
        self, store: Store, files: Sequence[StoredFile], rows: int | None, known: Known = UNKNOWN
    ) -> Survey:
        """Columns, types and counts of the files together; of their first `rows` rows at least.

        A column without a value has the type that it is `known` by.
        """

    def batches(self, store: Store, file: StoredFile, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """One file's rows; NULL where the file lacks a column."""

    def as_written(self) -> Format:
        """The same format as Atlas writes it, whatever a connection says of the files of others."""
