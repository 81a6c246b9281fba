"""Snapshots whose connection is held by a SELECT until its last row was taken, or the SELECT is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

import pyarrow as pa

from atlas_etl.connectors.sql._source import Select
from atlas_etl.model import BatchLimits, HazardCells

Batches = Generator[tuple[pa.RecordBatch, Sequence[HazardCells]], None, None]


class OneFetchAtATime(ABC):
    """Ends a SELECT that was left in its middle, whoever holds its iterator still (_source.Snapshot)."""

    _fetching: Batches | None = None

    @abstractmethod
    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        """The rows, as `fetch` gives them."""

    def fetch(self, select: Select, limits: BatchLimits) -> Batches:
        self.close()
        self._fetching = self.fetched(select, limits)
        return self._fetching

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.close()
