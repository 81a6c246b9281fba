"""Which rows of one stream come to its quarantine and which leave it, load by load."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.errors import DataError, SchemaChangeError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    QuarantineChange,
    QuarantinedRow,
    RefusedRow,
    Stream,
)
from atlas_etl.pipeline.shape import added_names, stored_tail

Texts = Mapping[str, str | None]


class Quarantine:
    """The quarantine of one stream while it is transferred.

    What the read brings again leaves, and comes back if it is refused again. A row that goes by a key
    leaves when another row of its key is loaded, and is replaced when one is refused.
    """

    def __init__(
        self, stream: Stream, plan: LoadPlan, held: Sequence[QuarantinedRow], resumed: Checkpoint | None
    ) -> None:
        self._limit = stream.quarantine_limit
        self._plan = plan
        self._names = plan.schema.names[: len(plan.schema) - len(added_names(stream))]
        self._key = plan.primary_key if plan.keyed else ()
        self._before = {row.quarantine_id for row in held}
        self._leave = {row.quarantine_id for row in held if _is_read_again(plan, resumed, row.row)}
        self._standing = self._before - self._leave
        self._come: dict[str, QuarantinedRow] = {}
        self._by_key = {
            tuple(row.key.values()): row.quarantine_id
            for row in held
            if row.key and row.quarantine_id in self._standing and tuple(row.key) == self._key
        }
        self._equal: Counter[str] = Counter()

    def refuse(self, rows: Iterable[RefusedRow]) -> None:
        """Keep rows aside. Raises DataError (`too_many_quarantined`)."""
        for found in rows:
            row = self._row(found)
            self._come[row.quarantine_id] = row
            self._standing.add(row.quarantine_id)
            if len(self._come) > self._limit:
                raise self._too_many()

    def loaded(self, rows: pa.RecordBatch) -> None:
        """Let go of rows whose key was loaded."""
        for _, key in with_known_keys(rows, self._key, self._by_key):
            found = self._by_key.pop(key, None)
            if found is not None:
                self._leave.add(found)
                self._standing.discard(found)

    def change(self, load_id: str) -> QuarantineChange:
        """What this load does when it commits. Raises DataError (`too_many_quarantined`)."""
        self._standing |= self._come.keys()
        if self._come and len(self._standing) > self._limit:
            raise self._too_many()
        come = tuple(replace(row, load_id=load_id) for row in self._come.values())
        return QuarantineChange(frozenset(self._leave), come)

    def committed(self) -> int:
        """The change is true; gives back how many rows came that were not there before."""
        replaces = self._plan.disposition is Disposition.REPLACE
        added = len(self._come) if replaces else len(self._come.keys() - self._before)
        self._by_key |= {tuple(row.key.values()): id_ for id_, row in self._come.items() if row.key}
        self._before |= self._come.keys()
        self._leave, self._come = set(), {}
        return added

    def _row(self, found: RefusedRow) -> QuarantinedRow:
        plan, row = self._plan, self._texts(found)
        parts = [(name, row[name]) for name in self._key]
        key = {name: text for name, text in parts if text is not None}
        key = key if len(key) == len(parts) else {}
        identity: list[object] = [plan.connector, plan.stream, str(plan.table), key or row]
        if not key:  # equal rows are several
            content = _digest(identity)
            identity.append(self._equal[content])
            self._equal[content] += 1
        return QuarantinedRow(
            quarantine_id=_digest(identity),
            stream=plan.stream,
            key=key,
            row=row,
            code=found.why.code,
            reason=found.why.message,
            column=found.why.column,
            run_id=plan.run_id,
            load_id="",
            quarantined_at=datetime.now(UTC),
        )

    def _texts(self, found: RefusedRow) -> dict[str, str | None]:
        """The cells by the table's names; `found` has them in the same order, perhaps under the source's."""
        read = zip(found.row.schema.names, found.row.columns, strict=True)
        cells = [
            found.texts[name] if name in found.texts else values.to_text(column)[0].as_py()
            for name, column in read
        ]
        return dict(zip(self._names, cells, strict=False))

    def _too_many(self) -> DataError:
        first = next(iter(self._come.values()))
        names = self._plan.primary_key or ((self._plan.cursor,) if self._plan.cursor else ())
        cells = ", ".join(f"{name}={first.row.get(name)}" for name in names)
        return DataError(
            f"more rows were refused than `quarantine_limit: {self._limit}` keeps aside, so nothing of this "
            f"load was committed; the first{f', with {cells}' if cells else ''}: {first.reason}",
            hint="correct the rows at the source, or raise `quarantine_limit` on the stream; "
            f"`atlas quarantine list {self._plan.connector}` shows those that are already there",
            code="too_many_quarantined",
            stream=self._plan.stream,
        )


def with_known_keys(
    rows: pa.RecordBatch, key: Sequence[str], known: Mapping[tuple[str, ...], object]
) -> list[tuple[int, tuple[str, ...]]]:
    """The rows whose key, as text, is known: their places and keys."""
    if not known:
        return []
    columns = [values.to_text(rows.column(name)) for name in key]
    firsts = pa.array({texts[0] for texts in known}, pa.string())
    places = pc.indices_nonzero(pc.is_in(columns[0], value_set=firsts))
    texts = zip(*(column.take(places).to_pylist() for column in columns), strict=True)
    return [found for found in zip(places.to_pylist(), texts, strict=True) if found[1] in known]


def _is_read_again(plan: LoadPlan, resumed: Checkpoint | None, row: Texts) -> bool:
    """Whether the part of the stream that is read now holds the row, if the source still has it."""
    if resumed is None or plan.disposition is Disposition.REPLACE:
        return True
    text = row.get(str(plan.cursor))
    if text is None:
        return plan.tail_has_nulls
    kind = plan.schema.field(plan.cursor).type
    since = stored_tail(resumed, kind) or resumed
    if since.tail_from.kind is CursorKind.TEXT:
        return text in since.tail_values
    try:
        bound, found = (
            ordered(values.cursor_scalar(value, kind))
            for value in (since.tail_from, CursorValue(since.tail_from.kind, text))
        )
    except SchemaChangeError:
        return False  # its cursor was refused: where it comes again, its id is the same
    return bool(found >= bound)


def ordered(scalar: pa.Scalar) -> Any:
    """The cell of a cursor as Python compares it."""
    if scalar.type == values.UNLIMITED_DECIMAL:
        number = Decimal(scalar.as_py())
        return (True, Decimal()) if number.is_nan() else (False, number)  # after infinity, as PostgreSQL
    # Python's own times have no nanoseconds.
    return scalar.value if isinstance(scalar, pa.TimestampScalar) else scalar.as_py()


def _digest(content: object) -> str:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
