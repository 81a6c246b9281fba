"""`_atlas_loads`: a line for each load of a table and each reconciliation, and what they tell of its rows."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._ledger_lines import KEY, StreamLines
from atlas_etl.connectors.sql._own_rows import reading_own
from atlas_etl.connectors.sql._table_history import TableHistory, is_after
from atlas_etl.errors import DestinationError, OvertakenError
from atlas_etl.model import Disposition, LoadPlan, TableName, merge_mark_of

LOADS = "_atlas_loads"
LOAD_COLUMNS = (
    "load_id", "run_id", "connector", "stream", "table_name", "disposition", "row_count", "committed_at",
)  # fmt: skip
# In the place of a load's disposition:
RECONCILED = "deletes"  # where `committed_at` is the plan's `at`
EMPTIED = "emptied"  # what was loaded before, by whomever, was gone when a load began
JOINED = "joined"  # the table had rows of others when this stream first loaded into it

_BEFORE_ALL = "'0'"  # comes before every time in ISO form; an empty text is NULL to some systems


class Loads(StreamLines, frozen=True):
    """The loads of one stream's table, written inside the load's own transaction."""

    @property
    def name(self) -> TableName:
        return TableName(LOADS, self.table.schema)

    def history(self, connection: Connection) -> TableHistory:
        """When which streams loaded into this table, by one look at its lines."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        at, disposition = quote("committed_at"), quote("disposition")
        ours = " AND ".join(f"{quote(name)} = {mark}" for name in KEY)
        whose = (self.connector, self.stream)
        asked: tuple[tuple[str, tuple[str, ...]], ...] = (
            (ours, whose),
            (f"NOT ({ours})", whose),
            (f"{ours} AND {disposition} = {mark}", (*whose, Disposition.REPLACE.value)),
            (f"{ours} AND {disposition} = {mark}", (*whose, JOINED)),
            (f"{disposition} = {mark}", (EMPTIED,)),
        )
        latest = ", ".join(f"max(CASE WHEN {condition} THEN {at} END)" for condition, _ in asked)
        same_table, of_table = self.same_table()
        (found,) = connection.execute(
            f"SELECT max({at}), {latest} FROM {self.dialect.table(self.name)} WHERE {same_table}",
            (*(parameter for _, parameters in asked for parameter in parameters), *of_table),
        )
        with reading_own(LOADS, self.stream):
            return TableHistory(
                *(None if cell is None else datetime.fromisoformat(str(cell)) for cell in found)
            )

    def has_load(self, connection: Connection, load_id: str) -> bool:
        """Whether rows of this id came into the table since it was last replaced, emptied or made again."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        loads = self.dialect.table(self.name)
        where, parameters = self.of_table()
        beginning = f"{self.dialect.substring}({quote('load_id')}, 1, {len(load_id) + 1})"
        since, of_since = self._since()
        select = self.dialect.first(f"SELECT 1 AS n FROM {loads}{where} AND {beginning} = {mark} AND {since}")
        return bool(connection.execute(select, (*parameters, f"{load_id}/", *of_since)))

    def merge_mark(self, connection: Connection) -> str | None:
        """That of the stream's last load by a key, unless it replaced the rows by none since."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self.of_table()
        merged = f"{self.dialect.substring}({quote('load_id')}, 1, 1) = {mark}"
        select = self.dialect.first(
            f"SELECT {quote('load_id')} FROM {self.dialect.table(self.name)}{where} "
            f"AND ({merged} OR {quote('disposition')} = {mark}) ORDER BY {quote('committed_at')} DESC"
        )
        found = connection.execute(select, (*parameters, "[", Disposition.REPLACE.value))
        return merge_mark_of(str(found[0][0])) if found else None

    def reconciled_at(self, connection: Connection) -> datetime | None:
        """When the source was looked at for the last reconciliation of this table."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self.of_table()
        found = connection.execute(
            f"SELECT max({quote('committed_at')}) FROM {self.dialect.table(self.name)}{where} "
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
        same_table, of_table = self.same_table()
        since, of_since = self._since()
        select = self.dialect.first_locked(
            f"SELECT {self.dialect.names(KEY)} FROM {self.dialect.table(self.name)}"
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

    def record(
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
        into = f"{self.dialect.table(self.name)} ({self.dialect.names(LOAD_COLUMNS)})"
        connection.execute(f"INSERT INTO {into} VALUES ({marks})", row)

    def record_event(self, connection: Connection, event: str, *, run_id: str, at: datetime) -> None:
        """Add one line for what a load found out of its table: EMPTIED or JOINED."""
        self.record(connection, load_id=str(uuid4()), run_id=run_id, disposition=event, rows=0, at=at)

    def _since(self) -> tuple[str, tuple[str, ...]]:
        """The SQL of whether a line is of rows that this stream has not replaced and nobody took away."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        loads, at = self.dialect.table(self.name), quote("committed_at")
        of_kind = f"AND {quote('disposition')} = {mark}"
        where, parameters = self.of_table()
        same_table, of_table = self.same_table()
        replaced = f"SELECT max({at}) FROM {loads}{where} {of_kind}"
        emptied = f"SELECT max({at}) FROM {loads} WHERE {same_table} {of_kind}"
        return (
            f"{at} > COALESCE(({replaced}), {_BEFORE_ALL}) AND {at} > COALESCE(({emptied}), {_BEFORE_ALL})",
            (*parameters, Disposition.REPLACE.value, *of_table, EMPTIED),
        )
