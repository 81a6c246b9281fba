"""A query's rows as one file: CSV, JSON lines or Parquet, in the forms that destinations of files have."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.config.atomic import mode_for_data, replacing
from atlas_etl.connectors import registry
from atlas_etl.connectors.row_files import FileForm
from atlas_etl.contracts import Answer
from atlas_etl.errors import DestinationError, UsageError

STDOUT = "-"
_FORMATS = ("csv", "jsonl", "parquet")
_ENDING = re.compile(r"\.(csv|jsonl|ndjson|parquet)(\.gz|\.zst)?$", re.IGNORECASE)
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class Export(Struct, frozen=True):
    """Where rows go, None: standard output; and in which format."""

    path: Path | None
    protocol: str
    compression: str | None = None

    def form(self) -> FileForm:
        adapter = registry.load(self.protocol)
        settings = {"compression": self.compression} if self.compression else {}
        config = adapter.connection.model_validate({"path": self.path or STDOUT, **settings})
        if adapter.form is None:
            raise UsageError(f"{self.protocol} is no format of files")
        form: FileForm = adapter.form(config)
        return form


def export_to(text: str) -> Export:
    """A format's name or `-`, which is CSV: to standard output; else a file. Raises UsageError."""
    if text == STDOUT or text in _FORMATS:
        return Export(None, "csv" if text == STDOUT else text)
    ending = _ENDING.search(text)
    if ending is None:
        raise UsageError(
            f"--to {text}: neither a format nor a file whose ending is one",
            hint="csv, jsonl, parquet or - go to standard output; rows.csv(.gz), .jsonl, .parquet are files",
        )
    protocol = "jsonl" if ending[1].lower() == "ndjson" else ending[1].lower()
    compression = _COMPRESSIONS.get((ending[2] or "").lower())
    if protocol == "parquet" and compression:
        raise UsageError(f"--to {text}: Parquet is compressed by itself", hint="leave out the last ending")
    return Export(Path(os.path.abspath(text)), protocol, compression)


def write_file(answer: Answer, export: Export, path: Path, is_over: Callable[[], bool]) -> int:
    """Write the rows to a file, which takes the place of one that is there once it is whole; how many.

    What is no file of its own (a pipe, /dev/null) is written as it is. Raises DestinationError.
    """
    try:
        with _opened(path) as file:
            return write_rows(answer, export, file, is_over)
    except OSError as failure:
        raise DestinationError(
            f"{path} cannot be written: {failure.strerror or failure}",
            hint="check its folder and the room on the disk; a file that was there is as it was",
            code="file_unwritable",
        ) from None


def write_rows(answer: Answer, export: Export, sink: BinaryIO, is_over: Callable[[], bool]) -> int:
    """Write the rows until nobody takes them any more; how many were. Raises UsageError and OSError."""
    form = export.form()
    twice = [name for name, count in Counter(answer.schema.names).items() if count > 1]
    if twice:
        raise UsageError(
            f"two columns of the answer are called {twice[0]!r}",
            hint="give one another name with AS",
            code="query",
        )
    stored = [field.with_type(form.storable(field.type)).with_nullable(True) for field in answer.schema]
    schema = pa.schema([pa.field(field.name, field.type) for field in stored])
    writer, rows = form.writer(sink, schema), 0
    try:
        for batch in answer.batches:
            columns = [
                values.convert(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)
            ]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))
            rows += batch.num_rows
            if is_over():
                break
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with replacing(path, mode_for_data(path)) as file:
            yield file
