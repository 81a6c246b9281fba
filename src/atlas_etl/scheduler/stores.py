"""A project's state store, opened for the scheduler: of runs, of the schedule and of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from msgspec import Struct

from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.contracts import HealthStore, ScheduleStore, StateStore
from atlas_etl.state.holder import this_actor
from atlas_etl.state.only_read import StateLooks
from atlas_etl.state.open import open_state_store
from atlas_etl.state.store import SqlStateStore


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
        yield _sides(store)


@contextmanager
def looking_at_stores(project: Project) -> Iterator[Callable[[], Stores]]:
    """What gives the project's store, for what only reads, as it is at each call. Raises as `open_stores`."""
    actor = this_actor(project.context.environ)
    with closing(StateLooks(state_location(project), actor=actor)) as looks:
        yield lambda: _sides(looks.now())


def _sides(store: SqlStateStore) -> Stores:
    return Stores(store, store.schedule, store.health)
