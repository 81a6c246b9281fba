"""Looking closely at what the SQL reader reads: the system, then each stream's key, cursor and times."""

from __future__ import annotations

from collections.abc import Iterator

from atlas_etl.connectors.examined import failed, unmade
from atlas_etl.connectors.sql._examined_cursor import examined_cursor, examined_zones
from atlas_etl.connectors.sql._examined_key import examined_key
from atlas_etl.connectors.sql._look import TOO_LONG, Found, Look
from atlas_etl.errors import AtlasError
from atlas_etl.model import Examination, Finding, Stream


def examined(look: Look, examination: Examination) -> Iterator[Finding]:
    """Everything that one system tells of these streams."""
    try:
        yield from look.system(examination.sessions)
    except AtlasError as failure:
        yield unmade("server", "source", failure)
    for stream in examination.streams:
        yield from _of_stream(look, stream)


def _of_stream(look: Look, stream: Stream) -> Iterator[Finding]:
    try:
        relation = look.relation(stream)
    except AtlasError as failure:
        told = unmade if failure.code == TOO_LONG else failed
        yield told("stream", stream.name, failure)
        return
    try:
        indexes = look.indexes(relation.table) if relation.table is not None else None
    except AtlasError as failure:
        yield unmade("indexes", stream.name, failure)
        indexes = None
    found = Found(stream, relation, None if indexes is None else tuple(indexes))
    yield from examined_key(look, found)
    yield from examined_cursor(look, found)
    yield from examined_zones(look, found)
