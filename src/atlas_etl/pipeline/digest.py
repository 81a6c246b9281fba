"""A digest of rows that does not depend on their order: buckets of counts and sums.

A row's text is its cells one after another: `-` for NULL, else the length of the cell's canonical text in
UTF-8 bytes, a colon, and that text (`values.to_text`; the zeros of floats have no sign). The MD5 of it is two
64-bit numbers, high and low. The first 12 bits choose the row's bucket, which counts its rows and sums up
their low numbers modulo 2**64: a row that is there twice shows, which an exclusive or would not tell. Two
sides whose buckets are all equal have the same rows, but for a chance of 2**-64 per differing bucket.

MD5 is no protection against somebody who wants two rows to look alike; it is what every database computes.
"""

from __future__ import annotations

from hashlib import md5
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values

BUCKETS = 4096
_BUCKET_SHIFT = np.uint64(64 - 12)

_NOTHING, _COLON, _NULL = (pa.scalar(text, pa.large_string()) for text in ("", ":", "-"))

Hashes = npt.NDArray[np.uint64]
Digests = npt.NDArray[np.uint64]
"""Two columns: the high and the low number of each row."""


class Buckets:
    """The digest of some rows, in constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int64)
        self.sums = np.zeros(BUCKETS, np.uint64)

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def add(self, digests: Digests) -> None:
        """Take more rows."""
        buckets = bucket_of(digests)
        self.counts += np.bincount(buckets, minlength=BUCKETS)
        np.add.at(self.sums, buckets, digests[:, 1])

    def differing(self, other: Buckets) -> npt.NDArray[np.bool_]:
        """By bucket, whether it holds other rows there than here."""
        same: npt.NDArray[np.bool_] = (self.counts == other.counts) & (self.sums == other.sums)
        return ~same


def bucket_of(digests: Digests) -> npt.NDArray[np.int64]:
    """The bucket of each row."""
    return (digests[:, 0] >> _BUCKET_SHIFT).astype(np.int64)


def row_digests(batch: pa.RecordBatch) -> Digests:
    """The digest of each row; two sides agree where the batches have the same columns and types."""
    return _md5_of(_row_texts(batch))


def _row_texts(batch: pa.RecordBatch) -> pa.Array:
    cells = [_cells(column) for column in batch.columns]
    return pc.binary_join_element_wise(*cells, _NOTHING)


def _cells(column: pa.Array) -> pa.Array:
    text = values.to_text(_without_signed_zeros(column)).cast(pa.large_string())
    size = pc.binary_length(text).cast(pa.large_string())
    return pc.fill_null(pc.binary_join_element_wise(size, text, _COLON), _NULL)


def _without_signed_zeros(column: pa.Array) -> pa.Array:
    """MySQL and SQLite have no negative zero; adding zero to it gives the other."""
    return pc.add(column, pa.scalar(0, column.type)) if pa.types.is_floating(column.type) else column


def _md5_of(texts: pa.Array) -> Digests:
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1].tolist()
    content = memoryview(data) if data is not None else memoryview(b"")
    hashed = b"".join(
        md5(content[start:end], usedforsecurity=False).digest() for start, end in pairwise(places)
    )
    return np.frombuffer(hashed, ">u8").astype(np.uint64).reshape(-1, 2)
