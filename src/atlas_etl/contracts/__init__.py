"""The few interfaces between the rooms: Connector, Extract, Destination, LoadSession, StateStore,
ScheduleStore, HealthStore, VerificationStore, RunSummaries, AuditLog and SecretShelf; and three that are
optional, ExaminedSource, ExaminedDestination and ProtectedSource."""

from __future__ import annotations

from atlas_etl.contracts.audit import AuditLog
from atlas_etl.contracts.destination import (
    NO_CHANGE,
    Answer,
    Destination,
    LoadSession,
    ReconcileSession,
    TableSnapshot,
)
from atlas_etl.contracts.examination import ExaminedDestination, ExaminedSource
from atlas_etl.contracts.health import HealthStore
from atlas_etl.contracts.schedule import ScheduleStore
from atlas_etl.contracts.secrets import SecretShelf
from atlas_etl.contracts.source import Connector, Extract, ProtectedSource
from atlas_etl.contracts.state import Lease, StateStore
from atlas_etl.contracts.summary import RunSummaries
from atlas_etl.contracts.verification import VerificationStore

__all__ = [
    "NO_CHANGE",
    "Answer",
    "AuditLog",
    "Connector",
    "Destination",
    "ExaminedDestination",
    "ExaminedSource",
    "Extract",
    "HealthStore",
    "Lease",
    "LoadSession",
    "ProtectedSource",
    "ReconcileSession",
    "RunSummaries",
    "ScheduleStore",
    "SecretShelf",
    "StateStore",
    "TableSnapshot",
    "VerificationStore",
]
