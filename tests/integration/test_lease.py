"""A run that lost its lease commits nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from atlas_etl import Atlas
from atlas_etl.api.sync import sync_one
from atlas_etl.contracts import Lease
from atlas_etl.model import TableName
from atlas_etl.pipeline.events import RunFinished, StreamFinished
from atlas_etl.state.lease import LeaseTimes
from atlas_etl.state.open import MemoryStateStore


class Expiring(MemoryStateStore):
    """A store whose lease is taken by somebody else as soon as the rows are read."""

    @contextmanager
    def lease(self, connector: str, **begin: Any) -> Iterator[Lease]:
        with super().lease(connector, **begin) as held:
            yield _Lost(held)


class _Lost:
    def __init__(self, held: Lease) -> None:
        self.run, self.token = held.run, held.token

    def lost(self) -> bool:
        return True


def test_a_lost_lease_stops_the_commit(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "s.duckdb")) as source:
        source.execute("CREATE TABLE t AS SELECT 1 AS i")
    folder = tmp_path / "connectors.d"
    folder.mkdir()
    (folder / "c.yaml").write_text("protocol: duckdb\nconnection: {path: s.duckdb}\nstreams: [t]\n")
    atlas = Atlas.open(tmp_path, {})
    store = Expiring(times=LeaseTimes())
    events = list(sync_one(atlas.job("c"), store))
    assert not any(isinstance(event, StreamFinished) for event in events)
    assert isinstance(events[-1], RunFinished)
    error = events[-1].run.error
    assert error is not None
    assert (error.code, error.exit_code) == ("lease_lost", 6)
    assert atlas.destination().open().inspect("c", "t", TableName("t", "c")).schema is None
