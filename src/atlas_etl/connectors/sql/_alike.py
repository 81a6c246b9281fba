"""Rows that a source tells apart by their keys, and a table does not: a collation may fold them."""

from __future__ import annotations

from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan


def keys_alike(plan: LoadPlan, rows: int) -> DestinationError:
    """The error where so many rows of a load would take the place of others of it."""
    return DestinationError(
        f"the key of the table {plan.table} does not tell {rows} of the rows from others of this load, "
        "as with a collation that ignores case or blanks; they would be lost",
        hint="give the key a type or collation that tells them apart, or choose another table with `into`",
        code="keys_alike",
        stream=plan.stream,
    )
