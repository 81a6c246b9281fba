"""Schema evolution, pure: what a table must become to take the rows that arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import RefusedRowError, SchemaChangeError
from atlas_etl.model import AddColumn, CreateTable, DropTable, KnownColumns, SchemaChange, Stream, WidenColumn

_SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_INTEGER_DIGITS = dict(zip((*_SIGNED, *_UNSIGNED), (3, 5, 10, 19, 3, 5, 10, 20), strict=True))
# Types that some destinations hold as another one.
_PROBES = pa.schema(
    [
        ("a", pa.bool_()),
        ("b", pa.date32()),
        ("c", pa.timestamp("us")),
        ("d", pa.timestamp("us", "UTC")),
        ("e", pa.float64()),
        ("f", pa.decimal128(18, 2)),
        ("g", pa.json_()),
    ]
)
_AS_TEXT = (
    "the destination has no finer times: load the column as text, by `types` of a file or an API, or by a "
    "CAST in the stream's query"
)
_MAX_DIGITS_128, _MAX_DIGITS_256 = 38, 76


Storable = Callable[[pa.Schema, pa.Schema | None], pa.Schema]
"""A schema as a destination names and types it beside what is there (contracts.Destination.storable)."""


def evolve(
    existing: pa.Schema | None, read: pa.Schema, storable: Storable
) -> tuple[pa.Schema, tuple[SchemaChange, ...]]:
    """The schema that rows of the schema `read` are written in, and the changes that let the table take it.

    Columns are added, types widened and never narrowed; a column that no longer arrives stays and gets
    NULL. What is text in a source that declares no types has text before it, too, whatever it looked like.
    Raises SchemaChangeError for a type that cannot be widened.
    """
    incoming = storable(read, existing)
    if existing is None:
        return incoming, (CreateTable(),)
    changes: list[SchemaChange] = []
    fields: list[pa.Field] = []
    for field, arriving in zip(incoming, read, strict=True):
        index = existing.get_field_index(field.name)
        if index < 0:
            changes.append(AddColumn(field))
            fields.append(field)
            continue
        before = existing.field(index).type
        after = widest(before, field.type)
        if values.is_inferred(arriving) and field.type == pa.string() and _has_spelling(before):
            after = pa.string()
        if after not in (None, before, field.type):  # neither's: the destination may know no such type
            after = storable(pa.schema([field.with_type(after)]), existing).field(0).type
        if after is None:
            raise SchemaChangeError(
                f"column {field.name!r} is {values.type_name(before)} in the table and "
                f"{values.type_name(field.type)} in what is read, which the table cannot be widened to",
                hint="run with --full-refresh to make the table again with the new type; of a table of your "
                "own, change the column, or choose another table with `into`",
                column=field.name,
            )
        fields.append(field.with_type(after))
        if after != before:
            changes.append(WidenColumn(field.name, before, field.with_type(after)))
    return pa.schema(fields), tuple(changes)


def reading_texts(there: pa.Schema | None, incoming: pa.Schema) -> pa.Schema | None:
    """The table as texts are written to it: whoever made a column so has it read their numbers."""
    if there is None:
        return None
    texts = {field.name for field in incoming if field.type == pa.string()}
    return pa.schema(
        [
            field.with_type(pa.string())
            if field.name in texts and field.type == values.UNLIMITED_DECIMAL
            else field
            for field in there
        ]
    )


def told(changes: Sequence[SchemaChange]) -> tuple[str, ...]:
    """What becomes of a table that is there, for a person; nothing of one that is new."""
    found: list[str] = []
    for change in changes:
        match change:
            case DropTable():
                found.append("the table was made again, for types or a key that it could not take")
            case AddColumn(field):
                found.append(f"column {field.name!r} was added ({values.type_name(field.type)})")
            case WidenColumn(name, before, after):
                kinds = f"from {values.type_name(before)} to {values.type_name(after.type)}"
                found.append(f"column {name!r} was widened {kinds}")
    return tuple(found)


def unread_values(changes: Sequence[SchemaChange]) -> tuple[str, ...]:
    """What a load that begins at a checkpoint leaves as it was in the columns that change, for a person."""
    added = [change.field.name for change in changes if isinstance(change, AddColumn)]
    texts = [
        change.name
        for change in changes
        if isinstance(change, WidenColumn)
        and pa.types.is_decimal(change.before)
        and change.before.scale > 0
        and change.after.type == pa.string()
    ]
    spelled = [
        change.name
        for change in changes
        if isinstance(change, WidenColumn)
        and _has_spelling(change.before)
        and change.after.type == pa.string()
    ]
    unread = "rows from before the tail are not read again, and have"
    bring = "run `connector verify --repair` or --full-refresh"
    warnings: list[str] = []
    if names := ", ".join(repr(name) for name in added if not name.startswith("_atlas_")):
        warnings.append(
            f"{names}: {unread} NULL there; where the source has values in them (a default, a renamed "
            f"column), {bring}"
        )
    if names := ", ".join(map(repr, texts)):
        warnings.append(
            f"{names}: {unread} their numbers as texts of equally many decimals; where the source writes "
            f"them otherwise (1, not 1.00), {bring}"
        )
    if names := ", ".join(map(repr, spelled)):
        warnings.append(
            f"{names}: {unread} their values as texts of one form (2026-03-01T10:00:00.000000Z, true); where "
            f"the source writes them otherwise, {bring}"
        )
    return tuple(warnings)


def known_columns(stream: Stream, there: pa.Schema | None, storable: Storable) -> KnownColumns | None:
    """What a table that is there tells of its stream; Atlas's own columns are not the source's."""
    if there is None:
        return None
    schema = pa.schema(
        [
            # No inference finds such numbers: a column of them was made for texts of numbers.
            field.with_type(pa.string()) if field.type == values.UNLIMITED_DECIMAL else field
            for field in there
            if not field.name.startswith("_atlas_")
        ]
    )
    stored = zip(_PROBES.types, storable(_PROBES, there).types, strict=True)
    shared = {kind for probe, kind in stored if kind != probe}
    if stream.timezone is not None:
        shared |= {pa.timestamp(unit, "UTC") for unit in ("us", "ns")}  # which times without a zone became
    settled = frozenset(field.name for field in schema if field.type not in shared)

    @cache
    def stored_name(name: str) -> str:
        (stored,) = storable(pa.schema([pa.field(name, pa.string())]), there).names
        return str(stored)

    return KnownColumns(schema, settled, stored_name)


def widest(before: pa.DataType, after: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds every value of both exactly, or None where there is none.

    Text holds every integer, decimal, uuid and JSON document by its digits or spelling.
    """
    if before == after:
        return before
    if values.UNLIMITED_DECIMAL in (before, after) and _exact_number(before) and _exact_number(after):
        return values.UNLIMITED_DECIMAL
    if _exact_number(before) and _exact_number(after):
        return _widest_number(before, after)
    if pa.types.is_floating(before) and pa.types.is_floating(after):
        return max(before, after, key=lambda kind: kind.bit_width)
    if {before, after} <= {pa.float64(), *_SIGNED[:3], *_UNSIGNED[:3]}:
        return pa.float64()  # 32 bits and fewer fit a double's 53
    if pa.types.is_timestamp(before) and pa.types.is_timestamp(after) and before.tz == after.tz:
        return before if before.unit == "ns" else after
    if pa.types.is_list(before) and pa.types.is_list(after):
        inner = widest(before.value_type, after.value_type)
        return pa.list_(inner) if inner is not None else None
    if pa.string() in (before, after):
        other = after if before == pa.string() else before
        return pa.string() if _exact_number(other) or other in (pa.uuid(), pa.json_()) else None
    return None


