"""Pages that are counted, by records or by pages: where rows come and go meanwhile, an overlap shows it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._pagination.declared_ends import has_more, is_last
from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.page_ends import Total
from atlas_etl.connectors.http._pagination.page_requests import with_place, with_size
from atlas_etl.connectors.http._pagination.said import flag_of, said_pages
from atlas_etl.connectors.http._pagination.standstill import Moves, stuck
from atlas_etl.connectors.http._settings.pagination import Pagination

_MOST_EMPTY = 100  # pages in a row


def offset_pages(how: Pagination, first: Request) -> Flow:
    """Steps by as many records as came, less the overlap: a server may give fewer than were asked for."""
    start, name = how.start if how.start is not None else 0, how.parameter or "offset"
    sized = with_size(how, first, "limit")
    moves, total = Moves(), Total(how)
    offset = start
    again: list[msgspec.Raw] = []
    while True:
        page = yield replace(total.tolerant(with_place(how, sized, {name: offset})), repeats=len(again))
        moves.see(page)
        is_end = total.is_reached(page, reached=offset - start + len(page.records))
        if is_last(how, page) or is_end:
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


def numbered_pages(how: Pagination, first: Request) -> Flow:
    """With an overlap each page is read again behind the next one, for rows that came to it meanwhile."""
    number, name = how.start if how.start is not None else 1, how.parameter or "page"
    sized = with_size(how, first, "per_page")
    moves, total = Moves(), Total(how)
    is_first, count, empty = True, 0, 0
    while True:
        page = yield total.tolerant(with_place(how, sized, {name: number}))
        if not is_first and how.overlap != 0:
            yield replace(with_place(how, sized, {name: number - 1}), is_again=True)
        is_first = False
        moves.see(page)
        count += len(page.records)
        empty = empty + 1 if not page.records else 0
        is_end = total.is_reached(page, reached=count)
        if empty and (has_more(how, page) or _has_pages_behind(how, page, number)):
            if empty > _MOST_EMPTY:
                raise stuck(f"{empty} empty pages followed each other, and each says that there are more")
        elif is_last(how, page) or is_end:
            total.check()
            return
        number += 1


def _has_pages_behind(how: Pagination, page: Page, number: int) -> bool:
    """Whether an empty list says that it is one in the middle."""
    if how.has_more is not None or page.lacks_list:
        return False
    flag, pages = flag_of(page), said_pages(page)
    first = min(1, how.start if how.start is not None else 1)
    return (flag is not None and flag[1]) or (pages is not None and number - first + 1 < pages[1])
