"""What happens to cells that have no exact Arrow form: the stream's policy, applied in one place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.errors import HazardError
from atlas_etl.model import Hazard, HazardCells, HazardPolicy, RefusedRow, Stream

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
    Hazard.INVALID_TEXT: "text that is not valid UTF-8",
}
_PER_DAY = {"D": 1, "s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

# A cursor with one of these stays a time or a number. As a text, for which there is no clock, the greatest of
# them would hide every row that follows.
_NO_TEXT_IN_CURSOR = frozenset({
    Hazard.INFINITY, Hazard.OUT_OF_RANGE, Hazard.DECIMAL_SPECIAL, Hazard.PRECISION,
})  # fmt: skip


def reads_as_text(stream: Stream, column: str, possible: Iterable[Hazard]) -> bool:
    """Whether a column that may hold these hazards is carried as text, by the stream's policy."""
    never = _NO_TEXT_IN_CURSOR if column == stream.cursor else frozenset()
    return any(stream.policy(hazard) is HazardPolicy.TEXT for hazard in possible if hazard not in never)


class HazardCounter:
    """Applies one stream's policies to decoded batches: counts cells that become NULL, keeps rows aside."""

    def __init__(self, stream: Stream, key: Sequence[str]) -> None:
        self._stream = stream
        self._key = tuple(key)
        self.nulled: Counter[str] = Counter()

    def settle(
        self, batch: pa.RecordBatch, cells: Sequence[HazardCells]
    ) -> tuple[pa.RecordBatch, list[RefusedRow]]:
        """The batch without the rows that the policies refuse, and those.

        Raises HazardError for the first cell that refuses the load.
        """
        refused: dict[int, HazardCells] = {}
        for found in cells:
            policy = self._policy(found)
            if policy is HazardPolicy.ERROR:
                raise self._error(batch, found, found.rows[0], found.texts[0])
            if policy is HazardPolicy.QUARANTINE:
                refused = dict.fromkeys(found.rows, found) | refused
        for found in cells:
            if nulled := sum(row not in refused for row in found.rows):
                self.nulled[f"{found.column}: {found.hazard}"] += nulled
        if not refused:
            return batch, []
        texts: dict[int, dict[str, str]] = {row: {} for row in refused}
        for found in cells:
            for row, text in zip(found.rows, found.texts, strict=True):
                if row in texts:
                    texts[row][found.column] = text
        kept = batch.filter(pa.array(~np.isin(np.arange(batch.num_rows), list(refused))))
        return kept, [
            RefusedRow(
                batch.slice(row, 1), self._error(batch, first, row, texts[row][first.column]), texts[row]
            )
            for row, first in sorted(refused.items(), key=itemgetter(0))
        ]

    def _policy(self, found: HazardCells) -> HazardPolicy:
        if found.column == self._stream.cursor:  # its row would be lost from sight
            return HazardPolicy.ERROR
        policy = self._stream.policy(found.hazard)
        in_vain = policy is HazardPolicy.QUARANTINE and not self._stream.quarantine_limit
        return HazardPolicy.ERROR if in_vain else policy

    def _error(self, batch: pa.RecordBatch, found: HazardCells, row: int, text: str) -> HazardError:
        names = (name for name in self._key or (self._stream.cursor,) if name in batch.schema.names)
        hidden = {found.column, *self._stream.protect}  # the first one's cell is NULL in the batch
        key = (name for name in names if name not in hidden)
        cells = (f"{name}={values.to_text(batch.column(name).slice(row, 1))[0].as_py()}" for name in key)
        where = _in_one_line(", ".join(cells))
        policies = (
            f"set `hazards: {{{found.hazard}: null}}` on the stream to load NULL instead, "
            "`text` to carry the column as text, or `quarantine_limit` to keep such rows aside"
        )
        if found.column == self._stream.cursor:
            policies = "correct the value, or choose another cursor: this one cannot be NULL or text"
        return HazardError(
            f"column {found.column!r} holds {_WHY[found.hazard]} ({_in_one_line(text[:80])})"
            + (f" in the row with {where}" if where else ""),
            hint=f"{found.hint}; or {policies}" if found.hint else policies,
            stream=self._stream.name,
            column=found.column,
        )


def _in_one_line(text: str) -> str:
    """A value's text within a message: what looks like another message is no line of its own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def without_hazards(
    batches: Iterable[tuple[pa.RecordBatch, Sequence[HazardCells]]],
) -> Iterator[pa.RecordBatch]:
    """The batches of a query's answer. Raises HazardError at a cell without an exact form."""
    for batch, cells in batches:
        for found in cells:
            raise HazardError(
                f"column {found.column!r} holds {_WHY[found.hazard]} ({found.texts[0][:80]})",
                hint="make it text in the query, with a CAST",
                column=found.column,
            )
        yield batch


_FIRST, _AFTER = np.datetime64("0001-01-01"), np.datetime64("10000-01-01")


def temporal_hazards(kind: pa.DataType) -> frozenset[Hazard]:
    """What `mask_temporal` may find in a column of this type."""
    if pa.types.is_list(kind):
        return temporal_hazards(kind.value_type)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE})
    return frozenset({Hazard.TIME_RANGE}) if pa.types.is_time(kind) else frozenset()


