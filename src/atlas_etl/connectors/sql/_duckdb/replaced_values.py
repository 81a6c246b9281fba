"""Texts that columns without an exact Arrow type would round or cut: they are refused.

Source: https://duckdb.org/docs/stable/sql/data_types/overview; a text becomes such a value by DuckDB's cast.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._meaning import does_not_fit

_FRACTION = r"\.[0-9]*[1-9]|[eE]-"
_CUT: Mapping[str, str] = {  # what a text has of which not everything is kept
    "HUGEINT": _FRACTION,
    "UHUGEINT": _FRACTION,
    "BIGNUM": _FRACTION,
    "TIMESTAMP_S": r"\.[0-9]*[1-9]",
    "TIMESTAMP_MS": r"\.[0-9]{3}[0-9]*[1-9]",
    "TIME WITH TIME ZONE": r"\.[0-9]{6}[0-9]*[1-9]",
}


def refuse_cut(rows: pa.RecordBatch, natives: Mapping[str, str]) -> None:
    """Raise RefusedRowError for the first column that would cut a text; `natives` are the table's types."""
    for name, cells in zip(rows.schema.names, rows.columns, strict=True):
        native = natives.get(name, "")
        if native not in _CUT or not pa.types.is_string(cells.type):
            continue
        if pc.any(pc.match_substring_regex(cells, _CUT[native])).as_py():
            raise does_not_fit(name, f"has a value that is finer than {native} holds")
