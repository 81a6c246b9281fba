"""Any HTTP API, described in a definition: JSON pages to rows."""

from __future__ import annotations

from typing import cast

import requests

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.http._connection import HttpConnection
from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.connectors.http._transport import session
from atlas_etl.model import Stream


def _streams(config: HttpConnection) -> tuple[Stream, ...]:
    return tuple(
        Stream(name, table=name, cursor=resource.cursor, primary_key=resource.primary_key)
        for name, resource in config.resources.items()
    )


def _dispose(client: object) -> None:
    cast(requests.Session, client).close()


ADAPTER = Adapter(
    connection=HttpConnection,
    client=session,
    dispose=_dispose,
    connector=HttpConnector,
    default_streams=_streams,
)
