"""How many rows of a Parquet file make a batch, where a few bytes of it may stand for many of a row.

A dictionary holds a value once, however often it comes: 700 bytes of a file may be 20 GB of rows. Columns
of long values are read as dictionaries, whose rows are known before they are made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_etl.connectors.files._parquet_file import ParquetSource
from atlas_etl.connectors.files._parquet_pages import dictionary_size
from atlas_etl.model import BatchLimits

_TEXT, _FIXED = "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LONG = 256  # bytes of a value
_WORST = 4  # times the bytes of a batch, were each value of it the longest of its dictionary


@dataclass(frozen=True, slots=True)
class Reading:
    """Columns to be read as dictionaries, and the rows of a batch of each row group."""

    as_dictionaries: tuple[str, ...]
    rows: Mapping[int, int]


def reading_of(source: ParquetSource, groups: Sequence[int], limits: BatchLimits) -> Reading:
    """How row groups are read within the limits. Raises pa.ArrowInvalid where the footer leads astray."""
    long = dict[str, None]()
    rows: dict[int, int] = {}
    for group in groups:
        metadata = source.file.metadata.row_group(group)
        worst = 0
        for name, leaf in source.flat.items():
            chunk = metadata.column(leaf)
            widest = _WIDTHS.get(chunk.physical_type, 0)
            if chunk.physical_type == _FIXED:
                widest = source.file.schema.column(leaf).length
            elif chunk.physical_type == _TEXT:
                widest = dictionary_size(source.raw, chunk)
                if widest > _LONG and widest * metadata.num_rows > limits.bytes:
                    widest = _longest(source.raw, source.file.metadata, group, name)
                    if widest > _LONG:
                        long[name] = None
                        widest = 0
            worst += widest
        average = metadata.total_byte_size // max(1, metadata.num_rows)
        most = min(limits.rows, limits.bytes // max(1, average), _WORST * limits.bytes // max(1, worst))
        rows[group] = max(1, most)
    return Reading(tuple(long), rows)


def pieces(batch: pa.RecordBatch, limits: BatchLimits) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that stay within the limits once each row has its value of a dictionary."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _has_length(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).cast(pa.int64())
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    if not batch.num_rows or ends[-1] <= limits.bytes:
        yield batch
        return
    start = 0
    while start < batch.num_rows:
        before = ends[start] - sizes[start]
        end = max(start + 1, int(np.searchsorted(ends, before + limits.bytes, side="right")))
        yield batch.slice(start, end - start)
        start = end


def _longest(raw: pa.NativeFile, metadata: pq.FileMetaData, group: int, name: str) -> int:
    """Bytes of the longest value of a column's dictionary, 0 without one."""
    # As an extension, such as JSON, Arrow would read it without its dictionary.
    file = pq.ParquetFile(raw, metadata=metadata, read_dictionary=[name], arrow_extensions_enabled=False)
    first = next(file.iter_batches(1, [group], [name], use_threads=False), None)
    if first is None or not pa.types.is_dictionary(first.column(0).type):
        return 0
    return int(pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 0)


def _has_length(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary
        )
    )  # fmt: skip
