"""Any HTTP API, described in a definition: JSON pages to rows."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.http._cassettes.recording import wiring
from atlas_etl.connectors.http._reader import HttpConnector, streams_of
from atlas_etl.connectors.http._settings.connection import HttpConnection
from atlas_etl.connectors.http._wire import dispose, session

ADAPTER = Adapter(
    connection=HttpConnection,
    client=session,
    dispose=dispose,
    thread_bound=True,  # a session is not made for several
    shared=True,
    connector=HttpConnector,
    taped=lambda config, tape: HttpConnector(config, wiring=wiring(tape)),
    default_streams=lambda config: streams_of(config.resources),
)
