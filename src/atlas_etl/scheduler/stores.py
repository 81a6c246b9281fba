"""A project's state store, opened for the scheduler: of runs, of the schedule and of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from msgspec import Struct

from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.contracts import HealthStore, ScheduleStore, StateStore
from atlas_etl.state.holder import this_actor
from atlas_etl.state.open import open_state_store


class Stores(Struct, frozen=True):
    """The sides of one state store."""

    state: StateStore
    schedule: ScheduleStore
    health: HealthStore


@contextmanager
def open_stores(project: Project, command: str | None = None) -> Iterator[Stores]:
    """The store that the project names; `command` is what the audit says of this process.

    Raises ConfigError, StateError.
    """
    actor = this_actor(project.context.environ, command)
    with closing(open_state_store(state_location(project), actor=actor)) as store:
        yield Stores(store, store.schedule, store.health)
