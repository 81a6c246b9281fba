"""Pagination, pure: requests go out, pages come in, and no socket is in sight.

A page that repeats, or a cursor that does not move, is an error (`pagination_stuck`) and no endless loop.
"""

from __future__ import annotations

from collections.abc import Callable

from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.numbers import numbered_pages, offset_pages
from atlas_etl.connectors.http._pagination.page_ends import Total, counted, ended_by_answers
from atlas_etl.connectors.http._pagination.page_requests import with_size
from atlas_etl.connectors.http._pagination.positions import (
    cursor_pages,
    keyset_pages,
    link_header_pages,
    next_url_pages,
    page_info_pages,
)
from atlas_etl.connectors.http._pagination.recognised import recognised, unknown
from atlas_etl.connectors.http._pagination.standstill import moving
from atlas_etl.connectors.http._settings.pagination import Pagination


def paged(pagination: Pagination, first: Request, *, has_key: bool) -> Flow:
    """The requests that read all pages. Raises SourceError (`pagination_stuck`, `pages_incomplete`).

    Without a key, records that were read again could not be told from others, so none are.
    """
    how = pagination if has_key else pagination.model_copy(update={"overlap": 0})
    flow = _FLOWS[pagination.type](how, first)
    if pagination.type in _BY_POSITION:
        flow = counted(moving(flow, has_key=has_key), Total(how))
    return flow if pagination.type == "none" else ended_by_answers(flow, how)


def _single(_: Pagination, first: Request) -> Flow:
    yield first


def _auto(how: Pagination, first: Request) -> Flow:
    """Whatever the first response shows; a single page where it shows nothing."""
    request = with_size(how, first, "limit") if how.page_size else first
    page = yield request
    chosen = recognised(page)
    if chosen is None:
        if (failure := unknown(page)) is not None:
            raise failure
        return
    rest = paged(chosen, request, has_key=how.overlap != 0)
    next(rest)
    try:
        following = rest.send(page)
        while True:
            page = yield following
            following = rest.send(page)
    except StopIteration:
        return


_FLOWS: dict[str, Callable[[Pagination, Request], Flow]] = {
    "none": _single,
    "offset": offset_pages,
    "page": numbered_pages,
    "cursor": cursor_pages,
    "keyset": keyset_pages,
    "next_url": next_url_pages,
    "link_header": link_header_pages,
    "page_info": page_info_pages,
    "auto": _auto,
}
_BY_POSITION = frozenset({"cursor", "keyset", "next_url", "link_header", "page_info"})
