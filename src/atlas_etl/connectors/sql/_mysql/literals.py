"""Rows as the text of an INSERT, built column by column: no Python object per value.

The literals mean the same in every SQL mode: a text with a backslash is written as the hexadecimal digits of
its bytes. Numbers are whole digits or quoted, so that none passes through another type.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.sql._mysql.sent import ROWS, is_bare, is_plain, sent, word


def row_texts(
    batch: pa.RecordBatch,
) -> Iterator[tuple[memoryview, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
    """The rows as `(1,'a'),(2,NULL),`, and where each of them begins and the last one ends.

    Raises RefusedRowError for a value that MySQL cannot hold.
    """
    for start in range(0, batch.num_rows, ROWS):
        part = batch.slice(start, ROWS)
        cells = [
            pc.fill_null(_literals(column, field.name), word("NULL"))
            for column, field in zip(part.columns, part.schema, strict=True)
        ]
        joined = pc.binary_join_element_wise(*cells, word(","))
        rows = pc.binary_join_element_wise(word("("), joined, word("),"), word(""))
        _, offsets, data = rows.buffers()
        places = np.frombuffer(offsets, np.int64)[rows.offset : rows.offset + len(rows) + 1]
        yield memoryview(data), places


def _around(before: str, cells: pa.Array, after: str) -> pa.Array:
    return pc.binary_join_element_wise(word(before), cells, word(after), word(""))


def _literals(column: pa.Array, name: str) -> pa.Array:
    """Every cell as SQL, NULL where it is NULL."""
    texts, kind = sent(column, name), column.type
    if is_bare(kind):
        return texts
    if is_plain(kind):
        return _around("x'" if pa.types.is_binary(kind) else "'", texts, "'")
    return _quoted(texts)


def _quoted(texts: pa.Array) -> pa.Array:
    plain = _around("'", pc.replace_substring(texts, "'", "''"), "'")
    backslash = pc.match_substring(texts, "\\")
    if not pc.any(backslash).as_py():
        return plain
    return pc.if_else(backslash, _around("_utf8mb4 x'", values.hexadecimal(texts), "'"), plain)
