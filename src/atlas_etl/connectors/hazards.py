"""What happens to cells that have no exact Arrow form: the stream's policy, applied in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import HazardError
from atlas_etl.model import Hazard, HazardCells, HazardPolicy, Stream

_WHY = {
    Hazard.INFINITY: "an infinite date or time",
    Hazard.OUT_OF_RANGE: "a date outside the years 0001 to 9999",
    Hazard.ZERO_DATE: "a zero or partial date",
    Hazard.TIME_RANGE: "a time outside 00:00:00 to 23:59:59.999999",
    Hazard.DECIMAL_SPECIAL: "a decimal that is not a number",
    Hazard.PRECISION: "a number with more digits than its type declares",
    Hazard.INTERVAL: "an interval too long for nanoseconds in 64 bits",
    Hazard.ARRAY_SHAPE: "an array that is nested or does not begin at 1",
    Hazard.TYPE_MISMATCH: "a value of another type than its column's",
}


def reads_as_text(stream: Stream, possible: Iterable[Hazard]) -> bool:
    """Whether a column that may hold these hazards is carried as text, by the stream's policy."""
    return any(stream.policy(hazard) is HazardPolicy.TEXT for hazard in possible)


class HazardCounter:
    """Applies one stream's policies to decoded batches and counts the cells that became NULL."""

    def __init__(self, stream: Stream, key: Sequence[str]) -> None:
        self._stream = stream
        self._key = tuple(key)
        self.nulled: Counter[str] = Counter()

    def settle(self, batch: pa.RecordBatch, cells: Iterable[HazardCells]) -> None:
        """Raise HazardError for the first cell whose policy is `error`; count the others."""
        for found in cells:
            if self._stream.policy(found.hazard) is HazardPolicy.ERROR:
                raise self._error(batch, found)
            self.nulled[f"{found.column}: {found.hazard}"] += len(found.rows)

    def _error(self, batch: pa.RecordBatch, found: HazardCells) -> HazardError:
        row = found.rows[0]
        key = [name for name in self._key or (self._stream.cursor,) if name in batch.schema.names]
        cells = (f"{name}={values.to_text(batch.column(name).slice(row, 1))[0].as_py()}" for name in key)
        where = ", ".join(cells)
        return HazardError(
            f"column {found.column!r} holds {_WHY[found.hazard]} ({found.texts[0][:80]})"
            + (f" in the row with {where}" if where else ""),
            hint=f"set `hazards: {{{found.hazard}: null}}` on the stream to load NULL instead, "
            f"or `text` to carry the column as text",
            stream=self._stream.name,
            column=found.column,
        )
