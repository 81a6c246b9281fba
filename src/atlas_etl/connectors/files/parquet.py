"""Parquet files, read and written.

Written: zstd, row groups of up to a million rows or 32 MiB, statistics, a page index and page checksums, and
dictionaries of texts that come again and again. What is live is in each stream's manifest; in DuckDB, for
people:

    SET VARIABLE live = (SELECT list('lake/shop/orders/' || file.name) FROM (
        SELECT unnest(files) AS file FROM read_json('lake/shop/orders/_atlas_manifest.json')));
    SELECT * FROM read_parquet(getvariable('live'), union_by_name = true);

and in pandas: `pd.read_parquet([f"{folder}/{file['name']}" for file in
json.load(open(manifest))["files"]])`. A plain `read_parquet('lake/shop/orders/*.parquet')` gives the same
rows while no sync is running and none was killed since the last one. DuckDB reads decimals of more than 38
digits as doubles; `atlas query` gives their text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_etl import values
from atlas_etl.connectors.columns import repeated
from atlas_etl.connectors.files._adapter import adapter
from atlas_etl.connectors.files._codec import LARGEST_RATIO, LargestRatio
from atlas_etl.connectors.files._format import FileConnection, Survey
from atlas_etl.connectors.files._parquet_file import check_pages, kinds, opened
from atlas_etl.connectors.files._parquet_rows import batches_of, pieces, reading_of
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.files._types import as_held, held, wider
from atlas_etl.connectors.known import UNKNOWN, Known
from atlas_etl.connectors.row_files import RowWriter
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import ConfigError, HazardError, SourceError
from atlas_etl.model import Hazard

_GROUP_ROWS, _GROUP_BYTES = 1_048_576, 32 * 1024 * 1024
_WRITE_BYTES = 4 * 1024 * 1024
_SAMPLE_ROWS, _REPEATS = 65_536, 50  # a dictionary pays where a value comes so often
_FIRST_ROWS = 4096
_TEXTS = (pa.string(), pa.list_(pa.string()), pa.json_())


class ParquetConnection(FileConnection):
    """Parquet files."""

    largest_ratio: LargestRatio = LARGEST_RATIO


class ParquetFormat:
    """Parquet (https://parquet.apache.org/docs/file-format/)."""

    protocol = "parquet"
    endings = (".parquet", ".pq")
    ending = ".parquet"
    time_hazards = frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE, Hazard.TIME_RANGE})

    def __init__(self, largest_ratio: int | None = None) -> None:
        """`largest_ratio` is that of `opened`."""
        self._largest_ratio = largest_ratio

    def survey(
        self, store: Store, files: Sequence[StoredFile], rows: int | None, known: Known = UNKNOWN
    ) -> Survey:
        found: dict[str, pa.DataType] = {}
        native: dict[str, str] = {}
        nulls: dict[str, int | None] = {}
        count = 0
        for file in files:
            with opened(store, file, largest_ratio=self._largest_ratio) as source:
                if source.int96():  # whose values are looked at
                    check_pages(file, source, range(source.file.num_row_groups), self._largest_ratio)
                here = kinds(store, file, source)
                for name in dict.fromkeys((*found, *here)):
                    if name in here:
                        found[name] = _unified(found.get(name, pa.null()), here[name], name, file.path)
                        native.setdefault(name, str(source.schema.field(name).type))
                    missing = source.nulls(name) if name in here else source.file.metadata.num_rows
                    so_far = nulls.get(name, count)
                    nulls[name] = None if missing is None or so_far is None else so_far + missing
                count += source.file.metadata.num_rows
            if rows is not None and count >= rows:
                break
        fields = [
            values.with_source_type(
                pa.field(name, (known.type_of(name) if pa.types.is_null(kind) else None) or held(kind)),
                native[name],
            )
            for name, kind in found.items()
        ]
        counted = {name: missing for name, missing in nulls.items() if missing is not None}
        return Survey(pa.schema(fields), count if rows is None else None, counted)

    def batches(self, store: Store, file: StoredFile, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        nanoseconds = {field.name for field in wanted.schema if field.type == pa.timestamp("ns")}
        with opened(store, file, largest_ratio=self._largest_ratio) as source:
            unit = "ns" if nanoseconds.intersection(source.int96()) else "us"
            groups = [
                group
                for group in range(source.file.num_row_groups)
                if wanted.bound is None or not source.ends_before(group, wanted.bound)
            ]
            check_pages(file, source, groups, self._largest_ratio)
            reading = reading_of(source, groups, wanted.limits)
        with opened(store, file, unit, as_dictionaries=reading.as_dictionaries) as source:
            there = [name for name in wanted.schema.names if name in source.schema.names]
            for name in there:
                _refuse_repeated(source.schema.field(name).type, name, file.path)
            for group, rows in reading.rows.items():
                # Without columns of its own a file still has rows: those of a column to count them by.
                chosen = there or source.schema.names[:1]
                for batch in batches_of(source, group, rows, chosen):
                    for piece in pieces(file, batch, wanted.limits, self._largest_ratio):
                        yield _in_schema(piece, wanted.schema, file.path)

    def as_written(self) -> ParquetFormat:
        return self

    def storable(self, kind: pa.DataType) -> pa.DataType:
        kept = held(kind)
        return pa.string() if pa.types.is_interval(kept) else kept

    def writer(self, sink: BinaryIO, schema: pa.Schema) -> RowWriter:
        return _Writer(sink, schema)


class _Writer:
    """Gathers batches into row groups."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema) -> None:
        # Few large writes: at each, Arrow waits for Python, which another thread keeps busy with reading.
        self._sink = pa.output_stream(sink, buffer_size=_WRITE_BYTES)
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None  # once the first rows tell what a dictionary is good for
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._end_group()

    def close(self) -> None:
        self._end_group()
        self._opened(pa.table({})).close()
        self._sink.close()

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.is_open = False  # else it would write its footer when it is collected
        with suppress(OSError):
            self._sink.close()

    def _end_group(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._opened(table).write_table(table, row_group_size=_GROUP_ROWS)
        self._batches, self._rows, self._bytes = [], 0, 0

    def _opened(self, first: pa.Table) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._sink,
                self._schema,
                compression="zstd",
                use_dictionary=_repetitive(first),
                write_page_index=True,
                write_page_checksum=True,
            )
        return self._writer


def _repetitive(rows: pa.Table) -> list[str]:
    """Columns that a dictionary makes smaller, judged by these rows: texts and bytes of few values.

    For others it makes writing two times slower, and zstd alone makes smaller files of them.
    """
    sample = rows.slice(0, _SAMPLE_ROWS)
    first = sample.slice(0, _FIRST_ROWS)  # which rule out most columns at a tenth of the cost
    return [
        name
        for name, *parts in zip(sample.schema.names, first.columns, sample.columns, strict=True)
        if pa.types.is_binary(parts[0].type) or pa.types.is_string(parts[0].type)
        if all(pc.count_distinct(part).as_py() * _REPEATS <= sample.num_rows for part in parts)
    ]


def _unified(one: pa.DataType, other: pa.DataType, column: str, path: str) -> pa.DataType:
    found = wider(one, other)
    if found is None:
        raise SourceError(
            f"column {column!r} is {values.type_name(other)} in {path}, and {values.type_name(one)} before",
            hint="read the files as streams of their own, or write them again with one type",
            code="type_conflict",
            column=column,
        )
    return found


def _refuse_repeated(kind: pa.DataType, column: str, path: str) -> None:
    """Raise SourceError where a column's structs have a name twice, which no JSON can tell apart."""
    inner = [kind.field(number) for number in range(kind.num_fields)]
    twice = repeated([field.name for field in inner])
    if twice is not None:
        raise SourceError(
            f"column {column!r} of {path} has structs with two fields named {twice!r}",
            hint="leave the column out with `exclude`, or write the file again with other names",
            code="duplicate_column",
            column=column,
        )
    for field in inner:
        _refuse_repeated(field.type, column, path)


def _in_schema(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        try:
            columns.append(as_held(batch.column(field.name), field.type))
        except pa.ArrowInvalid as failure:
            raise HazardError(
                f"column {field.name!r} of {path} has a value that no {values.type_name(field.type)} holds",
                hint="leave the column out with `exclude`, or write the files with one type",
                code="value_does_not_fit",
                column=field.name,
            ) from failure
        if field.type in _TEXTS:
            columns[-1].validate(full=True)  # Arrow takes any bytes for text
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _writes(config: ParquetConnection) -> ParquetFormat:
    if "largest_ratio" in config.model_fields_set:
        raise ConfigError(
            "largest_ratio: only for Parquet files that are read", hint="remove it", code="option_for_reading"
        )
    return ParquetFormat()


ADAPTER = adapter(ParquetConnection, reads=lambda config: ParquetFormat(config.largest_ratio), writes=_writes)
