"""Compression by a file's last suffix: `.gz` and `.zst`, read and written."""

from __future__ import annotations

import io
from enum import StrEnum
from typing import Annotated, BinaryIO, cast

import pyarrow as pa
from pydantic import Field

from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.errors import SourceError

LARGEST_RATIO = 200  # of what people store; a bomb of zeros reaches a thousand with gzip, and more with zstd
_UNSUSPICIOUS = 256 * 1024 * 1024  # bytes that any file may unpack to

LargestRatio = Annotated[
    int, Field(ge=1, description="how many times its size a compressed file may unpack to, past 256 MiB")
]


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


def open_text(store: Store, file: StoredFile, largest_ratio: int | None) -> pa.NativeFile:
    """The file's bytes, decompressed as they are read; a stream that ends early raises OSError.

    One that grows past 256 MiB and past `largest_ratio` times its file raises SourceError (`too_compressed`).
    """
    compression = compression_of(file.path)
    raw = store.open(file.path)
    if compression is Compression.NONE:
        return raw
    if file.size == 0:
        raw.close()
        raise OSError("the compressed file is empty")
    unpacked = pa.CompressedInputStream(raw, compression.value)
    if largest_ratio is None:
        return unpacked
    return pa.PythonFile(_Bounded(unpacked, file, largest_ratio), mode="r")


def check_ratio(path: str, size: int, unpacked: int, largest_ratio: int | None) -> None:
    """Raises SourceError (`too_compressed`) where a file of this size unpacks to too many bytes."""
    if largest_ratio is not None and unpacked > max(_UNSUSPICIOUS, size * largest_ratio):
        raise SourceError(
            f"{path} unpacks to more than {largest_ratio} times its size",
            hint="raise `largest_ratio` of the connection, if you trust the file",
            code="too_compressed",
        )


class _Bounded(io.RawIOBase):
    """A stream that grows no further than its file's size allows."""

    def __init__(self, source: pa.NativeFile, file: StoredFile, largest_ratio: int) -> None:
        self._source = source
        self._file = file
        self._ratio = largest_ratio
        self._read = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        found: bytes = self._source.read(size)
        self._read += len(found)
        check_ratio(self._file.path, self._file.size, self._read, self._ratio)
        return found

    def close(self) -> None:
        self._source.close()
        super().close()


def compressed(file: BinaryIO, compression: Compression) -> BinaryIO:
    """A sink that compresses into the file; closing it ends the stream and closes the file."""
    if compression is Compression.NONE:
        return file
    return cast(BinaryIO, pa.CompressedOutputStream(file, compression.value))