def conform(batch: pa.RecordBatch, target: pa.Schema) -> pa.RecordBatch:
    """The batch in the target's names and types, by position.

    Raises RefusedRowError where a value would change.
    """
    if batch.schema.equals(target):
        return batch
    columns: list[pa.Array] = []
    for column, field in zip(batch.columns, target, strict=True):
        try:
            columns.append(values.convert(column, field.type))
        except pa.ArrowInvalid as failure:
            there, read = values.type_name(field.type), values.type_name(column.type)
            raise RefusedRowError(
                f"column {field.name!r} was read as {read} and has a value that {there} cannot hold exactly",
                hint=_AS_TEXT
                if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type)
                else "run with --full-refresh to make the table again",
                code="value_does_not_fit",
                column=field.name,
            ) from failure
    return pa.RecordBatch.from_arrays(columns, schema=target)


def _has_spelling(kind: pa.DataType) -> bool:
    """Whether a value's text can be spelled in several ways, or one that no number has."""
    tests = (pa.types.is_boolean, pa.types.is_date, pa.types.is_timestamp, pa.types.is_floating)
    return any(test(kind) for test in tests)


def _exact_number(kind: pa.DataType) -> bool:
    is_unlimited = kind == values.UNLIMITED_DECIMAL
    return bool(is_unlimited or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _widest_number(before: pa.DataType, after: pa.DataType) -> pa.DataType:
    for family in (_SIGNED, _UNSIGNED):
        if before in family and after in family:
            return max(before, after, key=family.index)
    if pa.types.is_integer(before) and pa.types.is_integer(after):
        unsigned = before if before in _UNSIGNED else after
        signed = after if unsigned is before else before
        for kind in _SIGNED:
            if kind.bit_width >= signed.bit_width and kind.bit_width > unsigned.bit_width:
                return kind
    (whole_before, scale_before), (whole_after, scale_after) = _digits(before), _digits(after)
    scale = max(scale_before, scale_after)
    digits = max(whole_before, whole_after) + scale
    if digits <= _MAX_DIGITS_128:
        return pa.decimal128(digits, scale)
    return pa.decimal256(digits, scale) if digits <= _MAX_DIGITS_256 else values.UNLIMITED_DECIMAL


def _digits(kind: pa.DataType) -> tuple[int, int]:
    """Digits before and after the decimal point."""
    if pa.types.is_integer(kind):
        return _INTEGER_DIGITS[kind], 0
    return kind.precision - kind.scale, kind.scale
