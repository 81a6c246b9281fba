"""What a system that has ALTER TABLE write values as text would write in another way than they were."""

from __future__ import annotations

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import DestinationError
from atlas_etl.model import TableName, WidenColumn

_RESPELLED = (pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_floating)


def refuse_respelling(table: TableName, change: WidenColumn) -> None:
    """Raise DestinationError (`cannot_widen`) for booleans, timestamps and doubles that become text."""
    if change.after.type != pa.string() or not any(test(change.before) for test in _RESPELLED):
        return
    raise DestinationError(
        f"column {change.name!r} of {table} is to become text from {values.type_name(change.before)}, and "
        "ALTER TABLE would write those that are there in another way",
        hint="sync with --full-refresh, which makes the table anew",
        code="cannot_widen",
        column=change.name,
    )
