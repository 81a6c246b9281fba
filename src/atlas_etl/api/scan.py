"""Looking for personal data in what a connector reads: a sample of rows, which is judged and forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.api.atlas import Atlas
from atlas_etl.api.located import located
from atlas_etl.config.yaml_source import Value
from atlas_etl.contracts import Connector
from atlas_etl.model import ReadRequest, Rule, Stream
from atlas_etl.protection.detection import Finding, found_in, proposal, sample_of
from atlas_etl.protection.texts import Finder, found_by_format, found_in_texts


class StreamScan(Struct, frozen=True):
    """What a sample of a stream's rows shows."""

    stream: str
    sampled_rows: int
    types: Mapping[str, str]  # of its columns
    findings: tuple[Finding, ...]
    protected: Mapping[str, Rule]  # the rules that the definition has
    proposed: Mapping[str, Value]  # rules for what is found and has none, as YAML has them
    unprotectable: tuple[str, ...]  # columns with findings that can have no rule: the cursor


def scan_connector(
    atlas: Atlas, name: str, *, streams: Sequence[str] = (), rows: int, find: Finder = found_by_format
) -> Iterator[StreamScan]:
    """Sample a connector's streams, all without names, and judge their columns; `find` looks into long texts.

    Values are neither written nor given back. Raises AtlasError.
    """
    prepared = atlas.connector(name)
    with located(name), closing(prepared.open()) as connector:
        for stream in prepared.chosen(tuple(streams)):
            with located(name, stream.name):
                yield _scanned(connector, stream, rows, find)


def _scanned(connector: Connector, stream: Stream, limit: int, find: Finder) -> StreamScan:
    as_they_are = replace(stream, cursor=None, protect={})
    with connector.open(ReadRequest(as_they_are, limit=limit)) as extract:
        key = extract.primary_key
        sample = pa.Table.from_batches(extract.batches(), schema=extract.schema).slice(0, limit)
    findings = tuple(
        found
        for field, column in zip(sample.schema, sample.columns, strict=True)
        if (found := _judged(field.name, column, find)) is not None
    )
    open_ = [found for found in findings if found.column not in stream.protect]
    return StreamScan(
        stream.name,
        sample.num_rows,
        {field.name: values.type_name(field.type) for field in sample.schema},
        findings,
        stream.protect,
        proposal(open_, key=key, cursor=stream.cursor),
        tuple(found.column for found in open_ if found.column == stream.cursor),
    )


def _judged(name: str, column: pa.ChunkedArray, find: Finder) -> Finding | None:
    kind = found_in(name, column)
    if kind is not None:
        return kind
    is_text = pa.types.is_string(column.type) or column.type in (pa.json_(), values.UNLIMITED_DECIMAL)
    return found_in_texts(name, sample_of(column), find) if is_text else None
