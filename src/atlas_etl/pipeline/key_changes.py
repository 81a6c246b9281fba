"""Keys that the rows which are there were not told apart by: some would be lost, or be there twice."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import SchemaChangeError
from atlas_etl.model import AddColumn, SchemaChange, Stream, told_mark


def refuse_new_key(stream: Stream, key: tuple[str, ...], changes: Sequence[SchemaChange]) -> None:
    """Raise SchemaChangeError where the rows that are there have no value of the key, so that none is met."""
    for change in changes:
        if isinstance(change, AddColumn) and change.field.name in key:
            raise SchemaChangeError(
                f"the rows that are there have no {change.field.name!r}, by which rows are merged now: "
                "they would stay beside those that replace them",
                hint="run with --full-refresh to read the stream again by its new key",
                code="key_changed",
                stream=stream.name,
                column=change.field.name,
            )


def respelt(there: pa.Schema | None, stored: pa.Schema, key: Sequence[str]) -> SchemaChangeError | None:
    """The refusal of a key whose numbers or uuids turn into texts, or back: texts may be spelt otherwise."""
    for name in key:
        index = there.get_field_index(name) if there is not None else -1
        if there is None or index < 0:
            continue
        before, after = there.field(index).type, stored.field(name).type
        # A uuid for a column that is text has one spelling.
        is_text_now = after == pa.string() and (_has_spellings(before) or before == pa.uuid())
        if is_text_now or (before == pa.string() and _has_spellings(after)):
            kinds = f"{values.type_name(before)}, and is read as {values.type_name(after)} now"
            return SchemaChangeError(
                f"{name!r}, by which rows are told apart, was loaded as {kinds}: where a text is spelt "
                "otherwise (2, not 2.00), its row would be lost, or there twice",
                hint="run with --full-refresh to make the table again with the new type",
                code="key_changed",
                column=name,
            )
    return None


def _has_spellings(kind: pa.DataType) -> bool:
    """Whether one value has several texts, as 2 and 2.00, `10:00Z` and `12:00+02:00`, `true` and `True`."""
    has_places = pa.types.is_decimal(kind) and kind.scale > 0
    tests = (pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_floating)
    return bool(has_places or any(test(kind) for test in tests))


def other_key(stream: Stream, key: Sequence[str], mark: str) -> SchemaChangeError:
    return SchemaChangeError(
        f"rows are merged by {', '.join(key)} now, and those that are there by {told_mark(mark)}: some of "
        "them would be lost, or stay beside those that replace them",
        hint="run with --full-refresh (`atlas load`: with --disposition replace) to make the table again by "
        "its new key",
        code="key_changed",
        stream=stream.name,
    )
