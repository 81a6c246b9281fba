"""Tables that a source does not have, told before a sync meets them."""

from __future__ import annotations

from dataclasses import replace

from atlas_etl.contracts import Connector
from atlas_etl.errors import SourceError
from atlas_etl.model import ReadRequest, Stream


def refuse_missing(connector: Connector, stream: Stream) -> None:
    """Raise SourceError (`table_not_found`), with the nearest names, where a stream has no table.

    What else may keep it from being read is for `connector doctor` and the sync to tell.
    """
    try:
        with connector.open(ReadRequest(replace(stream, cursor=None), limit=1)):
            pass
    except SourceError as failure:
        if failure.code == "table_not_found":
            raise
