"""What no comparison of keys may do, in any destination: delete too much, or elsewhere, or by NULL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.errors import DataError, DestinationError
from atlas_etl.model import Deletion, ReconcilePlan


def whole_keys(plan: ReconcilePlan, keys: pa.RecordBatch) -> pa.RecordBatch:
    """The keys with a value in every column: one with a NULL equals no row's.

    Raises DataError (`null_key`) where there are others, and the plan is not careful.
    """
    nulls = with_null(keys)
    if nulls is None:
        return keys
    if not plan.careful:
        raise _null_key(plan, "the source has rows without a value in the primary key")
    return keys.filter(pc.invert(nulls))


def with_null(keys: pa.RecordBatch) -> pa.BooleanArray | None:
    """Which of the keys have a NULL; None where none has."""
    found = [column.is_null() for column in keys.columns if column.null_count]
    return reduce(pc.or_, found) if found else None


def refuse_null_keys(plan: ReconcilePlan, rows: int) -> None:
    """Raise DataError (`null_key`) where keys were left out and so many rows have a NULL in theirs.

    They may be the rows of those keys.
    """
    if rows:
        raise _null_key(plan, "both the source and its table have rows without a value in the primary key")


def _null_key(plan: ReconcilePlan, found: str) -> DataError:
    return DataError(
        f"{found} ({', '.join(plan.keys.names)}), so that deleted rows cannot be told",
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
