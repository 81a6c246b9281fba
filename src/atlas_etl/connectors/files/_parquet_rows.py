"""How many rows of a Parquet file make a batch, where a few bytes of it may stand for many of a row.

A dictionary holds a value once, however often it comes: 700 bytes of a file may be 20 GB of rows. Columns
of long values are read as dictionaries, whose rows are known before they are made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from atlas_etl.connectors.files._codec import check_ratio
from atlas_etl.connectors.files._parquet_file import ParquetSource
from atlas_etl.connectors.files._parquet_pages import dictionary_size, value_count
from atlas_etl.connectors.files._store import StoredFile
from atlas_etl.model import BatchLimits

_TEXT, _FIXED = "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"
_Sizes = npt.NDArray[np.int64]
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LONG, _INDEX = 256, 4  # bytes of a value, and of its place in a dictionary
_WORST = 4  # times the bytes of a batch, were each value of it the longest of its dictionary


class Reading(Struct, frozen=True):
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
        size = metadata.total_byte_size
        for leaf in range(metadata.num_columns):
            chunk, path = metadata.column(leaf), source.file.schema.column(leaf).path
            if path in source.flat:
                continue
            count = value_count(source.raw, chunk)
            size += count * _INDEX
            if chunk.physical_type == _TEXT and dictionary_size(source.raw, chunk) * count > limits.bytes:
                long[path] = None
        average = size // max(1, metadata.num_rows)
        most = min(limits.rows, limits.bytes // max(1, average), _WORST * limits.bytes // max(1, worst))
        rows[group] = max(1, most)
    return Reading(tuple(long), rows)


def batches_of(
    source: ParquetSource, group: int, rows: int, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """A row group, so many rows at a time. Raises pa.ArrowInvalid where it has not the rows its footer tells.

    Of a column whose pages end early Arrow says nothing: it leaves out the rows of all.
    """
    there, told = 0, source.file.metadata.row_group(group).num_rows
    for batch in source.file.iter_batches(rows, [group], columns, use_threads=False):
        there += batch.num_rows
        yield batch
    if there != told:
        raise pa.ArrowInvalid(f"{there:,} of the {told:,} rows that it declares are in row group {group}")


def pieces(
    file: StoredFile, batch: pa.RecordBatch, limits: BatchLimits, largest_ratio: int | None
) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that stay within the limits once each row has its values of dictionaries.

    Raises SourceError (`too_compressed`) for a row that by itself is more than its file may unpack to.
    """
    sizes = sum(map(_unfolded, batch.columns), start=np.zeros(batch.num_rows, np.int64))
    ends = np.cumsum(sizes)
    if not batch.num_rows or ends[-1] <= limits.bytes:
        yield batch
        return
    check_ratio(file.path, file.size, int(sizes.max()), largest_ratio)
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


def _unfolded(values: pa.Array) -> _Sizes:
    """Bytes that each value has of dictionaries, also of those within it."""
    kind = values.type
    if pa.types.is_dictionary(kind) and _has_length(kind.value_type):
        lengths = pc.binary_length(values.dictionary).cast(pa.int64())
        return np.asarray(pc.fill_null(lengths.take(values.indices), 0), np.int64)
    found = np.zeros(len(values), np.int64)
    if not _is_folded(kind):
        return found
    if pa.types.is_struct(kind):
        return sum(map(_unfolded, values.flatten()), start=found)
    items, counts = _items(values)
    ends = np.cumsum(counts)
    total = np.concatenate((found[:0], [0], np.cumsum(_unfolded(items))))
    return np.asarray(total[ends] - total[ends - counts], np.int64)


def _is_folded(kind: pa.DataType) -> bool:
    """Whether there are dictionaries within it."""
    if pa.types.is_dictionary(kind):
        return True
    return any(_is_folded(kind.field(place).type) for place in range(kind.num_fields))


def _items(lists: pa.Array) -> tuple[pa.Array, _Sizes]:
    """The items of all lists, and how many each has."""
    if pa.types.is_map(lists.type):  # which has no such functions
        ends = np.asarray(lists.offsets, np.int64)
        return lists.values.slice(ends[0], ends[-1] - ends[0]), ends[1:] - ends[:-1]
    return lists.flatten(), np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)


def _has_length(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary
        )
    )  # fmt: skip
