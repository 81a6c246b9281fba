"""Loads that would delete rows which those of other tables point at."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.errors import DestinationError
from atlas_etl.model import Disposition, LoadPlan


def refuse_cascading_load(plan: LoadPlan, foreign_keys: Sequence[str], *, keyed: bool) -> None:
    """Raise DestinationError (`referenced`) where the load's own deletes would change other tables.

    `foreign_keys` are those that point at the table and do more than refuse; `keyed` says whether a merge
    leaves its rows where they are.
    """
    deletes = {
        Disposition.REPLACE: True,
        Disposition.APPEND: plan.tail is not None,
        Disposition.MERGE: plan.deletes or not keyed,
    }
    if foreign_keys and deletes[plan.disposition]:
        raise DestinationError(
            f"this load deletes rows of {plan.table} and writes them again, but the foreign key "
            f"{foreign_keys[0]} would delete or change the rows that point at them",
            hint="make that foreign key ON DELETE NO ACTION, or use the disposition merge with a key",
            code="referenced",
            stream=plan.stream,
        )


def refuse_remaking(plan: LoadPlan, foreign_keys: Sequence[str]) -> None:
    """Raise DestinationError (`referenced`) where a foreign key would point at a table that is put away."""
    if foreign_keys:
        raise DestinationError(
            f"this load makes {plan.table} anew, but the foreign key {foreign_keys[0]} refers to it",
            hint="drop that foreign key, or the table",
            code="referenced",
            stream=plan.stream,
        )
