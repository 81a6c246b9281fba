"""Where pages end, and whether they move on: by what is on them, and by a total that an API gives."""

from __future__ import annotations

from dataclasses import replace

from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.said import flag_of, said_pages, said_total, says_more
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.errors import SourceError

_LONGEST_TOTAL = 18  # digits
_PAST_END = frozenset({400, 404, 410, 416, 422})  # what some answer that know no page behind the last


class Total:
    """How many records an API says that there are, which may be more or fewer than its pages have.

    So where they are reached with a full page, one more is asked for, and may be refused.
    """

    def __init__(self, how: Pagination) -> None:
        self._how = how
        self._path = parse_path(how.total) if how.total is not None else None
        self._total: int | None = None
        self._reached = 0
        self._longest = 0  # of the pages so far: an API may give fewer than it is asked for
        self._is_past = False

    def tolerant(self, request: Request) -> Request:
        """The request for the next page, which may be behind the last."""
        return replace(request, empty_on=request.empty_on | _PAST_END) if self._is_past else request

    def is_reached(self, page: Page, *, reached: int) -> bool:
        """Whether a page is the last one, by what it says; `reached`: as many records as came so far."""
        self._reached = reached
        total = page.find(self._path) if self._path is not None else None
        if isinstance(total, str) and total.isdecimal() and len(total) <= _LONGEST_TOTAL:
            total = int(total)
        if isinstance(total, int) and not isinstance(total, bool):
            self._total = total
        self._is_past = self._total is not None and reached >= self._total
        is_short = len(page.records) < (self._longest or self._how.page_size or 0)
        self._longest = max(self._longest, len(page.records))
        return self._is_past and is_short

    def check(self) -> None:
        """Raises SourceError (`pages_incomplete`) where the pages ended before all of them."""
        if self._total is not None and self._reached < self._total:
            raise _incomplete(
                self._reached,
                f"{self._how.total!r} says that there are {self._total:,}",
                "sync again; leave `total` out where the API counts what it does not show",
            )


def counted(flow: Flow, total: Total) -> Flow:
    """The same requests, for pages that have as many records as a declared total says.

    Raises SourceError (`pages_incomplete`).
    """
    reached = 0
    request = next(flow)
    while True:
        page = yield request
        reached += len(page.records)
        total.is_reached(page, reached=reached)
        try:
            request = flow.send(page)
        except StopIteration:
            total.check()
            return


def ended_by_answers(flow: Flow, how: Pagination) -> Flow:
    """The same requests, for pages that do not end where answers say that there are more.

    Raises SourceError (`pages_incomplete`).
    """
    reached = pages = 0
    last = before = None  # page of all, and of those with records
    request = next(flow)
    while True:
        page = yield request
        if not request.is_again:
            last = page
            if page.records:
                before, pages = page, pages + 1
            reached += max(0, len(page.records) - request.repeats)
        try:
            request = flow.send(page)
        except StopIteration:
            if last is None or before is None:
                return
            why = _says_more_by_flag(how, last, before)
            if why is None and last.lacks_list:
                why = _says_more_by_total(last, before, reached, pages)
            if why is None and last.records and how.stop_on_short_page and pages == 1:
                why = says_more(last)  # an API may give fewer records than it is asked for
            if why is not None:
                raise _incomplete(
                    reached,
                    f"{why!r} says that there are more",
                    "sync again; where it comes so each time, check `pagination`: a cursor or link may have "
                    "another place, `page_size` may be more than the API gives; and declare `has_more`",
                ) from None
            return


def _says_more_by_flag(how: Pagination, last: Page, before: Page) -> str | None:
    """The page before counts where no list follows it, and nothing says anything else."""
    if how.has_more is not None:
        return None
    flag = flag_of(last) or (flag_of(before) if last.lacks_list else None)
    return flag[0] if flag is not None and flag[1] else None


def _says_more_by_total(last: Page, before: Page, reached: int, pages: int) -> str | None:
    """What nobody declared may count what is not shown, so that an empty list does end the pages."""
    records = said_total(last) or said_total(before)
    if records is not None and reached < records[1]:
        return records[0]
    several = said_pages(last) or said_pages(before)
    return several[0] if several is not None and pages < several[1] else None


def _incomplete(reached: int, why: str, hint: str) -> SourceError:
    return SourceError(
        f"the pages ended behind {reached:,} records, and {why}",
        hint=hint,
        code="pages_incomplete",
        retryable=True,
        attempts=2,  # rows that went meanwhile are not missed again, and a wrong count is there each time
    )
