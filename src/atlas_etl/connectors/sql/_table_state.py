"""What a table holds of one stream, as its rows and the ledger tell."""

from __future__ import annotations

import pyarrow as pa

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._quarantine import StreamQuarantine
from atlas_etl.model import TableName, TableState


def has_rows(dialect: WriterDialect, connection: Connection, table: TableName) -> bool:
    """Whether a table that is there has any."""
    return bool(connection.execute(dialect.first(f"SELECT 1 AS n FROM {dialect.table(table)}")))


def table_state(
    dialect: WriterDialect, connection: Connection, ledger: Ledger, schema: pa.Schema | None
) -> TableState:
    """The state of the ledger's table, whose ledger is there; `schema` is None where the table is not."""
    refused = StreamQuarantine(dialect, ledger.connector, ledger.stream, ledger.table).rows(connection)
    # Before a look at the rows: what is committed in between is no history of an empty table.
    history = ledger.loads.history(connection)
    if schema is None:
        # What was dropped behind our back still counts: the ledger's line is the fence of its stream.
        return TableState(
            version=ledger.version(connection),
            quarantine=refused,
            shared=history.is_shared,
            loaded_at=history.latest,
        )
    empty = not has_rows(dialect, connection, ledger.table)
    committed, version, protection = ledger.committed(connection)
    # Rows that a run loaded are gone, because somebody emptied the table.
    is_lost = empty and committed is not None and bool(committed.run_id)
    return TableState(
        schema,
        None if committed is None or is_lost else committed.checkpoint,
        history.is_loaded,
        empty,
        version,
        refused,
        protection,
        history.is_shared,
        history.latest,
        merge_mark=None if empty else ledger.loads.merge_mark(connection),
    )
