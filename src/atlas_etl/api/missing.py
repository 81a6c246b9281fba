"""Tables and columns that a source does not have, told before a sync meets them."""

from __future__ import annotations

from atlas_etl.contracts import Connector
from atlas_etl.errors import AtlasError
from atlas_etl.model import ReadRequest, Stream

_MISSING = frozenset({"table_not_found", "column_not_found"})


def refuse_missing(connector: Connector, stream: Stream) -> None:
    """Raise SourceError, with the nearest names, where a stream's table, its cursor or its key is not there.

    What else may keep it from being read is for `connector doctor` and the sync to tell.
    """
    try:
        with connector.open(ReadRequest(stream, limit=1, only_outline=True)):
            pass
    except AtlasError as failure:
        if failure.code in _MISSING:
            raise
