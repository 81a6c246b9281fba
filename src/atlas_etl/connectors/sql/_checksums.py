"""Checksums of rows that a SQL system computes itself, so that equal tables need not be sent to be compared.

A row's text is its cells one after another: `-` for NULL, else the length of the cell's text, a colon, and
that text. The MD5 of it chooses one of 4096 buckets by its first 12 bits, and its last 64 bits are summed up.
Only checksums of the same system are comparable: each writes values in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
from msgspec import Struct

from atlas_etl import values

_MODULUS = 2**64
NAMES = ("bucket", "n", "total")  # what `Checksums.select` gives, each as text


class CellText(Struct, frozen=True):
    """How a column's cells are written: the SQL, and what the text is a form of.

    Of two columns with the same form, equal texts are equal values, and no others are.
    """

    form: str
    sql: str


class Checksums(Protocol):
    """How one system computes them."""

    def cell(self, select: str, native: str, kind: pa.DataType) -> CellText | None:
        """The text of a column of this Arrow type, which is read by `select`; None where none is exact."""

    def select(self, cells: Sequence[str], rows: str) -> str:
        """The statement over `rows` (relation and condition): a bucket's first three hexadecimal digits, how
        many rows it has, and the sum of their numbers, signed or not.
        """


def form_of(kind: pa.DataType) -> str | None:
    """A name for the type, the same where a system writes values in the same way; None for nested types."""
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_decimal(kind):
        return f"decimal of scale {kind.scale}"
    if pa.types.is_string(kind) or kind in (pa.json_(), values.UNLIMITED_DECIMAL):
        return "text"
    return None if pa.types.is_nested(kind) else str(kind)


def read_buckets(rows: Iterable[Mapping[str, str | None]]) -> Mapping[int, tuple[int, int]] | None:
    """By bucket, how many rows and their sum modulo 2**64; None where a row was too long for the system."""
    found: dict[int, tuple[int, int]] = {}
    for row in rows:
        bucket, count, total = (row[name] for name in NAMES)
        if bucket is None or count is None or total is None:
            return None
        found[int(bucket, 16)] = (int(count), int(total) % _MODULUS)
    return found
