"""Atlas's own tables beside the data: how they are made, and a stream's line in `_atlas_checkpoints`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atlas_etl.connectors.sql._checkpoint_line import (
    CHECKPOINTS,
    NO_CHECKPOINT,
    STREAM_COLUMNS,
    cells_of,
    checkpoint_of,
    line_of,
    version_of,
)
from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._ledger_lines import KEY, StreamLines
from atlas_etl.connectors.sql._loads import LOAD_COLUMNS, Loads
from atlas_etl.connectors.sql._own_rows import reading_own_columns, written
from atlas_etl.connectors.sql._quarantine import QUARANTINE, QUARANTINE_COLUMNS, QUARANTINE_KEY
from atlas_etl.errors import LostLeaseError, OvertakenError
from atlas_etl.model import Checkpoint, CommittedCheckpoint, LoadPlan, ReconcilePlan, TableName

_SEARCHED = (*KEY, "table_name", "disposition", "committed_at")  # compared where they are no key


class Ledger(StreamLines, frozen=True):
    """The ledger of one stream's table, written inside the load's own transaction. All columns are text.

    Its line in `_atlas_checkpoints` is the stream's fence: `writer` is the run that began a load last, and
    `version` counts the commits. Who finds another run or version there when it commits came too late.
    """

    @property
    def loads(self) -> Loads:
        return Loads(self.dialect, self.connector, self.stream, self.table)

    @property
    def checkpoints_table(self) -> TableName:
        return TableName(CHECKPOINTS, self.table.schema)

    @property
    def quarantine_table(self) -> TableName:
        return TableName(QUARANTINE, self.table.schema)

    def create(self, connection: Connection) -> None:
        """Make the tables where they are missing."""
        dialect = self.dialect
        for table, columns, key in (
            (self.checkpoints_table, STREAM_COLUMNS, KEY),
            (self.loads.name, LOAD_COLUMNS, ("load_id",)),
            (self.quarantine_table, QUARANTINE_COLUMNS, QUARANTINE_KEY),
        ):
            kinds = [f"{dialect.quote(column)} {self._kind(column, key)}" for column in columns]
            connection.execute(dialect.create_own_table(table, kinds, key))

    def _kind(self, column: str, key: Sequence[str]) -> str:
        if column in key:
            return self.dialect.key_type
        is_searched = column in _SEARCHED and self.dialect.searched_type is not None
        return str(self.dialect.searched_type) if is_searched else self.dialect.text_type

    def committed(self, connection: Connection) -> tuple[CommittedCheckpoint | None, int, str | None]:
        """The checkpoint of this stream in this table, the stream's version, and the rows' protection."""
        line = self._line(connection)
        if line is None:
            return None, 0, None
        if line["table_name"] is None:
            return None, version_of(line), None
        protection = line["protection"]
        return checkpoint_of(line), version_of(line), None if protection is None else str(protection)

    def version(self, connection: Connection) -> int:
        """How many commits there were of this stream."""
        line = self._line(connection)
        return 0 if line is None else version_of(line)

    def begin(self, connection: Connection, run_id: str) -> None:
        """Put the run in the place of the one that began a load before: that one cannot commit any more."""
        row = (self.connector, self.stream, self.table.name, "0", written(self.dialect, run_id))
        columns = STREAM_COLUMNS[: len(row)]
        connection.execute(self.dialect.upsert(self.checkpoints_table, columns, KEY, "writer"), row)

    def lock_table(self, connection: Connection) -> None:
        """Lock the lines of all streams of the table until the commit, so that one of them commits at a time.

        In their order, and before `claim`: who has a line and waits for another would wait for ever.
        """
        dialect = self.dialect
        if dialect.for_update or dialect.lock_hint:
            same_table, of_table = self.same_table()
            lines = f"{dialect.table(self.checkpoints_table)}{dialect.lock_hint}"
            key = dialect.names(KEY)
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
        version = version_of(line)
        if plan.version is not None and version != plan.version:
            raise OvertakenError(plan.stream)
        return version

    def record_checkpoint(
        self, connection: Connection, checkpoint: Checkpoint, *, run_id: str, version: int
    ) -> None:
        """Put this checkpoint and version in the place of those that are there."""
        self._record(connection, version, cells_of(checkpoint, run_id))

    def forget_checkpoint(self, connection: Connection, *, version: int) -> None:
        """Count a commit without a checkpoint, which leaves the rows that are there."""
        self._record(connection, version, NO_CHECKPOINT)

    def record_replaced(self, connection: Connection, protection: str | None, *, version: int) -> None:
        """Count a commit without a checkpoint, in whose table no other rows are left."""
        self._record(connection, version, {**NO_CHECKPOINT, "protection": protection})

    def record_protection(self, connection: Connection, protection: str, *, version: int) -> None:
        """Count a commit of rows without a cursor. The checkpoint stays, unless it is of another table."""
        line = self._line(connection)
        is_ours = line is not None and line["table_name"] is not None
        known = {} if is_ours else NO_CHECKPOINT
        self._record(connection, version, {**known, "protection": protection})

    def record_version(self, connection: Connection, version: int) -> None:
        """Count a commit that leaves the checkpoint as it is."""
        self._update(connection, {"version": str(version)})

    def _record(self, connection: Connection, version: int, cells: Mapping[str, str | None]) -> None:
        self._update(connection, {"table_name": self.table.name, "version": str(version), **cells})

    def _line(
        self, connection: Connection, lock_hint: str = "", for_update: str = ""
    ) -> Mapping[str, object] | None:
        """What is there of the stream; without the name of the table where it is another one."""
        where, parameters = self.of_stream()
        same_table, of_table = self.same_table()
        own_name = f"CASE WHEN {same_table} THEN {self.dialect.quote('table_name')} END"
        columns = (
            own_name if name == "table_name" else self.dialect.column_of(self.checkpoints_table, name)
            for name in STREAM_COLUMNS
        )
        with reading_own_columns(CHECKPOINTS, self.stream):
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM {self.dialect.table(self.checkpoints_table)}{lock_hint}"
                f"{where}{for_update}",
                (*of_table, *parameters),
            )
        return line_of(self.dialect, rows[0]) if rows else None

    def _update(self, connection: Connection, cells: Mapping[str, str | None]) -> None:
        quote, mark = self.dialect.quote, self.dialect.placeholder
        where, parameters = self.of_stream()
        sets = ", ".join(f"{quote(name)} = {mark}" for name in cells)
        connection.execute(
            f"UPDATE {self.dialect.table(self.checkpoints_table)} SET {sets}{where}",
            (*(written(self.dialect, cell) for cell in cells.values()), *parameters),
        )


def connector_checkpoints(
    dialect: WriterDialect, connection: Connection, schema: str | None, connector: str
) -> list[CommittedCheckpoint]:
    """Every checkpoint of a connector in one schema's ledger, which must be there."""
    table = TableName(CHECKPOINTS, schema)
    columns = ", ".join(dialect.column_of(table, name) for name in STREAM_COLUMNS)
    with reading_own_columns(CHECKPOINTS):
        rows = connection.execute(
            f"SELECT {columns} FROM {dialect.table(table)} "
            f"WHERE {dialect.quote('connector')} = {dialect.placeholder}",
            (connector,),
        )
    lines = (line_of(dialect, row) for row in rows)
    return [committed for committed in map(checkpoint_of, lines) if committed is not None]
