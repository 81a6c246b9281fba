"""A query of a person, answered by a system's own reader."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa

from atlas_etl.connectors.hazards import without_hazards
from atlas_etl.connectors.sql._source import Dialect, Select, Snapshot
from atlas_etl.contracts import Answer
from atlas_etl.errors import DataError, DestinationError, SourceError, UsageError
from atlas_etl.model import BatchLimits, Stream


@contextmanager
def answered(
    reading: AbstractContextManager[Snapshot],
    reader: Dialect,
    sql: str,
    as_text: Collection[str],
    *,
    wrong: Collection[str],
) -> Iterator[Answer]:
    """The rows of one SELECT, these columns as text.

    Raises UsageError for errors whose codes are `wrong`, of which the statement is the cause.
    """
    try:
        with reading as snapshot:
            relation = snapshot.relation(Stream("query", query=sql))
            columns = tuple(c.as_text() if c.name in as_text else c for c in relation.columns)
            chosen = ", ".join(f"{column.select} AS {reader.quote(column.name)}" for column in columns)
            rows = snapshot.fetch(Select(f"SELECT {chosen} FROM {relation.sql}", (), columns), BatchLimits())
            yield Answer(pa.schema([column.field for column in columns]), without_hazards(rows))
    except (SourceError, DestinationError, DataError) as failure:
        if failure.code not in wrong:
            raise
        raise UsageError(failure.message, hint=failure.hint, code="query") from failure
