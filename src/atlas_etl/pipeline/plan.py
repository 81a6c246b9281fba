"""The plan of one load, pure: where to begin reading, and how the rows meet what is there."""

from __future__ import annotations

from uuid import uuid4

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.errors import ConfigError, DestinationError, SchemaChangeError
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    Disposition,
    DropTable,
    LoadPlan,
    NullCursor,
    Stream,
    TableName,
    TableState,
    Window,
    WireFormat,
    merge_mark,
    merge_mark_of,
)
from atlas_etl.pipeline.deletes import refuse_unreconcilable
from atlas_etl.pipeline.key_changes import other_key, refuse_new_key, respelt
from atlas_etl.pipeline.schema import Storable, evolve, reading_texts
from atlas_etl.pipeline.shape import stored_bound, stored_tail

_NUMBERS = frozenset({CursorKind.INTEGER, CursorKind.DECIMAL, CursorKind.FLOAT})


def disposition_of(stream: Stream, primary_key: tuple[str, ...]) -> Disposition:
    """The stream's disposition, or the exact one that its cursor and key allow: merge, append, replace."""
    if stream.disposition is Disposition.MERGE and not primary_key:
        raise ConfigError(
            "merge needs a primary key, and the source has none",
            hint="set `primary_key`, or use the disposition append or replace",
            code="no_primary_key",
            stream=stream.name,
        )
    if stream.disposition is not None:
        return stream.disposition
    if stream.cursor is None:
        return Disposition.REPLACE
    return Disposition.MERGE if primary_key else Disposition.APPEND


def resume_from(stream: Stream, state: TableState, *, full_refresh: bool) -> Checkpoint | None:
    """The checkpoint to go on from; None reads everything. Raises ConfigError where the cursor changed."""
    if full_refresh or stream.cursor is None or stream.disposition is Disposition.REPLACE:
        return None
    if state.checkpoint is not None and state.checkpoint.cursor != stream.cursor:
        raise ConfigError(
            f"the cursor is now {stream.cursor!r}, but what is there was read by {state.checkpoint.cursor!r}",
            hint="run with --full-refresh to read the stream again by its new cursor",
            code="cursor_changed",
            stream=stream.name,
            column=stream.cursor,
        )
    return state.checkpoint


def window_for(
    stream: Stream, state: TableState, resumed: Checkpoint | None, *, full_refresh: bool, window: Window
) -> Window | None:
    """The window in which this load may be committed; None where it replaces what readers still see."""
    replaces = full_refresh or stream.disposition is Disposition.REPLACE
    if stream.cursor is None or replaces:
        return None
    return window if resumed is not None or state.empty else None


def next_window(plan: LoadPlan) -> LoadPlan:
    """The plan of the window after this one's: the table is there, and its tail is gone."""
    version = None if plan.version is None else plan.version + 1
    load_id = _load_id(merge_mark_of(plan.load_id))
    return replace(plan, changes=(), tail=None, version=version, begins=False, joins=False, load_id=load_id)


def _load_id(beginning: str | None) -> str:
    return str(uuid4()) if beginning is None else f"{beginning}/{uuid4()}"


