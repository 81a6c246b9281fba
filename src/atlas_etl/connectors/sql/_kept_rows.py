"""Rows that a table keeps as they are, without an error, although a statement deletes or marks them."""

from __future__ import annotations

from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan, ReconcilePlan


def rows_kept(plan: LoadPlan | ReconcilePlan, keeper: str, kept: int, why: str) -> DestinationError:
    """What keeps so many rows, and `why` they have to go."""
    return DestinationError(
        f"{keeper} keeps {kept:,} rows of {plan.table} {why}",
        hint="drop or change it, or load into a table without it, named with `into`",
        code="rows_kept",
        stream=plan.stream,
    )
