"""The rows of one connector that its destination does not have: seen, and loaded again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing

from msgspec import Struct

from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.contracts import StateStore
from atlas_etl.errors import AtlasError
from atlas_etl.model import QuarantinedRow
from atlas_etl.pipeline.replay import Replayed, replay
from atlas_etl.pipeline.run import failed_run, finished


class Quarantines(Struct, frozen=True):
    """The quarantine of each stream of one connector. Methods raise DestinationError, UsageError."""

    connector: PreparedConnector
    destination: PreparedDestination
    state: Callable[[], AbstractContextManager[StateStore]]

    def rows(self, streams: Sequence[str] = ()) -> list[QuarantinedRow]:
        """The rows of these streams, of all without names; of each the first that was refused first."""
        name = self.connector.name
        with closing(self.destination.open()) as destination:
            return [
                row
                for stream in self.connector.chosen(tuple(streams))
                for row in destination.inspect(
                    name, stream.name, destination.table_name(name, stream)
                ).quarantine
            ]

    def replay(self, streams: Sequence[str] = ()) -> list[Replayed]:
        """Load the rows of these streams again, of all without names. Raises LockedError, StateError."""
        chosen = self.connector.chosen(tuple(streams))
        with (
            self.state() as store,
            store.lease(
                self.connector.name, triggered_by="quarantine replay", destination=self.destination.name
            ) as lease,
            closing(self.destination.open()) as destination,
        ):
            done: list[Replayed] = []
            try:
                for stream in chosen:
                    done.append(replay(destination, stream, lease.run))
            except AtlasError as failure:
                store.finish(failed_run(lease.run, failure.located(connector=self.connector.name)))
                raise
            store.finish(finished(lease.run, [replayed.outcome for replayed in done]))
        return done