def plan_load(
    stream: Stream,
    *,
    run_id: str,
    connector: str,
    table: TableName,
    read: pa.Schema,
    storable: Storable,
    primary_key: tuple[str, ...],
    key_is_unique: bool,
    state: TableState,
    resumed: Checkpoint | None,
    full_refresh: bool,
    careful: bool = False,
) -> LoadPlan:
    """How the rows of one read meet their table.

    `read` is the extract's schema in the stream's shape, and `resumed` the checkpoint as the shaped cursor
    has it. Raises ConfigError, SchemaChangeError, and DestinationError for a table that is not ours.
    """
    if resumed is not None:
        _refuse_other_order(stream, resumed, read)
    wanted = disposition_of(stream, primary_key)
    refuse_unreconcilable(stream, wanted, primary_key, read=read, table=table, state=state)
    # Without a checkpoint everything is read again, so an append's tail is the whole table.
    reads_again = wanted is Disposition.APPEND and resumed is None and stream.load_id is None
    whole = full_refresh or (reads_again and not state.empty)
    disposition = Disposition.REPLACE if whole else wanted
    if disposition is Disposition.MERGE and state.empty and key_is_unique:
        disposition = Disposition.APPEND  # nothing to meet, and no key comes twice
    # An append deletes its newest rows to read them again, by their cursor alone.
    deletes = disposition is Disposition.REPLACE or (
        disposition is Disposition.APPEND and resumed is not None
    )
    if deletes and state.has_foreign_rows:
        raise DestinationError(
            f"the table {table} has rows that this stream did not load; replacing them would lose them",
            hint="choose another table with `into`, or empty or drop that one",
            code="table_not_ours",
            stream=stream.name,
        )
    stored = storable(read, state.schema)
    renamed = dict(zip(read.names, stored.names, strict=True))
    key = tuple(renamed[name] for name in primary_key)
    mark = merge_mark(key)
    has_other_key = state.loaded_by_atlas and state.merge_mark not in (None, mark)
    # An append may bring a row of a key again, each time that it changed.
    keyed = wanted is Disposition.MERGE or (key_is_unique and wanted is not Disposition.APPEND)
    is_refused = disposition is Disposition.REPLACE and (
        bool(state.key - set(stored.names))  # whose rows have no value of the table's key
        or (full_refresh and keyed and bool(state.key) and (has_other_key or not set(key) <= state.key))
    )
    cursor = renamed[stream.cursor] if stream.cursor else None
    # A full refresh brings a key as often as a merge does.
    by_key = wanted is Disposition.MERGE and not key_is_unique
    orders = cursor is not None and (wanted is Disposition.APPEND or by_key)
    goes_by_key = wanted is Disposition.MERGE or stream.deletes is not None
    respelt_key = respelt(state.schema, stored, key) if goes_by_key else None
    try:
        kept = [field for field, name in zip(stored, read.names, strict=True) if name not in stream.protect]
        there = state.schema if full_refresh else reading_texts(state.schema, pa.schema(kept))
        schema, changes = evolve(there, read, storable)
        is_refused |= full_refresh and (
            _are_numbers_now(state.schema, stored)
            or (orders and _is_number_as_text(stream, read, schema.field(cursor), by_key=by_key))
            or respelt_key is not None
        )
    except SchemaChangeError:
        if not full_refresh:
            raise
        is_refused = True
    if is_refused:
        schema, changes = stored, (DropTable(), CreateTable())
    if orders and _is_number_as_text(stream, read, schema.field(cursor), by_key=by_key):
        raise _number_as_text(stream, read, stored.field(cursor))
    if respelt_key is not None and not (state.empty or disposition is Disposition.REPLACE):
        raise respelt_key
    if disposition is Disposition.MERGE and not state.empty:
        refuse_new_key(stream, key, changes)
        if has_other_key:
            raise other_key(stream, key, str(state.merge_mark))
    appends = wanted is disposition is Disposition.APPEND and cursor is not None
    return LoadPlan(
        run_id=run_id,
        connector=connector,
        stream=stream.name,
        table=table,
        disposition=disposition,
        schema=schema,
        primary_key=key,
        cursor=cursor,
        changes=changes,
        tail=stored_tail(resumed, schema.field(cursor).type) if appends else None,
        past=_past(resumed, schema.field(cursor), stream) if cursor and not appends else None,
        distinct=key_is_unique and all(_is_same_anywhere(read.field(name).type) for name in primary_key),
        unique=key_is_unique,
        tail_has_nulls=stream.null_cursor is NullCursor.INCLUDE,
        keyed=keyed,
        by_key=by_key,
        version=state.version,
        alone=disposition is Disposition.APPEND
        and (wanted is Disposition.MERGE or (resumed is None and stream.load_id is None)),
        begins=state.empty and (state.shared or stream.load_id is not None),
        joins=not (state.empty or state.loaded_by_atlas),
        after=state.loaded_at,
        careful=careful,
        load_id=_load_id(mark if wanted is Disposition.MERGE else stream.load_id),
    )