def mask_temporal(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[HazardCells]]:
    """Find infinite and far dates and timestamps, and times past a day, in a batch that came as Arrow.

    They are NULL then, and so is a list with one of them. Infinity is the type's greatest and smallest
    integer, as DuckDB and PostgreSQL write it.
    """
    cells: list[HazardCells] = []
    for index, field in enumerate(batch.schema):
        if pa.types.is_list(field.type):
            batch, found = _mask_lists(batch, index)
            cells += found
            continue
        if pa.types.is_time(field.type):
            batch, found = _mask_times(batch, index)
            cells += found
            continue
        if not (pa.types.is_timestamp(field.type) or pa.types.is_date32(field.type)):
            continue
        unit = "D" if pa.types.is_date32(field.type) else field.type.unit
        raw = batch.column(index).view(pa.int32() if unit == "D" else pa.int64())
        limit = int(np.iinfo(np.int32 if unit == "D" else np.int64).max)
        first, after = (_bound(edge, unit, limit) for edge in (_FIRST, _AFTER))
        if _is_within(raw, max(first, 1 - limit), after):
            continue
        numbers = pc.fill_null(raw, 0).to_numpy(zero_copy_only=False)
        infinite = (numbers >= limit) | (numbers <= -limit)
        far = ((numbers < first) | (numbers >= after)) & ~infinite
        for hazard, mask in ((Hazard.INFINITY, infinite), (Hazard.OUT_OF_RANGE, far)):
            rows = np.flatnonzero(mask)
            if len(rows):
                texts = (_temporal_text(int(numbers[row]), unit, limit) for row in rows)
                cells.append(HazardCells(field.name, hazard, tuple(rows.tolist()), tuple(texts)))
        masked = pc.if_else(pa.array(infinite | far), pa.scalar(None, field.type), batch.column(index))
        batch = batch.set_column(index, field, masked)
    return batch, cells


def _mask_times(batch: pa.RecordBatch, index: int) -> tuple[pa.RecordBatch, list[HazardCells]]:
    field, column = batch.schema.field(index), batch.column(index)
    raw = column.view(pa.int32() if pa.types.is_time32(field.type) else pa.int64())
    if _is_within(raw, 0, _PER_DAY[field.type.unit]):
        return batch, []
    numbers = pc.fill_null(raw, 0).to_numpy(zero_copy_only=False)
    past = (numbers < 0) | (numbers >= _PER_DAY[field.type.unit])
    rows = np.flatnonzero(past)
    texts = tuple(_time_text(int(numbers[row]), field.type.unit) for row in rows)
    masked = pc.if_else(pa.array(past), pa.scalar(None, field.type), column)
    return batch.set_column(index, field, masked), [
        HazardCells(field.name, Hazard.TIME_RANGE, tuple(rows.tolist()), texts)
    ]


def _mask_lists(batch: pa.RecordBatch, index: int) -> tuple[pa.RecordBatch, list[HazardCells]]:
    field, column = batch.schema.field(index), batch.column(index)
    items, within = mask_temporal(pa.record_batch([column.flatten()], names=[field.name]))
    if not within:
        return batch, []
    texts = values.to_text(items.column(0)).to_pylist()
    for found in within:
        for item, text in zip(found.rows, found.texts, strict=True):
            texts[item] = text
    lists = pc.list_parent_indices(column).to_numpy()
    cells: list[HazardCells] = []
    for found in within:
        rows = np.unique(lists[list(found.rows)])
        ends = zip(np.searchsorted(lists, rows), np.searchsorted(lists, rows, "right"), strict=True)
        whole = (json.dumps(texts[first:last], separators=(",", ":")) for first, last in ends)
        cells.append(HazardCells(field.name, found.hazard, tuple(rows.tolist()), tuple(whole)))
    odd = np.isin(np.arange(batch.num_rows), [row for found in cells for row in found.rows])
    masked = pc.if_else(pa.array(odd), pa.scalar(None, field.type), column)
    return batch.set_column(index, field, masked), cells


def _is_within(numbers: pa.Array, first: int, after: int) -> bool:
    """Whether no number is below the first one, or not below `after`."""
    edges = pc.min_max(numbers)
    least, greatest = edges["min"].as_py(), edges["max"].as_py()
    return least is None or (first <= least and greatest < after)


def _time_text(number: int, unit: str) -> str:
    seconds, fraction = divmod(number * (_PER_DAY["ns"] // _PER_DAY[unit]), 10**9)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:09}".rstrip("0") if fraction else text


def _bound(edge: np.datetime64, unit: str, limit: int) -> int:
    days = int(edge.astype("datetime64[D]").astype(np.int64))
    return max(-limit, min(limit, days * _PER_DAY[unit]))


def _temporal_text(number: int, unit: str, limit: int) -> str:
    if abs(number) >= limit:
        return "infinity" if number > 0 else "-infinity"
    return str(np.array([number], f"datetime64[{unit}]")[0])
