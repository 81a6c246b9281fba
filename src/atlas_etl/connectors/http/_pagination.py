"""Pagination, pure: requests go out, pages come in, and no socket is in sight.

A page that repeats, or a cursor that does not move, is an error (`pagination_stuck`) and no endless loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import replace
from typing import TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec
from pydantic import JsonValue

from atlas_etl.connectors.http._failures import refused
from atlas_etl.connectors.http._links import target
from atlas_etl.connectors.http._messages import Request, origin
from atlas_etl.connectors.http._page_ends import Moves, Total, counted, ended_by_answers, stuck
from atlas_etl.connectors.http._pagination_settings import Pagination
from atlas_etl.connectors.http._parents import filled
from atlas_etl.connectors.http._recognised import (
    Page,
    flag_of,
    next_link,
    recognised,
    said_pages,
    unknown,
)
from atlas_etl.connectors.http._records import Document, Path, Scalar, parse_path
from atlas_etl.connectors.http._standstill import moving
from atlas_etl.errors import SourceError

Flow: TypeAlias = Generator[Request, "Page", None]
Place: TypeAlias = Scalar | tuple[Scalar, ...]
Hashed = TypeVar("Hashed", bound=Hashable)


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


def _offset(how: Pagination, first: Request) -> Flow:
    """Steps by as many records as came, less the overlap: a server may give fewer than were asked for."""
    start, name = how.start if how.start is not None else 0, how.parameter or "offset"
    sized = _sized(how, first, "limit")
    moves, total = Moves(), Total(how)
    offset = start
    again: list[msgspec.Raw] = []
    while True:
        page = yield replace(total.tolerant(_placed(how, sized, {name: offset})), repeats=len(again))
        moves.see(page)
        is_end = total.is_reached(page, reached=offset - start + len(page.records))
        if _is_last(how, page) or is_end:
            total.check()
            return
        if again and page.records == again:
            return  # nothing is behind what was read already
        count = len(page.records)
        overlap = how.overlap if how.overlap is not None else _usual_overlap(count)
        again = page.records[max(1, count - overlap) :]
        offset += count - len(again)


def _usual_overlap(count: int) -> int:
    """A tenth of a page: enough to see that rows went, and to bear a few that did."""
    return min(10, max(1, count // 10)) if count > 2 else 0


def _numbered(how: Pagination, first: Request) -> Flow:
    """With an overlap each page is read again behind the next one, for rows that came to it meanwhile."""
    number, name = how.start if how.start is not None else 1, how.parameter or "page"
    sized = _sized(how, first, "per_page")
    moves, total = Moves(), Total(how)
    is_first, count, empty = True, 0, 0
    while True:
        page = yield total.tolerant(_placed(how, sized, {name: number}))
        if not is_first and how.overlap != 0:
            yield replace(_placed(how, sized, {name: number - 1}), is_again=True)
        is_first = False
        moves.see(page)
        count += len(page.records)
        empty = empty + 1 if not page.records else 0
        is_end = total.is_reached(page, reached=count)
        if empty and (_says_more(how, page) or _has_pages_behind(how, page, number)):
            if empty > _MOST_EMPTY:
                raise stuck(f"{empty} empty pages followed each other, and each says that there are more")
        elif _is_last(how, page) or is_end:
            total.check()
            return
        number += 1


def _cursor(how: Pagination, first: Request) -> Flow:
    name = how.parameter or "cursor"
    path = parse_path(how.cursor or "next_cursor")
    request = sized = _sized(how, first, "limit")
    more = _more_of(sized)
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
        if cursor in (None, "", False, how.end_value) or _says_no_more(how, page):
            return
        _advance(cursor, seen, what="cursor")
        request = _placed(how, more, {name: cursor})


def _keyset(how: Pagination, first: Request) -> Flow:
    sized = _sized(how, first, "limit")
    path = parse_path(how.field or "id")
    seen: set[Place] = set()
    before: list[msgspec.Raw] = []
    page = yield sized
    while not _is_last(how, page) and not _has_only_repeated(how, before, page.records):
        before = page.records
        last = _place(before[-1], path)
        if last is None:
            raise SourceError(
                f"the last record of a page has no {how.field or 'id'!r} to go on from",
                hint="set `field` of `pagination` to a member that every record has",
                code="pagination_stuck",
            )
        _advance(last, seen, what="last record")
        page = yield from _behind(how, _more_of(sized), before)


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
        page = yield replace(_placed(how, sized, {name: place}), empty_on=_GONE)
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


def _next_url(how: Pagination, first: Request) -> Flow:
    path = parse_path(how.next or "next")
    return _followed(how, first, lambda page: page.position(path, key="next"))


def _link_header(how: Pagination, first: Request) -> Flow:
    return _followed(how, first, lambda page: next_link(page.response.headers.get("link", "")))


def _followed(how: Pagination, first: Request, following: Callable[[Page], Scalar]) -> Flow:
    request = _sized(how, first, "per_page")
    seen: set[Scalar] = {request.url} if not request.params else set()
    while True:
        page = yield request
        link = following(page)
        if not link or _says_no_more(how, page):
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
        request = replace(_more_of(first), url=bare, params=params)


def _page_info(how: Pagination, first: Request) -> Flow:
    """Forward, as GraphQL connections go (https://relay.dev/graphql/connections.htm#sec-undefined.PageInfo)."""
    name, at = how.parameter or "after", how.cursor or "pageInfo"
    path = parse_path(at)
    request = sized = _sized(how, first, "first")
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
        request = _placed(how, _more_of(sized), {name: cursor})


def _auto(how: Pagination, first: Request) -> Flow:
    """Whatever the first response shows; a single page where it shows nothing."""
    request = _sized(how, first, "limit") if how.page_size else first
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
    "offset": _offset,
    "page": _numbered,
    "cursor": _cursor,
    "keyset": _keyset,
    "next_url": _next_url,
    "link_header": _link_header,
    "page_info": _page_info,
    "auto": _auto,
}
_BY_POSITION = frozenset({"cursor", "keyset", "next_url", "link_header", "page_info"})