def _past(resumed: Checkpoint | None, cursor: pa.Field, stream: Stream) -> Checkpoint | None:
    """The checkpoint as the table's cursors have it, where the destination can tell what is past it."""
    if resumed is None or resumed.high.kind is CursorKind.TEXT or resumed.parents is not None:
        return None
    kind = values.cursor_kind(cursor.type, stream=stream.name, column=cursor.name)
    if not resumed.high.kind is resumed.tail_from.kind is kind:
        return None
    high, tail_from = (stored_bound(bound, cursor.type) for bound in (resumed.high, resumed.tail_from))
    return replace(resumed, high=high, tail_from=tail_from)


def _is_same_anywhere(kind: pa.DataType) -> bool:
    """Whether values of this type that differ at the source differ everywhere; texts may fold."""
    return bool(pa.types.is_integer(kind) or pa.types.is_date32(kind) or kind == pa.uuid())


def may_pass(
    plan: LoadPlan, read: pa.Schema, shaped: pa.Schema, offered: WireFormat, state: TableState
) -> bool:
    """Whether rows may come as they are: the table has the source's very columns, and none is looked at.

    `read` is the extract's schema and `shaped` what the definition makes of it.
    """
    is_ready = all(isinstance(change, CreateTable | DropTable) for change in plan.changes)
    is_same = read.equals(shaped) and tuple(plan.schema.names) == offered.names
    is_looked_at = plan.careful or state.quarantine or (plan.merges and not plan.distinct)
    return is_ready and is_same and not is_looked_at


def _are_numbers_now(there: pa.Schema | None, stored: pa.Schema) -> bool:
    """Whether the table has numbers of any digits as text, and the destination a type for them."""
    texts = {field.name for field in there or () if field.type == pa.string()}
    return any(field.name in texts and field.type == values.UNLIMITED_DECIMAL for field in stored)


def _is_number_as_text(stream: Stream, read: pa.Schema, stored: pa.Field, *, by_key: bool) -> bool:
    """Whether the table would compare a cursor's digits: as texts, `10` stands before `9`.

    Of numbers of any digits an append asks the source for the tail, and the table for their spellings alone.
    """
    kind = read.field(stream.cursor).type
    is_number = values.cursor_kind(kind, stream=stream.name, column=str(stream.cursor)) in _NUMBERS
    is_number |= by_key and kind == values.UNLIMITED_DECIMAL
    return is_number and stored.type == pa.string()


def _number_as_text(stream: Stream, read: pa.Schema, stored: pa.Field) -> ConfigError:
    hint = "run with --full-refresh to make the table again with the new type"
    if stored.type == pa.string():
        hint = (
            "choose another cursor, a merge by a key that the source keeps unique, or a destination that "
            "holds such numbers (postgresql, sqlite, parquet)"
        )
    kind = values.type_name(read.field(stream.cursor).type)
    return ConfigError(
        f"the cursor {stream.cursor!r} is {kind}, which the table holds as text, in another order: rows "
        "would be lost",
        hint=hint,
        code="cursor_type",
        stream=stream.name,
        column=stream.cursor,
    )


def _refuse_other_order(stream: Stream, resumed: Checkpoint, read: pa.Schema) -> None:
    """Raise SchemaChangeError where the cursor's new type orders its values in another way than it did.

    What is past `10` as a number is not what is past `10` as text: rows would be lost or doubled.
    """
    column, before = resumed.cursor, resumed.tail_from.kind
    after = values.cursor_kind(read.field(column).type, stream=stream.name, column=column)
    if after is not before and not {before, after} <= _NUMBERS:
        raise SchemaChangeError(
            f"the cursor {column!r} was read as {before} and is now {after}, which has another order",
            hint="run with --full-refresh to read the stream again from its beginning",
            code="cursor_type_changed",
            stream=stream.name,
            column=column,
        )
