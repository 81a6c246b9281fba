"""What no comparison of keys may do, in any destination: delete too much, or elsewhere, or by NULL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pyarrow as pa

from atlas_etl.errors import DataError, DestinationError
from atlas_etl.model import Deletion, ReconcilePlan


def refuse_null_keys(plan: ReconcilePlan, keys: pa.RecordBatch) -> None:
    """Raise DataError (`null_key`) where a key of the source lacks a value: it equals no row's."""
    if any(column.null_count for column in keys.columns):
        raise DataError(
            f"the source has rows without a value in the primary key ({', '.join(plan.keys.names)}), "
            "so that deleted rows cannot be told",
            hint="choose a primary key without NULL, or remove `deletes`",
            code="null_key",
            stream=plan.stream,
        )


def refuse_too_many(plan: ReconcilePlan, *, keys: int, gone: int, live: int) -> None:
    """Raise DataError (`too_many_deletes`) where more of the live rows would go than the plan allows.

    `keys` is how many came from the source: one that is empty is most likely broken, and loses every row.
    """
    most = Fraction(str(plan.deletes.max_share))
    if gone <= most * live:
        return
    if keys == 0:
        found = f"the source has no rows at all, and {plan.table} has {live:,}"
    else:
        found = f"the source no longer has {gone:,} of the {live:,} rows of {plan.table}"
    enough = math.ceil(Fraction(gone, live) * 100) / 100
    raise DataError(
        f"{found}: more than the {float(most):.4g} of them that may go at once, so none was deleted",
        hint=f"if they are really gone, set `max_share: {enough:g}` under the stream's `deletes`; "
        "otherwise look for what hides rows from the source's query or its role",
        code="too_many_deletes",
        stream=plan.stream,
    )


def refuse_cascades(plan: ReconcilePlan, foreign_keys: Sequence[str]) -> None:
    """Raise DestinationError (`referenced`) where deleting rows would change those of other tables.

    `foreign_keys` are those that point at the table and do more than refuse. The rows of another stream
    would go with them, although its own source still has them.
    """
    if plan.deletes.how is Deletion.HARD and foreign_keys:
        raise DestinationError(
            f"rows of {plan.table} cannot be deleted, because the foreign key {foreign_keys[0]} would delete "
            "or change the rows of another table that point at them",
            hint="make that foreign key ON DELETE NO ACTION, or set `how: soft` under the stream's `deletes`",
            code="referenced",
            stream=plan.stream,
        )
