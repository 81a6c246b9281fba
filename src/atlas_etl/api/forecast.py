"""What a sync of one connector would do, without its lease, its state or any change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.located import located
from atlas_etl.pipeline.forecast import StreamForecast, forecast
from atlas_etl.pipeline.opened import Job


def forecast_connector(
    atlas: Atlas, name: str, *, streams: Sequence[str] = (), full_refresh: bool = False
) -> Iterator[StreamForecast]:
    """Look at a connector's streams, one after another. Raises AtlasError, as a sync would."""
    prepared = atlas.connector(name)
    destination = atlas.destination_of(prepared)
    limits, window = prepared.definition.batch_limits, prepared.definition.load_window
    with located(name), closing(prepared.open()) as source, closing(destination.open()) as target:
        for stream in prepared.chosen(tuple(streams)):
            job = Job("", name, stream, datetime.now(UTC), full_refresh, limits, window)
            with located(name, stream.name):
                yield forecast(source, target, job)
