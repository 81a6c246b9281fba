"""Runs, leases and a mirror of the checkpoints, in a SQLite file, in PostgreSQL or in memory."""

from atlas_etl.state.lease import LeaseTimes
from atlas_etl.state.open import LocalStateStore, MemoryStateStore, PostgresStateStore, open_state_store
from atlas_etl.state.store import SqlStateStore

__all__ = [
    "LeaseTimes",
    "LocalStateStore",
    "MemoryStateStore",
    "PostgresStateStore",
    "SqlStateStore",
    "open_state_store",
]
