"""A look at the first rows of a stream."""

from __future__ import annotations

from atlas_etl import values
from atlas_etl.contracts import Connector
from atlas_etl.model import ReadRequest, Stream


def preview(connector: Connector, stream: Stream, limit: int) -> tuple[list[str], list[list[object]]]:
    """The first rows of a stream: column names, and rows of JSON's own types or text."""
    rows: list[list[object]] = []
    with connector.open(ReadRequest(stream, limit=limit)) as extract:
        for batch in extract.batches():
            rows += values.json_rows(batch)
        return list(extract.schema.names), rows[:limit]
