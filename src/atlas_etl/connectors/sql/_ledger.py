"""Atlas's own tables beside the data: `_atlas_checkpoints` and `_atlas_loads` (and see _quarantine)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from msgspec import Struct

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._own_rows import read, reading_own, text, written
from atlas_etl.connectors.sql._quarantine import QUARANTINE, QUARANTINE_COLUMNS, QUARANTINE_KEY
from atlas_etl.connectors.sql._table_history import TableHistory, is_after
from atlas_etl.errors import DestinationError, LostLeaseError, OvertakenError
from atlas_etl.model import (
    Checkpoint,
    CommittedCheckpoint,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    ParentBound,
    ReconcilePlan,
    TableName,
    Watermark,
    merge_mark_of,
)

CHECKPOINTS = "_atlas_checkpoints"
LOADS = "_atlas_loads"
_BEFORE_ALL = "'0'"  # comes before every time in ISO form; an empty text is NULL to some systems
# In the place of a load's disposition:
RECONCILED = "deletes"  # where `committed_at` is the plan's `at`
EMPTIED = "emptied"  # what was loaded before, by whomever, was gone when a load began
JOINED = "joined"  # the table had rows of others when this stream first loaded into it

_KEY = ("connector", "stream")
_CHECKPOINT_COLUMNS = (
    "cursor_column", "cursor_kind", "high", "tail_from", "tail_values", "watermarks", "parents",
    "protection", "run_id", "committed_at",
)  # fmt: skip
_NO_CHECKPOINT: Mapping[str, str | None] = {
    column: None for column in _CHECKPOINT_COLUMNS if column != "protection"
}
_STREAM_COLUMNS = (*_KEY, "table_name", "version", "writer", *_CHECKPOINT_COLUMNS)
_SEARCHED = (*_KEY, "table_name", "disposition", "committed_at")  # compared where they are no key
_LOAD_COLUMNS = (
    "load_id", "run_id", "connector", "stream", "table_name", "disposition", "row_count", "committed_at",
)  # fmt: skip
_WATERMARKS = msgspec.json.Decoder(tuple[Watermark, ...])
_PARENTS = msgspec.json.Decoder(tuple[ParentBound, ...] | None)
_SPELLINGS = msgspec.json.Decoder(tuple[str, ...])


class Ledger(Struct, frozen=True):
    """The ledger of one stream's table, written inside the load's own transaction. All columns are text.

    Its line in `_atlas_checkpoints` is the stream's fence: `writer` is the run that began a load last, and
    `version` counts the commits. Who finds another run or version there when it commits came too late.
    """

    dialect: WriterDialect
    connector: str
    stream: str
    table: TableName

    @property
    def checkpoints_table(self) -> TableName:
        return TableName(CHECKPOINTS, self.table.schema)

    @property
    def loads_table(self) -> TableName:
        return TableName(LOADS, self.table.schema)

    @property
    def quarantine_table(self) -> TableName:
        return TableName(QUARANTINE, self.table.schema)

    def create(self, connection: Connection) -> None:
        """Make the tables where they are missing."""
        dialect = self.dialect
        for table, columns, key in (
            (self.checkpoints_table, _STREAM_COLUMNS, _KEY),
            (self.loads_table, _LOAD_COLUMNS, ("load_id",)),
            (self.quarantine_table, QUARANTINE_COLUMNS, QUARANTINE_KEY),
        ):
            kinds = [f"{dialect.quote(column)} {self._kind(column, key)}" for column in columns]
            connection.execute(dialect.create_own_table(table, kinds, key))

    def _kind(self, column: str, key: Sequence[str]) -> str:
        if column in key:
            return self.dialect.key_type
        is_searched = column in _SEARCHED and self.dialect.searched_type is not None
        return str(self.dialect.searched_type) if is_searched else self.dialect.text_type

    def history(self, connection: Connection) -> TableHistory:
        """When which streams loaded into this table, by one look at its lines."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        at, disposition = quote("committed_at"), quote("disposition")
        ours = " AND ".join(f"{quote(name)} = {mark}" for name in _KEY)
        whose = (self.connector, self.stream)
        asked: tuple[tuple[str, tuple[str, ...]], ...] = (
            (ours, whose),
            (f"NOT ({ours})", whose),
            (f"{ours} AND {disposition} = {mark}", (*whose, Disposition.REPLACE.value)),
            (f"{ours} AND {disposition} = {mark}", (*whose, JOINED)),
            (f"{disposition} = {mark}", (EMPTIED,)),
        )
        latest = ", ".join(f"max(CASE WHEN {condition} THEN {at} END)" for condition, _ in asked)
        same_table, of_table = self._same_table()
        (found,) = connection.execute(
            f"SELECT max({at}), {latest} FROM {self.dialect.table(self.loads_table)} WHERE {same_table}",
            (*(parameter for _, parameters in asked for parameter in parameters), *of_table),
        )
        with reading_own(LOADS, self.stream):
            return TableHistory(
                *(None if cell is None else datetime.fromisoformat(str(cell)) for cell in found)
            )

    def has_load(self, connection: Connection, load_id: str) -> bool:
        """Whether rows of this id came into the table since it was last replaced, emptied or made again."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        loads = self.dialect.table(self.loads_table)
        where, parameters = self._of_table()
        beginning = f"{self.dialect.substring}({quote('load_id')}, 1, {len(load_id) + 1})"
        since, of_since = self._since()
        select = self.dialect.first(f"SELECT 1 AS n FROM {loads}{where} AND {beginning} = {mark} AND {since}")
        return bool(connection.execute(select, (*parameters, f"{load_id}/", *of_since)))

    def merge_mark(self, connection: Connection) -> str | None:
        """That of the stream's last load by a key, unless it replaced the rows by none since."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self._of_table()
        merged = f"{self.dialect.substring}({quote('load_id')}, 1, 1) = {mark}"
        select = self.dialect.first(
            f"SELECT {quote('load_id')} FROM {self.dialect.table(self.loads_table)}{where} "
            f"AND ({merged} OR {quote('disposition')} = {mark}) ORDER BY {quote('committed_at')} DESC"
        )
        found = connection.execute(select, (*parameters, "[", Disposition.REPLACE.value))
        return merge_mark_of(str(found[0][0])) if found else None

    def reconciled_at(self, connection: Connection) -> datetime | None:
        """When the source was looked at for the last reconciliation of this table."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self._of_table()
        found = connection.execute(
            f"SELECT max({quote('committed_at')}) FROM {self.dialect.table(self.loads_table)}{where} "
            f"AND {quote('disposition')} = {mark}",
            (*parameters, RECONCILED),
        )
        if found[0][0] is None:
            return None
        with reading_own(LOADS, self.stream):
            return datetime.fromisoformat(str(found[0][0]))

    def other_stream(self, connection: Connection) -> tuple[str, str] | None:
        """Another connector and stream that loaded into this table since this one last replaced its rows.

        Locked, so that it is what is committed now, whatever snapshot the transaction has.
        """
        quote, mark = self.dialect.quote, self.dialect.placeholder
        same_table, of_table = self._same_table()
        since, of_since = self._since()
        select = self.dialect.first_locked(
            f"SELECT {self.dialect.names(_KEY)} FROM {self.dialect.table(self.loads_table)}"
            f"{self.dialect.lock_hint} WHERE {same_table} "
            f"AND NOT ({quote('connector')} = {mark} AND {quote('stream')} = {mark}) AND {since}"
        )
        found = connection.execute(select, (*of_table, self.connector, self.stream, *of_since))
        return (str(found[0][0]), str(found[0][1])) if found else None

    def refuse_other_streams(self, connection: Connection) -> None:
        """Raise DestinationError where another stream's rows, which have other keys, would be deleted."""
        other = self.other_stream(connection)
        if other is not None:
            raise DestinationError(
                f"{self.table} also has rows of the stream {other[1]!r} of {other[0]!r}, "
                "whose keys this source does not have",
                hint="give each stream a table of its own with `into`; where that one loads no more, "
                "sync once with --full-refresh",
                code="table_not_ours",
                stream=self.stream,
            )

    def refuse_overtaken(self, connection: Connection, plan: LoadPlan) -> None:
        """Raise OvertakenError where another stream loaded into the table since the plan was made.

        Asked behind a DELETE, so that whatever that one saw has its line; or before the commit, for rows that
        come into a table which was empty.
        """
        if is_after(self.history(connection).of_others, plan.after):
            raise OvertakenError(plan.stream)

    def committed(self, connection: Connection) -> tuple[CommittedCheckpoint | None, int, str | None]:
        """The checkpoint of this stream in this table, the stream's version, and the rows' protection."""
        line = self._line(connection)
        if line is None:
            return None, 0, None
        if line["table_name"] is None:
            return None, _version(line), None
        protection = line["protection"]
        return _committed(line), _version(line), None if protection is None else str(protection)

    def version(self, connection: Connection) -> int:
        """How many commits there were of this stream."""
        line = self._line(connection)
        return 0 if line is None else _version(line)

    def begin(self, connection: Connection, run_id: str) -> None:
        """Put the run in the place of the one that began a load before: that one cannot commit any more."""
        row = (self.connector, self.stream, self.table.name, "0", written(self.dialect, run_id))
        columns = _STREAM_COLUMNS[: len(row)]
        connection.execute(self.dialect.upsert(self.checkpoints_table, columns, _KEY, "writer"), row)

    def lock_table(self, connection: Connection) -> None:
        """Lock the lines of all streams of the table until the commit, so that one of them commits at a time.

        In their order, and before `claim`: who has a line and waits for another would wait for ever.
        """
        dialect = self.dialect
        if dialect.for_update or dialect.lock_hint:
            same_table, of_table = self._same_table()
            lines = f"{dialect.table(self.checkpoints_table)}{dialect.lock_hint}"
            key = dialect.names(_KEY)
            connection.execute(
                f"SELECT {key} FROM {lines} WHERE {same_table} ORDER BY {key}{dialect.for_update}", of_table
            )

    def claim(self, connection: Connection, plan: LoadPlan | ReconcilePlan) -> int:
        """Lock the stream's line until the commit; gives back its version.

        Raises LostLeaseError where another run has begun a load since, and OvertakenError where a load was
        committed since the plan was made.
        """
        line = self._line(connection, self.dialect.lock_hint, self.dialect.for_update)
        if line is None or line["writer"] != plan.run_id:
            raise LostLeaseError(
                "another run has begun to load this stream since, so nothing more was committed",
                hint="sync again; let hosts that load the same tables share one state store",
                stream=plan.stream,
            )
        version = _version(line)
        if plan.version is not None and version != plan.version:
            raise OvertakenError(plan.stream)
        return version

    def record_checkpoint(
        self, connection: Connection, checkpoint: Checkpoint, *, run_id: str, version: int
    ) -> None:
        """Put this checkpoint and version in the place of those that are there."""
        self._record(connection, version, _checkpoint_cells(checkpoint, run_id))

    def forget_checkpoint(self, connection: Connection, *, version: int) -> None:
        """Count a commit without a checkpoint, which leaves the rows that are there."""
        self._record(connection, version, _NO_CHECKPOINT)

    def record_replaced(self, connection: Connection, protection: str | None, *, version: int) -> None:
        """Count a commit without a checkpoint, in whose table no other rows are left."""
        self._record(connection, version, {**_NO_CHECKPOINT, "protection": protection})

    def record_protection(self, connection: Connection, protection: str, *, version: int) -> None:
        """Count a commit of rows without a cursor. The checkpoint stays, unless it is of another table."""
        line = self._line(connection)
        is_ours = line is not None and line["table_name"] is not None
        known = {} if is_ours else _NO_CHECKPOINT
        self._record(connection, version, {**known, "protection": protection})

    def record_version(self, connection: Connection, version: int) -> None:
        """Count a commit that leaves the checkpoint as it is."""
        self._update(connection, {"version": str(version)})

    def record_load(
        self,
        connection: Connection,
        *,
        load_id: str,
        run_id: str,
        disposition: str,
        rows: int,
        at: datetime,
    ) -> None:
        """Add one line for a load, or for a reconciliation."""
        row = (
            load_id, run_id, self.connector, self.stream, self.table.name, str(disposition), str(rows),
            at.isoformat(timespec="microseconds"),
        )  # fmt: skip
        marks = ", ".join(self.dialect.placeholder for _ in row)
        into = f"{self.dialect.table(self.loads_table)} ({self.dialect.names(_LOAD_COLUMNS)})"
        connection.execute(f"INSERT INTO {into} VALUES ({marks})", row)

    def record_event(self, connection: Connection, event: str, *, run_id: str, at: datetime) -> None:
        """Add one line for what a load found out of its table: EMPTIED or JOINED."""
        self.record_load(connection, load_id=str(uuid4()), run_id=run_id, disposition=event, rows=0, at=at)

    def _since(self) -> tuple[str, tuple[str, ...]]:
        """The SQL of whether a line is of rows that this stream has not replaced and nobody took away."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        loads, at = self.dialect.table(self.loads_table), quote("committed_at")
        of_kind = f"AND {quote('disposition')} = {mark}"
        where, parameters = self._of_table()
        same_table, of_table = self._same_table()
        replaced = f"SELECT max({at}) FROM {loads}{where} {of_kind}"
        emptied = f"SELECT max({at}) FROM {loads} WHERE {same_table} {of_kind}"
        return (
            f"{at} > COALESCE(({replaced}), {_BEFORE_ALL}) AND {at} > COALESCE(({emptied}), {_BEFORE_ALL})",
            (*parameters, Disposition.REPLACE.value, *of_table, EMPTIED),
        )

    def _record(self, connection: Connection, version: int, cells: Mapping[str, str | None]) -> None:
        self._update(connection, {"table_name": self.table.name, "version": str(version), **cells})

    def _line(
        self, connection: Connection, lock_hint: str = "", for_update: str = ""
    ) -> Mapping[str, object] | None:
        """What is there of the stream; without the name of the table where it is another one."""
        where, parameters = self._of_stream()
        same_table, of_table = self._same_table()
        own_name = f"CASE WHEN {same_table} THEN {self.dialect.quote('table_name')} END"
        columns = (own_name if name == "table_name" else self.dialect.quote(name) for name in _STREAM_COLUMNS)
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM {self.dialect.table(self.checkpoints_table)}{lock_hint}"
            f"{where}{for_update}",
            (*of_table, *parameters),
        )
        return _read(self.dialect, rows[0]) if rows else None

    def _update(self, connection: Connection, cells: Mapping[str, str | None]) -> None:
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self._of_stream()
        sets = ", ".join(f"{quote(name)} = {mark}" for name in cells)
        connection.execute(
            f"UPDATE {self.dialect.table(self.checkpoints_table)} SET {sets}{where}",
            (*(written(self.dialect, cell) for cell in cells.values()), *parameters),
        )

    def _of_table(self) -> tuple[str, tuple[str, ...]]:
        where, parameters = self._of_stream()
        same_table, of_table = self._same_table()
        return f"{where} AND {same_table}", (*parameters, *of_table)

    def _same_table(self) -> tuple[str, Sequence[str]]:
        """The SQL of whether a line is of the table, and its parameters."""
        return self.dialect.same_table(self.dialect.quote("table_name"), self.table.name)

    def _of_stream(self) -> tuple[str, tuple[str, ...]]:
        quote, mark = self.dialect.quote, self.dialect.placeholder
        return f" WHERE {' AND '.join(f'{quote(name)} = {mark}' for name in _KEY)}", (
            self.connector,
            self.stream,
        )


def connector_checkpoints(
    dialect: WriterDialect, connection: Connection, schema: str | None, connector: str
) -> list[CommittedCheckpoint]:
    """Every checkpoint of a connector in one schema's ledger, which must be there."""
    rows = connection.execute(
        f"SELECT {dialect.names(_STREAM_COLUMNS)} FROM {dialect.table(TableName(CHECKPOINTS, schema))} "
        f"WHERE {dialect.quote('connector')} = {dialect.placeholder}",
        (connector,),
    )
    lines = (_read(dialect, row) for row in rows)
    return [committed for committed in map(_committed, lines) if committed is not None]


