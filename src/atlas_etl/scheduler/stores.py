"""A project's state store, opened for the scheduler: what runs record, and what the schedule needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.contracts import ScheduleStore, StateStore
from atlas_etl.state.open import open_state_store


@dataclass(frozen=True, slots=True)
class Stores:
    """The two sides of one state store."""

    state: StateStore
    schedule: ScheduleStore


@contextmanager
def open_stores(project: Project) -> Iterator[Stores]:
    """The store that the project names. Raises ConfigError, StateError."""
    with closing(open_state_store(state_location(project))) as store:
        yield Stores(store, store.schedule)
