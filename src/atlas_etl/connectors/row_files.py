"""Files of rows, as a format writes them."""

from __future__ import annotations

from typing import BinaryIO, Protocol

import pyarrow as pa


class RowWriter(Protocol):
    """One file of rows being written."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None:
        """End the file; the sink may be closed by it."""

    def abandon(self) -> None:
        """Leave the file as it is: it is about to be deleted."""


class FileForm(Protocol):
    """How a format of files writes one. Raises OSError and ArrowException."""

    def storable(self, kind: pa.DataType) -> pa.DataType:
        """The type that this one reads back as from its files."""

    def writer(self, sink: BinaryIO, schema: pa.Schema) -> RowWriter:
        """Begin a file of these columns."""
