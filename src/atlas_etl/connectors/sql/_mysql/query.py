"""The rows of one statement that reads, in the types that Atlas wrote them in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.hazards import without_hazards
from atlas_etl.connectors.sql._mysql.session import Session
from atlas_etl.connectors.sql._mysql.stored import marked_type
from atlas_etl.connectors.sql._mysql.types import Column, arrow_type
from atlas_etl.contracts import Answer
from atlas_etl.model import BatchLimits, HazardCells

_COMMENTS = """
SELECT COLUMN_NAME, COLUMN_COMMENT FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_COMMENT LIKE 'atlas:%'"""


def answered(session: Session, sql: str, as_text: Collection[str]) -> Answer:
    """The rows, these columns as text. Raises HazardError where another has a value without exact form."""
    session.run("START TRANSACTION READ ONLY")
    described = session.describe(sql)
    kinds = _meant(session, described)
    schema = pa.schema(
        [
            pa.field(column.name, pa.string() if column.name in as_text else kind)
            for column, kind in zip(described, kinds, strict=True)
        ]
    )
    rows = (
        (_shown(batch, cells, schema), [cell for cell in cells if cell.column not in as_text])
        for batch, cells in session.stream(sql, (), BatchLimits())
    )
    return Answer(schema, without_hazards(rows))


def _meant(session: Session, described: Sequence[Column]) -> list[pa.DataType]:
    """The columns' types, by the comments of those that they come from."""
    tables = {column.origin[:2] for column in described if column.origin[0] and column.origin[1]}
    comments = {
        (schema, table, str(name)): str(comment)
        for schema, table in sorted(tables)
        for name, comment in session.rows(_COMMENTS, (schema, table))
    }
    return [marked_type(arrow_type(column), comments.get(column.origin, "")) for column in described]


def _shown(batch: pa.RecordBatch, hazards: Sequence[HazardCells], schema: pa.Schema) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for column, field in zip(batch.columns, schema, strict=True):
        shown = values.convert(column, field.type)
        for cells in hazards:
            if cells.column == field.name and pa.types.is_string(field.type):
                mask = np.zeros(len(shown), np.bool_)
                mask[list(cells.rows)] = True
                shown = pc.replace_with_mask(shown, pa.array(mask), pa.array(cells.texts, pa.string()))
        columns.append(shown)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
