"""One stream between two systems, synced in this process, and its copy as text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from atlas_etl import values
from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import BatchLimits, Stream, StreamRun, TableName, TableState
from atlas_etl.pipeline.events import StreamFinished, TransferEvent
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer

Text = tuple[str | None, ...]

STARTED = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Pipe:
    """One stream between two systems."""

    connector: Connector
    destination: Destination
    stream: Stream
    name: str

    @contextmanager
    def running(self, *, full_refresh: bool = False, rows: int = 1000) -> Iterator[Iterator[TransferEvent]]:
        """A sync's events; whatever is not committed when the block is left is undone."""
        job = Job("run", self.name, self.stream, STARTED, full_refresh, BatchLimits(rows=rows))
        with closing(transfer(self.connector, self.destination, job)) as events:
            yield events

    def sync(
        self, *, full_refresh: bool = False, rows: int = 1000, events: int | None = None
    ) -> StreamRun | None:
        """What a sync did; None where it was closed after so many events."""
        with self.running(full_refresh=full_refresh, rows=rows) as running:
            for seen in itertools.islice(running, events):
                if isinstance(seen, StreamFinished):
                    return seen.outcome
        return None

    def synced(self) -> StreamRun:
        """What a sync to its end did."""
        outcome = self.sync()
        assert outcome is not None
        return outcome

    def state(self) -> TableState:
        return self.destination.inspect(self.name, self.stream.name, self._table())

    def forget(self) -> None:
        self.destination.set_checkpoint(self.name, self.stream.name, self._table(), None)

    def rows(self, *columns: str) -> list[Text]:
        """These columns of the copy; nothing where there is none yet."""
        if self.state().schema is None:
            return []
        found = self.destination.query(f"SELECT {', '.join(columns)} FROM {self._table()}")
        texts = (values.to_text(column.combine_chunks()).to_pylist() for column in found.columns)
        return list(zip(*texts, strict=True))

    def _table(self) -> TableName:
        return self.destination.table_name(self.name, self.stream)
