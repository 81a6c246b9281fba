"""CSV files, read and written: plain, gzip or zstd.

Read: every value is text first, and a column gets a narrower type only where all of its values, in all
files and in its table, have it (see `infer`); `types` declares others. An empty cell is NULL, and so is
`""` in a column that is not text.

`csv_formulas: escape` puts a `'` before text, and names of columns, that a spreadsheet would take for a
formula, and takes it away where such files are read: `=1+1` is written `'=1+1`, and `'=1+1` as `''=1+1`
(https://owasp.org/www-community/attacks/CSV_Injection).

Written: comma, double quotes, UTF-8 and a header. Text is always quoted and NULL never, so that `""` is an
empty text and nothing at all is NULL; bytes are hexadecimal, times ISO 8601, lists and documents JSON. In
DuckDB:

    SET VARIABLE live = (SELECT list('lake/shop/orders/' || file.name) FROM (
        SELECT unnest(files) AS file FROM read_json('lake/shop/orders/_atlas_manifest.json')));
    SELECT * FROM read_csv(getvariable('live'), union_by_name = true, nullstr = '', allow_quoted_nulls =
    false);
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from msgspec.structs import replace
from pydantic import AfterValidator, Field

from atlas_etl import values
from atlas_etl.config.fields import Encoding
from atlas_etl.connectors.declared import declared, known_types
from atlas_etl.connectors.files._adapter import adapter
from atlas_etl.connectors.files._codec import LARGEST_RATIO, Compression, LargestRatio, compressed
from atlas_etl.connectors.files._csv_rows import Dialect, Records, records_of
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._format import FileConnection, Survey
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.files._types import held_in_text
from atlas_etl.connectors.infer import TextColumn, first_misfit, plain_numbers
from atlas_etl.connectors.known import UNKNOWN, Known
from atlas_etl.connectors.row_files import RowWriter
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import Hazard

Character = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\x00-\x7f]$")]


class CsvConnection(FileConnection):
    """CSV files."""

    delimiter: Character | None = Field(default=None, description="default: a comma; a tab for .tsv files")
    quote: Character | None = Field(default='"', description="null: quotes are ordinary characters")
    encoding: Encoding = Field(default="utf-8", description="e.g. latin-1; byte order marks are understood")
    header: bool | list[str] = Field(
        default=True, description="whether the first record has the names; or the names, where none has"
    )
    null_strings: list[str] = Field(default=[""], description="unquoted cells that mean NULL")
    types: Annotated[dict[str, str], AfterValidator(known_types)] = Field(
        default_factory=dict, description="types of columns that are not to be inferred: {id: int64}"
    )
    largest_ratio: LargestRatio = LARGEST_RATIO
    csv_formulas: Literal["keep", "escape"] = Field(
        default="keep", description="escape: a ' before text that a spreadsheet would take for a formula"
    )
    compression: Compression = Field(default=Compression.NONE, description="of the files that are written")


_BEGINS_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"


class CsvFormat:
    """CSV (RFC 4180), in the dialect of a connection when it is read."""

    endings = (".csv", ".tsv")
    time_hazards: frozenset[Hazard] = frozenset()

    def __init__(
        self,
        dialect: Dialect,
        types: Mapping[str, pa.DataType],
        compression: Compression = Compression.NONE,
        *,
        escapes_formulas: bool = False,
    ) -> None:
        self._escapes_formulas = escapes_formulas
        self._dialect = dialect
        self._types = types
        self._compression = compression

    @property
    def protocol(self) -> str:
        """With what a manifest has to tell apart, so that no folder has files of both kinds."""
        return "csv with `csv_formulas: escape`" if self._escapes_formulas else "csv"

    @property
    def ending(self) -> str:
        return f".csv{self._compression.suffix}"

    def survey(
        self, store: Store, files: Sequence[StoredFile], rows: int | None, known: Known = UNKNOWN
    ) -> Survey:
        columns: dict[str, TextColumn] = {}
        absent: dict[str, int] = {}
        count = 0
        for file in files:
            records = self._records(store, file)
            if records is None:
                continue
            for name in records.names:
                if name not in columns:
                    columns[name], absent[name] = TextColumn(known.settled_type(name)), count
            before = count
            for batch in self._text_batches(records, records.names):
                self._see(batch, columns, file.path, count - before)
                count += batch.num_rows
                if rows is not None and count >= rows:
                    break
            for name in columns.keys() - set(records.names):
                absent[name] += count - before
            if rows is not None and count >= rows:
                break
        kinds = {
            name: self._types.get(name)
            or (column.type if column.is_filled else known.type_of(name) or column.type)
            for name, column in columns.items()
        }
        nulls = {n: column.missing_as(kinds[n]) + absent[n] for n, column in columns.items()}
        return Survey(pa.schema(list(kinds.items())), count if rows is None else None, nulls)

    def batches(self, store: Store, file: StoredFile, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        records = self._records(store, file)
        if records is None:
            return
        there = [name for name in wanted.schema.names if name in records.names] or [records.names[0]]
        rows = 0
        for text in self._text_batches(records, there):
            columns = [
                _typed(text.column(f.name), f, file.path, rows)
                if f.name in there
                else pa.nulls(text.num_rows, f.type)
                for f in wanted.schema
            ]
            rows += text.num_rows
            yield pa.RecordBatch.from_arrays(columns, schema=wanted.schema)

    def as_written(self) -> CsvFormat:
        dialect = Dialect(delimiter=",", largest_ratio=self._dialect.largest_ratio)
        return CsvFormat(dialect, {}, self._compression, escapes_formulas=self._escapes_formulas)

    def storable(self, kind: pa.DataType) -> pa.DataType:
        return held_in_text(kind)

    def writer(self, sink: BinaryIO, schema: pa.Schema) -> RowWriter:
        return _Writer(compressed(sink, self._compression), schema, self._escapes_formulas)

    def _records(self, store: Store, file: StoredFile) -> Records | None:
        records = records_of(store, file, self._dialect)
        if records is None or not self._escapes_formulas:
            return records
        return replace(records, names=tuple(without_escape(pa.array(records.names)).to_pylist()))

    def _text_batches(self, records: Records, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with reading(records.file.path):
            for batch in records.batches(columns):
                if self._escapes_formulas:
                    cells = [without_escape(column) for column in batch.columns]
                    yield pa.RecordBatch.from_arrays(cells, schema=batch.schema)
                else:
                    yield batch

    def _see(self, batch: pa.RecordBatch, columns: Mapping[str, TextColumn], path: str, row: int) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in self._types:
                _typed(column, pa.field(name, self._types[name]), path, row)
            columns[name].see(column)


class _Writer:
    """Writes batches as records; what Arrow would write in another form than ours becomes text before."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema, escapes_formulas: bool) -> None:
        self._escapes_formulas = escapes_formulas
        self._sink = sink
        self._fields = [
            field if _is_plain(field.type) else pa.field(field.name, pa.string()) for field in schema
        ]
        self._schema = pa.schema(self._fields)
        if escapes_formulas:
            names = with_escape(pa.array(schema.names, pa.string())).to_pylist()
            self._schema = pa.schema(
                [field.with_name(name) for field, name in zip(self._fields, names, strict=True)]
            )
        self._writer = pyarrow.csv.CSVWriter(sink, self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [
            column if column.type == field.type else values.to_text(column)
            for column, field in zip(batch.columns, self._fields, strict=True)
        ]
        if self._escapes_formulas:
            columns = [with_escape(c) if pa.types.is_string(c.type) else c for c in columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._sink.close()

    def abandon(self) -> None:
        with suppress(OSError, pa.ArrowException):  # else it would write its end when it is collected
            self._sink.close()


def with_escape(cells: pa.Array) -> pa.Array:
    """Text that no spreadsheet takes for a formula."""
    return pc.replace_substring_regex(cells, f"^('*{_BEGINS_FORMULA})", r"'\1")


def without_escape(cells: pa.Array) -> pa.Array:
    """What `with_escape` was given."""
    return pc.replace_substring_regex(cells, f"^'('*{_BEGINS_FORMULA})", r"\1")


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Arrow writes the type unquoted as `values.to_text` would."""
    plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)
    return plain or bool(pa.types.is_date32(kind) or (pa.types.is_decimal128(kind) and 0 <= kind.scale <= 6))


def _typed(cells: pa.Array, field: pa.Field, path: str, row: int) -> pa.Array:
    """Text in the column's type; `row` rows of the file came before. Raises SourceError (`value_type`)."""
    kind = field.type
    if pa.types.is_string(kind):
        return cells
    if not pa.types.is_binary(kind):
        cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    cells = plain_numbers(cells, kind)
    try:
        return values.from_text(cells, kind)
    except (pa.ArrowInvalid, ValueError):
        index = first_misfit(cells, lambda some: values.from_text(some, kind))
    raise SourceError(
        f"row {row + index + 1} of {path} holds {cells[index].as_py()[:80]!r} in column {field.name!r}, "
        f"which is no {values.type_name(kind)}",
        hint="declare another type in `types`, or remove it to have the type inferred",
        code="value_type",
        column=field.name,
    )


def _reads(config: CsvConnection) -> CsvFormat:
    header = config.header if isinstance(config.header, bool) else tuple(config.header)
    nulls = tuple(config.null_strings)
    dialect = Dialect(
        config.delimiter, config.quote, config.encoding, header, nulls, largest_ratio=config.largest_ratio
    )
    types = {name: declared(kind) for name, kind in config.types.items()}
    return CsvFormat(dialect, types, escapes_formulas=config.csv_formulas == "escape")


def _writes(config: CsvConnection) -> CsvFormat:
    reading_only = {"delimiter", "quote", "encoding", "header", "null_strings", "types", "largest_ratio"}
    if only_read := reading_only & config.model_fields_set:
        raise ConfigError(
            f"{', '.join(sorted(only_read))}: only for CSV files that are read",
            hint="files are written with commas, double quotes, a header and in UTF-8; `compression` is free",
            code="option_for_reading",
        )
    escapes = config.csv_formulas == "escape"
    return CsvFormat(Dialect(), {}, config.compression, escapes_formulas=escapes).as_written()


ADAPTER = adapter(CsvConnection, reads=_reads, writes=_writes)
