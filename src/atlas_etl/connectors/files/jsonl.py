"""JSON lines files, read and written: plain, gzip or zstd; one object per line.

Read: integers and decimals exactly as written (doubles only where an exponent says so and no digit is
lost), strings as text, or as dates and timestamps where all are ISO 8601, objects and arrays as JSON
documents, a missing member as NULL. A column of several kinds is text in its original spelling; one that
holds documents among others is a column of documents. `types` declares others. Of two members with one
name the last counts.

Written: integers of up to 64 bits, doubles and booleans as such, documents and lists inline, everything
else as a string: decimals with all their digits (most readers would round a number), bytes in hexadecimal,
times in ISO 8601. In DuckDB, with the columns that are to be read and their types:

    SET VARIABLE live = (SELECT list('lake/shop/orders/' || file.name) FROM (
        SELECT unnest(files) AS file FROM read_json('lake/shop/orders/_atlas_manifest.json')));
    SELECT * FROM read_json(getvariable('live'), format = 'newline_delimited',
        columns = {'id': 'BIGINT', 'name': 'VARCHAR', 'at': 'TIMESTAMP'});
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Annotated, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from atlas_etl import values
from atlas_etl.connectors.declared import declared, known_types
from atlas_etl.connectors.files._adapter import adapter
from atlas_etl.connectors.files._codec import LARGEST_RATIO, Compression, LargestRatio, compressed
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._format import FileConnection, Survey
from atlas_etl.connectors.files._json_rows import Block, blocks_of
from atlas_etl.connectors.files._json_survey import SeenColumns
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.files._types import held_in_text
from atlas_etl.connectors.infer import first_misfit
from atlas_etl.connectors.json_texts import quoted, texts, typed, unquoted
from atlas_etl.connectors.known import UNKNOWN, Known
from atlas_etl.connectors.record_parser import Kind, RecordParser, has_parser
from atlas_etl.connectors.row_files import RowWriter
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import ConfigError, HazardError, SourceError
from atlas_etl.model import BatchLimits, Hazard

_LIMITS = BatchLimits()


class JsonlConnection(FileConnection):
    """JSON lines files."""

    types: Annotated[dict[str, str], AfterValidator(known_types)] = Field(
        default_factory=dict, description="types of columns that are not to be inferred: {at: timestamptz}"
    )
    largest_ratio: LargestRatio = LARGEST_RATIO
    compression: Compression = Field(default=Compression.NONE, description="of the files that are written")


class JsonlFormat:
    """JSON lines (https://jsonlines.org), RFC 8259 on each."""

    protocol = "jsonl"
    endings = (".jsonl", ".ndjson")
    time_hazards: frozenset[Hazard] = frozenset()

    def __init__(
        self,
        types: Mapping[str, pa.DataType],
        compression: Compression = Compression.NONE,
        *,
        null_document: str | None = None,
        largest_ratio: int | None = None,
    ) -> None:
        """`null_document` is what an explicit `null` means in a column of documents; in others it is NULL.

        `largest_ratio` is that of `open_text`.
        """
        self._largest_ratio = largest_ratio
        self._types = types
        self._compression = compression
        self._null_document = null_document

    @property
    def ending(self) -> str:
        return f".jsonl{self._compression.suffix}"

    def survey(
        self, store: Store, files: Sequence[StoredFile], rows: int | None, known: Known = UNKNOWN
    ) -> Survey:
        seen = SeenColumns(self._types, known)
        for block in self._blocks(store, files):
            for name, cells in seen.see(block).items():
                if name in self._types:
                    self._typed(cells, pa.field(name, self._types[name]), block)
            if rows is not None and seen.rows >= rows:
                break
        return Survey(
            pa.schema([(name, self._types.get(name, kind)) for name, kind in seen.types().items()]),
            seen.rows if rows is None else None,
            seen.nulls(),
        )

    def batches(self, store: Store, file: StoredFile, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        parser = self._parser(wanted.schema)
        for block in self._blocks(store, [file]):
            batch = parser.parse(block.content, block.lines, wanted.schema) if parser else None
            if batch is None:
                parser = None  # a column of several kinds, as a rule, which the others would have, too
                batch = self._exactly(block, wanted.schema)
            yield batch

    def as_written(self) -> JsonlFormat:
        ratio = self._largest_ratio
        return JsonlFormat({}, self._compression, null_document="null", largest_ratio=ratio)

    def storable(self, kind: pa.DataType) -> pa.DataType:
        return held_in_text(kind)

    def writer(self, sink: BinaryIO, schema: pa.Schema) -> RowWriter:
        return _Writer(compressed(sink, self._compression), schema)

    def _blocks(self, store: Store, files: Sequence[StoredFile]) -> Iterator[Block]:
        return chain.from_iterable(blocks_of(store, file, self._largest_ratio) for file in files)

    def _parser(self, schema: pa.Schema) -> RecordParser | None:
        """Of types that all values have; None for files as Atlas writes them, where numbers are strings."""
        if self._null_document is not None or not has_parser(schema.names):
            return None
        kinds = {
            field.name: Kind(field.type, field.type != pa.json_() and field.name not in self._types)
            for field in schema
        }
        return RecordParser(kinds, others="ignored")

    def _exactly(self, block: Block, schema: pa.Schema) -> pa.RecordBatch:
        """Each member by its own text."""
        objects = block.rows()
        with reading(block.path):
            cells = [texts(objects, name) for name in schema.names]
        columns = [self._typed(column, field, block) for column, field in zip(cells, schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _typed(self, cells: pa.Array, field: pa.Field, block: Block) -> pa.Array:
        """JSON texts of a block in the column's type. Raises SourceError (`value_type`)."""
        kind = field.type
        try:
            return typed(cells, kind, null_document=self._null_document)
        except (pa.ArrowInvalid, ValueError):
            index = first_misfit(cells, lambda some: typed(some, kind))
        raise SourceError(
            f"{block.path}, object {index + 1} from line {block.line} on: "
            f"{unquoted(cells)[index].as_py()[:80]!r} in "
            f"{field.name!r} is no {values.type_name(kind)}",
            hint="declare another type in `types`, or remove it to have the type inferred",
            code="value_type",
            column=field.name,
        )


class _Writer:
    """Writes batches as lines, a column at a time; Arrow's buffer of the joined lines is the content."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema) -> None:
        self._sink = sink
        self._keys = [f"{msgspec.json.encode(name).decode()}:" for name in schema.names]

    def write(self, batch: pa.RecordBatch) -> None:
        for part in values.split(batch, _LIMITS):
            members = [
                pc.binary_join_element_wise(key, _json_texts(column, name), "")
                for key, name, column in zip(self._keys, part.schema.names, part.columns, strict=True)
            ]
            objects = pc.binary_join_element_wise(*members, ",", null_handling="skip")
            lines = pc.binary_join_element_wise("{", objects, "}\n", "")
            _, offsets, content = lines.buffers()
            edges = np.frombuffer(offsets, np.int32)[[lines.offset, lines.offset + len(lines)]]
            self._sink.write(content.slice(int(edges[0]), int(edges[1] - edges[0])))

    def close(self) -> None:
        self._sink.close()

    def abandon(self) -> None:
        with suppress(OSError, pa.ArrowException):  # else it would write its end when it is collected
            self._sink.close()


def _json_texts(column: pa.Array, name: str) -> pa.Array:
    """Every cell as JSON. NULL is `null`, but stays NULL among documents, where `null` is one."""
    kind = column.type
    if kind == pa.json_():
        return _documents(column.storage, name)
    plain = values.to_text(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(plain, "null")
    if pa.types.is_floating(kind):
        texts = pc.if_else(pc.is_finite(column), plain, pc.binary_join_element_wise('"', plain, '"', ""))
        return pc.fill_null(texts, "null")
    return pc.fill_null(quoted(plain), "null")


def _documents(cells: pa.Array, name: str) -> pa.Array:
    """Documents as they are, on one line: line breaks in valid JSON are blanks between its tokens."""
    for cell in cells.drop_null().to_pylist():
        try:
            _DOCUMENT.decode(cell)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise HazardError(
                f"column {name!r} holds a text that is no JSON document",
                hint="leave the column out with `exclude`, or read it as text",
                code="invalid_json",
                column=name,
            ) from failure
    return pc.replace_substring(pc.replace_substring(cells, "\n", " "), "\r", " ")


_DOCUMENT = msgspec.json.Decoder(msgspec.Raw)


def _writes(config: JsonlConnection) -> JsonlFormat:
    if only_read := {"types", "largest_ratio"} & config.model_fields_set:
        raise ConfigError(
            f"{', '.join(sorted(only_read))}: only for JSON lines files that are read",
            hint="remove it; a destination's types are those of its source",
            code="option_for_reading",
        )
    return JsonlFormat({}, config.compression).as_written()


def _reads(config: JsonlConnection) -> JsonlFormat:
    types = {name: declared(kind) for name, kind in config.types.items()}
    return JsonlFormat(types, largest_ratio=config.largest_ratio)


ADAPTER = adapter(JsonlConnection, reads=_reads, writes=_writes)
