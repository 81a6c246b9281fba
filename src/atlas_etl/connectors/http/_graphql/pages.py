"""Connections that are no list of records by themselves: those within records, and one taken for a record."""

from __future__ import annotations

import msgspec

from atlas_etl.connectors.http._documents.paths import Path, written_path
from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.connectors.http._messages import Response, shown
from atlas_etl.errors import SourceError


class _Info(msgspec.Struct):
    more: object = msgspec.field(default=None, name="hasNextPage")


class _Connection(msgspec.Struct):
    info: _Info | None = msgspec.field(default=None, name="pageInfo")


_CONNECTION = msgspec.json.Decoder(_Connection)
_ENDS = {"nodes": "", "edges": "[*].node"}  # what leads from these members of a connection to its records


def check_records(response: Response, path: Path) -> None:
    """Raises SourceError (`records_not_found`) where a connection is at a path, which would be one record."""
    members = Document(response.content, shown(response.url)).members(path)
    place = written_path(path[1:])  # below `data`
    inside = [f"{place}.{name}{end}" for name, end in _ENDS.items() if name in members]
    if inside and "pageInfo" in members:
        raise SourceError(
            f"{shown(response.url)}: {place!r} is a connection, and its records are inside it",
            hint=f"set `records` to {' or '.join(inside)}",
            code="records_not_found",
        )


def check_inner_pages(response: Response, path: Path, *, may_lack: bool) -> None:
    """Raises SourceError where one of the connections at a path has more records than came (`nested_pages`).

    Also where nothing says so (`no_page_info`), unless their pageInfo `may_lack`.
    """
    place = written_path(path[1:])  # below `data`
    for found in Document(response.content, shown(response.url)).records(path):
        try:
            info = _CONNECTION.decode(found).info
        except msgspec.DecodeError:
            info = None
        more = info.more if info is not None else None
        if more is None and not may_lack:
            raise SourceError(
                f"{shown(response.url)}: nothing says whether {place!r} has all of its records",
                hint="ask for `pageInfo { hasNextPage }` there, too, or set `pagination: none`",
                code="no_page_info",
            )
        if more not in (None, False, "false"):
            raise SourceError(
                f"{shown(response.url)}: {place!r} has more records than came with its own record",
                hint="ask for more at once there, or make them a resource with a `parent`, paged for itself",
                code="nested_pages",
            )
