"""How a project's connectors stand, as the state store knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from atlas_etl.model import Breaker, ConnectorHealth, Run, Verification
from atlas_etl.state.store import SqlStateStore


class Standing(Struct, frozen=True):
    """By connector; one that nothing is known of is in none of them."""

    runs: Mapping[str, Run] = field(default_factory=dict)  # the latest of each
    breakers: Mapping[str, Breaker] = field(default_factory=dict)  # of those whose runs failed of late
    health: Mapping[str, ConnectorHealth] = field(default_factory=dict)  # by the scheduler's last tests
    verified: Sequence[Verification] = ()  # the latest of each stream that was ever compared


def standing(store: SqlStateStore, names: Iterable[str]) -> Standing:
    """How these connectors stand. Raises StateError."""
    latest = {name: store.history(name, limit=1) for name in names}
    return Standing(
        runs={name: runs[0] for name, runs in latest.items() if runs},
        breakers=store.schedule.breakers(),
        health=store.health.health(),
        verified=store.verifications.latest(),
    )
