"""Compression by a file's last suffix: `.gz` and `.zst`, read and written."""

from __future__ import annotations

from enum import StrEnum
from typing import BinaryIO, cast

import pyarrow as pa

from atlas_etl.connectors.files._store import Store, StoredFile


class Compression(StrEnum):
    """How files are compressed when they are written."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def suffix(self) -> str:
        return {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}[self]


def compression_of(path: str) -> Compression:
    """What the path's suffix says."""
    lower = path.lower()
    return next(
        (c for c in (Compression.GZIP, Compression.ZSTD) if lower.endswith(c.suffix)), Compression.NONE
    )


def uncompressed_name(path: str) -> str:
    """The path without its compression's suffix, in lower case."""
    return path.lower().removesuffix(compression_of(path).suffix)


def open_text(store: Store, file: StoredFile) -> pa.NativeFile:
    """The file's bytes, decompressed as they are read; a stream that ends early raises OSError."""
    compression = compression_of(file.path)
    raw = store.open(file.path)
    if compression is Compression.NONE:
        return raw
    if file.size == 0:
        raw.close()
        raise OSError("the compressed file is empty")
    return pa.CompressedInputStream(raw, compression.value)


def compressed(file: BinaryIO, compression: Compression) -> BinaryIO:
    """A sink that compresses into the file; closing it ends the stream and closes the file."""
    if compression is Compression.NONE:
        return file
    return cast(BinaryIO, pa.CompressedOutputStream(file, compression.value))
