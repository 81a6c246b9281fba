"""The few interfaces between the rooms: Connector, Extract, Destination, LoadSession, StateStore,
ScheduleStore and SecretShelf."""

from __future__ import annotations

from atlas_etl.contracts.destination import (
    NO_CHANGE,
    Destination,
    LoadSession,
    ReconcileSession,
    TableSnapshot,
)
from atlas_etl.contracts.schedule import ScheduleStore
from atlas_etl.contracts.secrets import SecretShelf
from atlas_etl.contracts.source import Connector, Extract
from atlas_etl.contracts.state import Lease, StateStore

__all__ = [
    "NO_CHANGE",
    "Connector",
    "Destination",
    "Extract",
    "Lease",
    "LoadSession",
    "ReconcileSession",
    "ScheduleStore",
    "SecretShelf",
    "StateStore",
    "TableSnapshot",
]
