"""Runs, leases, a mirror of the checkpoints and its history, in a SQLite file, PostgreSQL or memory."""

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
