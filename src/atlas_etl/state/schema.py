"""The tables and views of the state store, once for SQLite and PostgreSQL, and their version.

SQLite has no schemas, so the names stand alone here; PostgreSQL keeps them in the schema `pipeline`, by
way of SQLAlchemy's schema_translate_map. (The other way about, SQLAlchemy would write `main.` into SQLite's
views, and a file with such views cannot be attached to another.)
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Identity,
    Index,
    Integer,
    Label,
    LargeBinary,
    MetaData,
    Select,
    Table,
    and_,
    func,
    select,
)
from sqlalchemy.sql.ddl import CreateView

from atlas_etl.state.column_types import JSON_TEXT, PlainText, UtcDateTime

SCHEMA = "pipeline"
SCHEMA_VERSION = 8

metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("migrated_at", UtcDateTime, nullable=False),
)

connectors = Table(
    "connectors",
    metadata,
    Column("name", PlainText, primary_key=True),
    Column("protocol", PlainText, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("schedule", PlainText),
    Column("updated_at", UtcDateTime, nullable=False),
)

connector_state = Table(
    "connector_state",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("stream", PlainText, primary_key=True),
    Column("checkpoint", JSON_TEXT, nullable=False),
    Column("committed_at", UtcDateTime, nullable=False),
    Column("run_id", PlainText, nullable=False),
)

checkpoint_changes = Table(
    "checkpoint_changes",
    metadata,
    Column(
        "change_id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True
    ),  # an identity needs no right of its own, as a sequence does
    Column("connector", PlainText, nullable=False),
    Column("stream", PlainText, nullable=False),
    Column("action", PlainText, nullable=False),
    Column("before", JSON_TEXT),
    Column("after", JSON_TEXT),
    Column("run_id", PlainText),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("changed_by", PlainText),
    Column("reason", PlainText),
)

scheduled_runs = Table(
    "scheduled_runs",
    metadata,
    Column("run_id", PlainText, primary_key=True),
    Column("connector", PlainText, nullable=False),
    Column("status", PlainText, nullable=False),
    Column("triggered_by", PlainText, nullable=False),
    Column("scheduled_at", UtcDateTime),
    Column("started_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    Column("destination", PlainText),
    Column("rows_processed", BigInteger, nullable=False),
    Column("bytes_processed", BigInteger, nullable=False),
    Column("error", JSON_TEXT),
    Column("streams", JSON_TEXT, nullable=False),
    Column("fencing_token", BigInteger),
)

# A table of its own: a lease may be taken for a connector nobody registered, and its token must
# go on growing after the connector was removed.
leases = Table(
    "leases",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("run_id", PlainText),  # NULL: free
    Column("host", PlainText),
    Column("pid", BigInteger),
    Column("place", PlainText),
    Column("process_started", BigInteger),
    Column("acquired_at", UtcDateTime),
    Column("heartbeat_at", UtcDateTime),
    Column("heartbeat_tick", Double),
    Column("expiry_seconds", Double),
    Column("progress", JSON_TEXT),
)

slots = Table(
    "slots",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("scheduled_at", UtcDateTime, primary_key=True),
    Column("status", PlainText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("claimed_by", PlainText),
    Column("run_id", PlainText),
    Column("retry_at", UtcDateTime),
    Column("reason", PlainText),
    Column("error", JSON_TEXT),
)

schedules = Table(
    "schedules",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("expression", PlainText, nullable=False),
    Column("timezone", PlainText, nullable=False),
    Column("decided_until", UtcDateTime, nullable=False),
)

breakers = Table(
    "breakers",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("opened_at", UtcDateTime),
    Column("probe_at", UtcDateTime),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("action", PlainText, nullable=False),
    Column("connector", PlainText),
    Column("subject", PlainText),
    Column("before", JSON_TEXT),
    Column("after", JSON_TEXT),
    Column("run_id", PlainText),
    Column("reason", PlainText),
    Column("outside", Boolean, nullable=False),
    Column("user_name", PlainText, nullable=False),
    Column("host", PlainText, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("command", PlainText, nullable=False),
    Column("on_behalf_of", PlainText),
    Column("address", PlainText),
)

# As the audit saw them last; without secrets.
known_definitions = Table(
    "known_definitions",
    metadata,
    Column("name", PlainText, primary_key=True),
    Column("settings", JSON_TEXT, nullable=False),
)

Index("ix_slots_status", slots.c.status)
Index("ix_slots_run_id", slots.c.run_id)

connection_tests = Table(
    "connection_tests",
    metadata,
    Column("test_id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("connector", PlainText, nullable=False),
    Column("tested_at", UtcDateTime, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("message", PlainText, nullable=False),
    Column("server_version", PlainText),
    Column("warnings", JSON_TEXT, nullable=False),
    Column("error", JSON_TEXT),  # NULL: it succeeded
)

# Beside the tests, which are pruned: since when a connector is as it is, and whose turn it is to test it.
connector_health = Table(
    "connector_health",
    metadata,
    Column("connector", PlainText, primary_key=True),
    Column("slot", UtcDateTime),
    Column("claimed_until", UtcDateTime),  # NULL: nobody tests it
    Column("since", UtcDateTime),
    Column("last_test", JSON_TEXT),
)

Index("ix_connection_tests_connector", connection_tests.c.connector, connection_tests.c.test_id)

# Counts only: neither rows nor their keys.
verifications = Table(
    "verifications",
    metadata,
    Column("verification_id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("connector", PlainText, nullable=False),
    Column("stream", PlainText, nullable=False),
    Column("verified_at", UtcDateTime, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("mode", PlainText, nullable=False),
    Column("source_rows", BigInteger, nullable=False),
    Column("destination_rows", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("extra", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
)

Index("ix_verifications_connector", verifications.c.connector, verifications.c.verification_id)

# Encrypted, with a key that is not here.
secrets = Table(
    "secrets",
    metadata,
    Column("name", PlainText, primary_key=True),
    Column("key_id", PlainText, nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

Index("ix_checkpoint_changes_connector", checkpoint_changes.c.connector, checkpoint_changes.c.change_id)
Index("ix_scheduled_runs_connector_started_at", scheduled_runs.c.connector, scheduled_runs.c.started_at)
Index("ix_scheduled_runs_started_at", scheduled_runs.c.started_at)


def latest_first() -> tuple[ColumnElement[object], ...]:
    """The order of the history."""
    return scheduled_runs.c.started_at.desc(), scheduled_runs.c.run_id.desc()


def latest_first_position() -> Label[int]:
    """`position`: 1 for the latest run of each connector."""
    position = func.row_number().over(partition_by=scheduled_runs.c.connector, order_by=latest_first())
    return position.label("position")


def _active_connectors() -> Select[tuple[object, ...]]:
    runs = scheduled_runs.c
    ranked = select(
        runs.connector,
        runs.run_id,
        runs.status,
        runs.started_at,
        runs.completed_at,
        latest_first_position(),
    ).subquery("ranked")
    is_last = and_(ranked.c.connector == connectors.c.name, ranked.c.position == 1)
    return (
        select(
            connectors.c.name,
            connectors.c.protocol,
            connectors.c.schedule,
            ranked.c.run_id.label("last_run_id"),
            ranked.c.status.label("last_status"),
            ranked.c.started_at.label("last_started_at"),
            ranked.c.completed_at.label("last_completed_at"),
        )
        .select_from(connectors.outerjoin(ranked, is_last))
        .where(connectors.c.enabled)
    )


def _recent_runs() -> Select[tuple[object, ...]]:
    columns = [column for column in scheduled_runs.c if column.name not in {"streams", "fencing_token"}]
    return select(*columns).order_by(*latest_first()).limit(100)


CreateView(_active_connectors(), "v_active_connectors", metadata=metadata)
CreateView(_recent_runs(), "v_recent_runs", metadata=metadata)
