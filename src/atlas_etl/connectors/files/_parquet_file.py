"""One Parquet file opened for reading: its columns as Atlas holds them, and what its statistics prove."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from atlas_etl.connectors.columns import repeated
from atlas_etl.connectors.files._codec import check_ratio
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._parquet_pages import unpacked_sizes
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.files._types import as_held, held
from atlas_etl.connectors.order import before
from atlas_etl.connectors.row_source import LowerBound
from atlas_etl.errors import HazardError, SourceError

_INT96 = "INT96"  # Impala's and Spark's old timestamp: nanoseconds of a day, and a day
_NANOSECONDS_END = 2**63 // 1000  # microseconds from 1970 that int64 nanoseconds reach


class ParquetSource(Struct, frozen=True):
    """An open Parquet file: as Arrow reads it, and its bytes.

    `flat` are its columns that are not nested, with their leaf's index.
    """

    path: str
    file: pq.ParquetFile
    raw: pa.NativeFile
    flat: Mapping[str, int]

    @property
    def schema(self) -> pa.Schema:
        return self.file.schema_arrow

    def int96(self) -> list[str]:
        """Columns whose unit Arrow has to be told."""
        return [
            name for name, leaf in self.flat.items() if self.file.schema.column(leaf).physical_type == _INT96
        ]

    def nulls(self, name: str) -> int | None:
        """How many NULLs a column has, where the statistics of every row group count them."""
        if name not in self.flat:
            return None
        count = 0
        for group in range(self.file.num_row_groups):
            statistics = self.file.metadata.row_group(group).column(self.flat[name]).statistics
            if statistics is None or not statistics.has_null_count:
                return None
            count += int(statistics.null_count)
        return count

    def ends_before(self, group: int, bound: LowerBound) -> bool:
        """Whether the statistics prove that no row of a row group is wanted."""
        if bound.column not in self.flat:
            return False
        kind = self.schema.field(bound.column).type
        column = self.file.metadata.row_group(group).column(self.flat[bound.column])
        statistics = column.statistics
        ordered = pa.types.is_integer(kind) or pa.types.is_date32(kind) or pa.types.is_timestamp(kind)
        if not ordered or column.physical_type == _INT96 or statistics is None or not statistics.has_min_max:
            return False
        if bound.with_nulls and not (statistics.has_null_count and statistics.null_count == 0):
            return False
        if pa.types.is_integer(kind):
            greatest = pa.array([statistics.max], kind)
        else:
            raw = pa.int32() if pa.types.is_date32(kind) else pa.int64()
            greatest = pa.array([statistics.max_raw], raw).view(kind)
        return before(as_held(greatest, bound.value.type)[0], bound.value)


@contextmanager
def opened(
    store: Store,
    file: StoredFile,
    unit: str = "us",
    *,
    as_dictionaries: Sequence[str] = (),
    largest_ratio: int | None = None,
) -> Iterator[ParquetSource]:
    """Open a file; its INT96 timestamps are read in this unit. Raises SourceError.

    A file is refused (`too_compressed`) by the sizes that its footer declares, before anything is unpacked.
    """
    with (
        reading(file.path),
        store.open(file.path) as source,
        pq.ParquetFile(
            source,
            buffer_size=1 << 20,
            pre_buffer=False,
            coerce_int96_timestamp_unit=unit,
            page_checksum_verification=True,
            read_dictionary=as_dictionaries,
            arrow_extensions_enabled=not as_dictionaries,  # which are read without their dictionaries
        ) as parquet,
    ):
        groups = (parquet.metadata.row_group(group) for group in range(parquet.num_row_groups))
        check_ratio(file.path, file.size, sum(group.total_byte_size for group in groups), largest_ratio)
        names = parquet.schema_arrow.names
        twice = repeated(names)
        if twice is not None:
            raise SourceError(
                f"{file.path} has two columns named {twice!r}",
                hint="write the file again with a name of its own for each column",
                code="duplicate_column",
                column=twice,
            )
        leaves = (parquet.schema.column(index) for index in range(parquet.metadata.num_columns))
        flat = {leaf.path: index for index, leaf in enumerate(leaves) if leaf.path == leaf.name}
        yield ParquetSource(file.path, parquet, source, {n: i for n, i in flat.items() if n in names})


def check_pages(
    file: StoredFile, source: ParquetSource, groups: Iterable[int], largest_ratio: int | None
) -> None:
    """Refuse row groups by the sizes that their pages tell, which no page exceeds: a footer may lie.

    Raises SourceError (`too_compressed`), and pa.ArrowInvalid for what are no pages.
    """
    if largest_ratio is None:
        return
    size = 0
    for group in groups:
        metadata = source.file.metadata.row_group(group)
        for column in range(metadata.num_columns):
            leaf = source.file.schema.column(column)
            for part in unpacked_sizes(source.raw, metadata.column(column), leaf):
                size += part
                check_ratio(file.path, file.size, size, largest_ratio)


def kinds(store: Store, file: StoredFile, source: ParquetSource) -> dict[str, pa.DataType]:
    """The file's columns as Atlas holds them; NULL's own type where the file knows no other."""
    found = {f.name: f.type if pa.types.is_null(f.type) else held(f.type) for f in source.schema}
    int96 = source.int96()
    if int96 and _has_nanoseconds(store, file, int96):
        found |= dict.fromkeys(int96, pa.timestamp("ns"))
    return found


def _has_nanoseconds(store: Store, file: StoredFile, names: list[str]) -> bool:
    """Whether INT96 columns hold parts of a microsecond; then their years must be those of nanoseconds.

    INT96 has the range of microseconds and the precision of nanoseconds, and no 64-bit timestamp has both.
    Arrow wraps what does not fit, so that the difference modulo 2**64 is exact all the same.
    """
    fine = far = False
    with opened(store, file) as micros, opened(store, file, "ns") as nanos:
        readers = [source.file.iter_batches(columns=names, use_threads=False) for source in (micros, nanos)]
        for coarse_batch, fine_batch in zip(*readers, strict=True):
            for coarse_column, fine_column in zip(coarse_batch.columns, fine_batch.columns, strict=True):
                coarse = _numbers(coarse_column)
                with np.errstate(over="ignore"):
                    fine |= bool(np.any(_numbers(fine_column) != coarse * 1000))
                far |= bool(np.any(np.abs(coarse) >= _NANOSECONDS_END))
    if fine and far:
        raise HazardError(
            f"{file.path} holds INT96 timestamps with nanoseconds, and others too far away to have them",
            hint="write the file again with timestamps in microseconds",
            code="value_does_not_fit",
        )
    return fine


def _numbers(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(column.cast(pa.int64()).fill_null(0), dtype=np.int64)
