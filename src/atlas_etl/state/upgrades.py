"""How a state store gets from each older version to the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import DDL, Connection, case, func, insert, select

from atlas_etl.state.schema import (
    audit_log,
    breakers,
    checkpoint_changes,
    connection_tests,
    connector_health,
    connector_state,
    known_definitions,
    leases,
    schedules,
    secrets,
    slots,
    verifications,
)


def _add_checkpoint_changes(connection: Connection) -> None:
    """Version 2. What is mirrored becomes each stream's first change, so that one can go back to it."""
    checkpoint_changes.create(connection)
    mirrored, set_by_hand = connector_state.c, connector_state.c.run_id == ""
    first = {
        "connector": mirrored.connector,
        "stream": mirrored.stream,
        "action": case((set_by_hand, "set"), else_="load"),
        "after": mirrored.checkpoint,
        "run_id": func.nullif(mirrored.run_id, ""),
        "changed_at": mirrored.committed_at,
    }
    in_order = select(*first.values()).order_by(mirrored.committed_at)
    connection.execute(insert(checkpoint_changes).from_select(list(first), in_order))


def _add_schedule(connection: Connection) -> None:
    """Version 3."""
    for table in (slots, schedules, breakers):
        table.create(connection)


def _add_secrets(connection: Connection) -> None:
    """Version 4."""
    secrets.create(connection)


def _add_audit(connection: Connection) -> None:
    """Version 5."""
    for table in (audit_log, known_definitions):
        table.create(connection)


def _add_connection_tests(connection: Connection) -> None:
    """Version 6."""
    for table in (connection_tests, connector_health):
        table.create(connection)


def _add_progress(connection: Connection) -> None:
    """Version 7."""
    add = DDL("ALTER TABLE %(fullname)s ADD COLUMN progress JSON")  # type: ignore[no-untyped-call]
    connection.execute(add.against(leases))


def _add_verifications(connection: Connection) -> None:
    """Version 8."""
    verifications.create(connection)


UPGRADES: Mapping[int, Callable[[Connection], None]] = {
    1: _add_checkpoint_changes,
    2: _add_schedule,
    3: _add_secrets,
    4: _add_audit,
    5: _add_connection_tests,
    6: _add_progress,
    7: _add_verifications,
}
"""By version; a new store is made at SCHEMA_VERSION at once."""
