"""Pages that say where the next one is: by a cursor, a link, or the last of their records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from atlas_etl.connectors.http._documents.paths import Path, parse_path
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._messages import Request, origin
from atlas_etl.connectors.http._network.failures import refused
from atlas_etl.connectors.http._network.links import target
from atlas_etl.connectors.http._pagination.declared_ends import has_no_more, is_last
from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.page_requests import Place, more_of, with_place, with_size
from atlas_etl.connectors.http._pagination.said import next_link
from atlas_etl.connectors.http._pagination.standstill import stuck
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.errors import SourceError

Hashed = TypeVar("Hashed", bound=Hashable)

_MOST_GONE = 10  # records of a page that may be deleted before the next one is asked for
_GONE = frozenset({400, 404, 410, 422})  # what APIs answer that know no place behind what is not there


def cursor_pages(how: Pagination, first: Request) -> Flow:
    name = how.parameter or "cursor"
    path = parse_path(how.cursor or "next_cursor")
    request = sized = with_size(how, first, "limit")
    more = more_of(sized)
    seen: set[Scalar] = set()
    while True:
        page = yield request
        cursor = (
            page.response.headers.get(how.header.lower()) if how.header else page.position(path, key="cursor")
        )
        if cursor is None and how.header is not None and how.end_value is not None and page.records:
            raise SourceError(
                f"an answer has no {how.header}, which says {how.end_value!r} on the last page",
                hint="the API, or a proxy before it, left the header out, and pages may be missing",
                code="page_position",
            )
        if cursor in (None, "", False, 0) or str(cursor) == how.end_value or has_no_more(how, page):
            return
        _advance(cursor, seen, what="cursor")
        request = with_place(how, more, {name: cursor})


def keyset_pages(how: Pagination, first: Request) -> Flow:
    sized = with_size(how, first, "limit")
    path = parse_path(how.field or "id")
    seen: set[Place] = set()
    before: list[msgspec.Raw] = []
    page = yield sized
    while not is_last(how, page) and not _has_only_repeated(how, before, page.records):
        before = page.records
        last = _place(before[-1], path)
        if last is None:
            raise SourceError(
                f"the last record of a page has no {how.field or 'id'!r} to go on from",
                hint="set `field` of `pagination` to a member that every record has",
                code="pagination_stuck",
            )
        _advance(last, seen, what="last record")
        page = yield from _behind(how, more_of(sized), before)


def _behind(how: Pagination, sized: Request, records: list[msgspec.Raw]) -> Generator[Request, Page, Page]:
    """The page behind these records: behind the last of them that an API still knows.

    One that was deleted meanwhile is refused (Stripe: https://github.com/stripe/stripe-php/issues/1264).
    """
    name, path = how.parameter or "after", parse_path(how.field or "id")
    refused: set[Place] = set()
    for record in reversed(records[-_MOST_GONE:]):
        place = _place(record, path)
        if place is None:
            break
        page = yield replace(with_place(how, sized, {name: place}), empty_on=_GONE)
        if page.response.status not in _GONE:
            if refused and not refused.isdisjoint(_place(found, path) for found in page.records):
                break  # what was refused is there: it was for another reason
            return page
        refused.add(place)
    raise SourceError(
        f"the API does not go on behind any of the last {len(refused)} records of a page",
        hint="if they were deleted meanwhile, sync again; else check `parameter` and `field` of `pagination`",
        code="page_position",
        retryable=True,
    )


def _place(record: msgspec.Raw, path: Path) -> Place:
    """What a record has there to go on from: one value, or those that a search sorted it by."""
    document = Document(bytes(record), "a record")
    found = document.find(path)
    return found if found is not None else document.scalars(path) or None


def _has_only_repeated(how: Pagination, before: list[msgspec.Raw], records: list[msgspec.Raw]) -> bool:
    """Whether nothing new is on a page: the end, where a parameter includes the record that it names."""
    is_shorter = len(records) < len(before) or (len(records) == 1 and how.page_size != 1)
    return is_shorter and records == before[len(before) - len(records) :]


def next_url_pages(how: Pagination, first: Request) -> Flow:
    path = parse_path(how.next or "next")
    return _followed(how, first, lambda page: page.position(path, key="next"))


def link_header_pages(how: Pagination, first: Request) -> Flow:
    return _followed(how, first, lambda page: next_link(page.response.headers.get("link", "")))


def _followed(how: Pagination, first: Request, following: Callable[[Page], Scalar]) -> Flow:
    request = with_size(how, first, "per_page")
    seen: set[Scalar] = {request.url} if not request.params else set()
    while True:
        page = yield request
        link = following(page)
        if not link or has_no_more(how, page):
            return
        if not isinstance(link, str):
            raise SourceError(
                f"the answer says that {link!r} is the link to the next page, which is none",
                hint="set `pagination` to {type: page}, or to {type: cursor, cursor: ..., parameter: ...}",
                code="page_position",
            )
        url = target(page.response.url, link)
        if first.body is not None and origin(url) != origin(first.url):
            raise refused(url, "what is sent may hold credentials, which are for the first address only")
        _advance(url, seen, what="link to the next page")
        # Its query says all that the first one's parameters said, and which page.
        parts = urlsplit(url)
        params = tuple(parse_qsl(parts.query, keep_blank_values=True))
        bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        request = replace(more_of(first), url=bare, params=params)


def page_info_pages(how: Pagination, first: Request) -> Flow:
    """Forward, as GraphQL connections go (https://relay.dev/graphql/connections.htm#sec-undefined.PageInfo)."""
    name, at = how.parameter or "after", how.cursor or "pageInfo"
    path = parse_path(at)
    request = sized = with_size(how, first, "first")
    seen: set[Scalar] = set()
    while True:
        page = yield request
        more, cursor = page.find((*path, "hasNextPage")), page.find((*path, "endCursor"))
        if more in (False, "false") or (more is None and not page.records and not seen):
            return
        if more is None and not page.records:
            raise SourceError(
                f"there is nothing at {at!r} any more behind the first page, and more was announced",
                hint="nothing of this list was loaded: sync again, and if it stays, ask the API's makers",
                code="no_page_info",
                retryable=True,
            )
        if more is None or cursor in (None, ""):
            missing = "hasNextPage" if more is None else "endCursor"
            raise SourceError(
                f"a page of records has no {missing} at {at!r}, so that the next one cannot be asked for",
                hint="have the answer hold `pageInfo { hasNextPage endCursor }` beside its records",
                code="no_page_info",
            )
        _advance(cursor, seen, what="endCursor")
        request = with_place(how, more_of(sized), {name: cursor})


def _advance(value: Hashed, seen: set[Hashed], *, what: str) -> None:
    if value in seen:
        raise stuck(f"the same {what} came a second time")
    seen.add(value)
