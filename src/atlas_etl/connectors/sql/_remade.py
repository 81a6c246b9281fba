"""A table that is made anew where DDL commits: its rows come beside it first, and then in its place."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.contracts import NO_CHANGE
from atlas_etl.model import Checkpoint, LoadPlan, LoadResult, QuarantineChange, TableName


class RemadeTable(SqlLoadSession):
    """A load into `side`, which takes the table's place by `swap`, between two transactions.

    The first keeps the rows beside the table, and forgets the checkpoint; the second keeps the new one.
    Whoever is killed between them leaves a table that the next load makes or fills from the beginning.
    """

    def __init__(
        self,
        dialect: WriterDialect,
        connection: Connection,
        plan: LoadPlan,
        side: TableName,
        swap: Sequence[str],
    ) -> None:
        super().__init__(dialect, connection, replace(plan, table=side))
        self._final = plan
        self._swap = swap

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        plan, connection = self._final, self._connection
        self._settle()
        self._ledger = Ledger(self._dialect, plan.connector, plan.stream, plan.table)
        version = self._ledger.claim(connection, plan) + 1
        self._ledger.forget_checkpoint(connection, version=version)
        connection.commit()
        self._run(self._swap)
        self._plan = replace(plan, version=version)
        connection.begin()
        return super().commit(checkpoint, quarantine)
