"""A DuckDB file to read, a destination to write, and the pipeline between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import BatchLimits, Stream, StreamRun, TableName, TableState, Window
from atlas_etl.pipeline.events import StreamFinished, TransferEvent
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer

STARTED = datetime(2026, 7, 1, 8, tzinfo=UTC)
Row = tuple[str | None, ...]


class House:
    """Both ends, opened for each sync and closed after it."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.source_path = folder / "source.duckdb"
        self.protocol = protocol
        key, ending = {"sqlite": ("database_path", "db"), "parquet": ("path", "files")}.get(
            protocol, ("path", "duckdb")
        )
        self.settings: dict[str, object] = {key: str(folder / f"warehouse.{ending}")}
        self.connector_name = "shop"
        self.runs = 0

    def source(self, *statements: str) -> None:
        with duckdb.connect(str(self.source_path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)

    def connector(self) -> Connector:
        adapter = registry.load("duckdb")
        assert adapter.connector is not None
        return adapter.connector(adapter.connection.model_validate({"path": str(self.source_path)}))

    def destination(self) -> Destination:
        adapter = registry.load(self.protocol)
        assert adapter.destination is not None
        return adapter.destination(adapter.connection.model_validate(self.settings))

    def events(
        self,
        stream: Stream,
        *,
        full_refresh: bool = False,
        limits: BatchLimits | None = None,
        window: Window | None = None,
    ) -> Iterator[TransferEvent]:
        self.runs += 1
        job = Job(
            f"run-{self.runs}",
            self.connector_name,
            stream,
            STARTED,
            full_refresh,
            limits or BatchLimits(),
            window or Window(),
        )
        with (
            closing(self.connector()) as source,
            closing(self.destination()) as target,
            closing(transfer(source, target, job)) as events,
        ):
            yield from events

    def sync(self, stream: Stream, *, full_refresh: bool = False) -> StreamRun:
        *_, last = self.events(stream, full_refresh=full_refresh)
        assert isinstance(last, StreamFinished)
        return last.outcome

    def place(self, target: Destination, stream: Stream) -> TableName:
        return target.table_name(self.connector_name, stream)

    def state(self, stream: Stream) -> TableState:
        with closing(self.destination()) as target:
            return target.inspect(self.connector_name, stream.name, self.place(target, stream))

    def table(self, stream: Stream) -> pa.Table:
        with closing(self.destination()) as target:
            return target.query(f"SELECT * FROM {self.place(target, stream)}")

    def rows(self, stream: Stream) -> list[Row]:
        """The rows as text, sorted."""
        found = self.table(stream)
        texts = [values.to_text(column.combine_chunks()).to_pylist() for column in found.columns]
        return sorted(zip(*texts, strict=True), key=str)


def orders(**more: object) -> Stream:
    return Stream("orders", **{"table": "orders", **more})