def _read(dialect: WriterDialect, row: Sequence[object]) -> Mapping[str, object]:
    """A line of `_atlas_checkpoints`."""
    return dict(zip(_STREAM_COLUMNS, (read(dialect, cell) for cell in row), strict=True))


def _checkpoint_cells(checkpoint: Checkpoint, run_id: str) -> dict[str, str | None]:
    cells = (
        checkpoint.cursor, checkpoint.high.kind.value, checkpoint.high.text, checkpoint.tail_from.text,
        json.dumps(checkpoint.tail_values), msgspec.json.encode(checkpoint.watermarks).decode(),
        msgspec.json.encode(checkpoint.parents).decode(), checkpoint.protection, run_id,
        datetime.now(UTC).isoformat(),
    )  # fmt: skip
    return dict(zip(_CHECKPOINT_COLUMNS, cells, strict=True))


def _committed(line: Mapping[str, object]) -> CommittedCheckpoint | None:
    if line["cursor_column"] is None:
        return None
    with reading_own(CHECKPOINTS, str(line["stream"])):
        texts = {name: text(line[name]) for name in _CHECKPOINT_COLUMNS}
        kind = CursorKind(texts["cursor_kind"])
        checkpoint = Checkpoint(
            texts["cursor_column"],
            CursorValue(kind, texts["high"]),
            CursorValue(kind, texts["tail_from"]),
            _SPELLINGS.decode(texts["tail_values"]),
            _WATERMARKS.decode(texts["watermarks"]),
            _PARENTS.decode(texts["parents"]),
            texts["protection"],
        )
        committed_at = datetime.fromisoformat(texts["committed_at"])
        return CommittedCheckpoint(str(line["stream"]), checkpoint, committed_at, texts["run_id"])


def _version(line: Mapping[str, object]) -> int:
    with reading_own(CHECKPOINTS, str(line["stream"])):
        return int(text(line["version"]))