_MOST_EMPTY = 100  # pages in a row
_MOST_GONE = 10  # records of a page that may be deleted before the next one is asked for
_GONE = frozenset({400, 404, 410, 422})  # what APIs answer that know no place behind what is not there


def _sized(how: Pagination, first: Request, usual: str) -> Request:
    if how.page_size is None:
        return first
    return _placed(how, first, {how.page_size_parameter or usual: how.page_size})


def _placed(how: Pagination, request: Request, values: Mapping[str, Place]) -> Request:
    """The request with these in it. Raises SourceError (`page_position`) for several values in a text."""
    if how.into == "body":
        body: dict[str, JsonValue] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
        }
        return request.with_body(body)
    texts = {name: value for name, value in values.items() if not isinstance(value, tuple)}
    if len(texts) < len(values):
        raise SourceError(
            "a page ends with a record that has several values to go on from, and only a body can hold them",
            hint="set `into: body` of `pagination`, and `method: POST` of the resource",
            code="page_position",
        )
    if how.into == "template":
        return filled(request, texts)
    return request.with_params({name: str(value) for name, value in texts.items()})


def _more_of(first: Request) -> Request:
    """What asks for the pages behind the first: one that an API itself names is there."""
    return replace(first, empty_on=frozenset())


def _is_last(how: Pagination, page: Page) -> bool:
    """Raises SourceError (`pagination_stuck`) for an empty page that says that there are more."""
    count = len(page.records)
    if how.has_more is not None:
        if not count and _says_more(how, page):
            raise stuck("an empty page says that there are more, and not where")
        return not _says_more(how, page)
    return count == 0 or (how.stop_on_short_page and how.page_size is not None and count < how.page_size)


def _says_more(how: Pagination, page: Page) -> bool:
    return how.has_more is not None and not _says_no_more(how, page)


def _says_no_more(how: Pagination, page: Page) -> bool:
    return how.has_more is not None and page.find(parse_path(how.has_more)) in (False, None, 0, "false")


def _has_pages_behind(how: Pagination, page: Page, number: int) -> bool:
    """Whether an empty list says that it is one in the middle."""
    if how.has_more is not None or page.lacks_list:
        return False
    flag, pages = flag_of(page), said_pages(page)
    first = min(1, how.start if how.start is not None else 1)
    return (flag is not None and flag[1]) or (pages is not None and number - first + 1 < pages[1])


def _advance(value: Hashed, seen: set[Hashed], *, what: str) -> None:
    if value in seen:
        raise stuck(f"the same {what} came a second time")
    seen.add(value)
