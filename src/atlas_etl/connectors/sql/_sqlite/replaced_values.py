"""Texts of which a column's affinity makes numbers, so that `007` would come back as 7: they are refused.

Source: https://www.sqlite.org/datatype3.html, section 3, "Type Affinity". A column whose declaration SQLite
does not know, such as STRING or XML, is NUMERIC.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._meaning import does_not_fit
from atlas_etl.connectors.sql._sqlite.types import affinity, arrow_type
from atlas_etl.model import TableName

_DECLARED = """
SELECT c.name, c.type FROM pragma_table_list(?) t JOIN pragma_table_xinfo(?, 'main') c
WHERE t.schema = 'main' AND NOT t.strict"""
_NUMBER = r"^[\s\v]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[\s\v]*$"
_INTEGERS = range(-(2**63), 2**63)


def numeric_columns(connection: Connection, table: TableName) -> frozenset[str]:
    """The columns of a table that are for texts, and make numbers of some."""
    declared = connection.execute(_DECLARED, (table.name, table.name))
    return frozenset(
        str(name)
        for name, kind in declared
        if arrow_type(str(kind)) is None and affinity(str(kind)) == "NUMERIC"
    )


def refuse_replaced(batch: pa.RecordBatch, columns: Collection[str]) -> None:
    """Raise RefusedRowError where one of these columns has a text that would come back as another one."""
    for name, cells in zip(batch.schema.names, batch.columns, strict=True):
        if name not in columns or not pa.types.is_string(cells.type):
            continue
        numbers = cells.filter(pc.match_substring_regex(cells, _NUMBER))
        if not all(map(_comes_back, pc.unique(numbers).to_pylist())):
            raise does_not_fit(name, "has a text of which SQLite makes another number; TEXT keeps such texts")


def _comes_back(number: str) -> bool:
    if number.removeprefix("-").isdecimal():
        return str(int(number)) == number and int(number) in _INTEGERS
    return f"{float(number):.15g}" == number
