"""Pages as they came, and what the first of them shows of how the others follow."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from atlas_etl.connectors.http._messages import Response
from atlas_etl.connectors.http._pagination_settings import Pagination
from atlas_etl.connectors.http._records import ENVELOPES, Document, Path, Scalar, parse_path, written_path
from atlas_etl.errors import SourceError


@dataclass(frozen=True, slots=True)
class Page:
    """What came back for one request."""

    response: Response
    document: Document | None  # None: the format is not JSON
    records: list[msgspec.Raw]

    def find(self, path: Path) -> Scalar:
        return self.document.find(path) if self.document is not None else None

    def position(self, path: Path, *, key: str) -> Scalar:
        """Where the next page begins, as `key` of the pagination says; None: there is none.

        Raises SourceError (`page_position`) for what cannot be sent: the pages behind it would be missing.
        """
        found = self.find(path)
        if found is None and self.document is not None and self.document.holds_several(path):
            raise SourceError(
                f"{written_path(path)!r} of an answer is an object or a list, and nothing to go on from",
                hint=f"set `{key}` of `pagination` to the member in it that says where the next page begins",
                code="page_position",
            )
        return found


# A link with its parameters, whose texts may have quotes in them that are escaped.
_LINK = re.compile(r"""<([^<>]*)>((?:\s*;\s*[^,;"]+(?:"(?:[^"\\]|\\.)*")?)*)""")
_SMALLEST_PAGE = 10  # of those that APIs give by themselves
# Where nothing but an address is, which may be a relative one (JSON:API, HAL, OData, Laravel, Salesforce).
_LINKS = (
    "links.next", "links.next.href", "_links.next.href", "_links.next", "@odata~nextLink", "odata~nextLink",
    "__next", "nextLink", "next_page_url", "nextPageUrl", "next_url", "nextUrl", "nextRecordsUrl",
    "pagination.next_url", "paging.next.link", "meta.next_url",
)  # fmt: skip
# Where an address may be, or something else.
_NEXT = (
    "next", "paging.next", "pagination.next", "meta.next", "info.next", "page.next", "pages.next",
    "next_page", "nextPage", "meta.next_page", "pagination.next_page",
)  # fmt: skip
# Where the cursor is, and the parameter that such APIs want it in.
_CURSORS = (
    ("next_cursor", "cursor"), ("meta.next_cursor", "cursor"), ("pagination.next_cursor", "cursor"),
    ("response_metadata.next_cursor", "cursor"), ("cursor.next", "cursor"), ("cursor", "cursor"),
    ("next_page_token", "page_token"), ("nextPageToken", "pageToken"), ("paging.cursors.after", "after"),
    ("paging.next.after", "after"), ("meta.cursor.next", "cursor"), ("nextCursor", "cursor"),
)  # fmt: skip
_NEXT_PAGES = ("next_page", "nextPage", "meta.next_page", "pagination.next_page")
# The page's number, and how many there are. The second name is Spring's, which counts from 0.
_PAGE_NUMBERS = (
    ("page", "total_pages"), ("number", "totalPages"), ("page.number", "page.totalPages"),
    ("page", "totalPages"), ("current_page", "last_page"), ("meta.current_page", "meta.last_page"),
    ("currentPage", "totalPages"), ("current_page", "total_pages"), ("meta.page", "meta.total_pages"),
    ("meta.current_page", "meta.total_pages"), ("meta.currentPage", "meta.totalPages"),
    ("pagination.page", "pagination.total_pages"), ("pagination.current_page", "pagination.total_pages"),
    ("page", "pages"), ("page", "nbPages"), ("meta.pagination.current_page", "meta.pagination.total_pages"),
    ("meta.pagination.page", "meta.pagination.pageCount"),
)  # fmt: skip
_ABOVE = ("", "meta.", "pagination.", "paging.", "page_info.", "pageInfo.", "meta.pagination.")
_FLAGS = tuple(
    f"{above}{flag}"
    for above in _ABOVE
    for flag in ("has_more", "hasMore", "has_next", "hasNext", "has_next_page", "hasNextPage", "more")
)
_END_FLAGS = tuple(f"{above}{flag}" for above in _ABOVE for flag in ("last", "isLast", "is_last", "done"))
# Where the records begin, how many there are, and the parameter.
_OFFSETS = (
    ("offset", "total", "offset"), ("meta.offset", "meta.total", "offset"),
    ("pagination.offset", "pagination.total", "offset"), ("skip", "total", "skip"),
    ("start", "total", "start"), ("startAt", "total", "startAt"), ("start", "numFound", "start"),
)  # fmt: skip
_TOTALS = tuple(
    f"{above}{total}"
    for above in (*_ABOVE, "page.")
    for total in (
        "total", "total_count", "totalCount", "total_results", "totalResults", "total_items", "totalItems",
        "total_records", "totalRecords", "totalElements", "recordsTotal", "numFound", "nbHits",
        "@odata~count", "count", "total.value",
    )
)  # fmt: skip
_TOTAL_HEADERS = ("x-total-count", "x-total", "total-count")
_TOTAL_PAGES = tuple(
    f"{above}{total}"
    for above in (*_ABOVE, "page.")
    for total in ("total_pages", "totalPages", "last_page", "page_count", "pageCount")
)


def recognised(page: Page) -> Pagination | None:
    """The pagination that a first response shows; None where it shows none, or that there is one page."""
    if next_link(page.response.headers.get("link", "")):
        return Pagination(type="link_header")
    if page.response.headers.get("x-next-page", "").strip():
        return Pagination(type="cursor", header="X-Next-Page", parameter="page")
    for around in ((), *((name,) for name in ENVELOPES)):
        if (found := _shown(page, around)) is not None:
            return found
    return None


def _shown(page: Page, around: Path) -> Pagination | None:
    """The same by the members of an object."""

    def at(path: str) -> Scalar:
        return page.find(_steps(around, path))

    def place(path: str) -> str:
        return written_path(_steps(around, path))

    for path in (*_LINKS, *_NEXT):
        found = at(path)
        if isinstance(found, str) and (found != "" if path in _LINKS else re.match(r"https?://|/|\?", found)):
            return Pagination(type="next_url", next=place(path))
    for path, parameter in _CURSORS:
        found = at(path)
        if isinstance(found, str | int | float) and not isinstance(found, bool) and found != "":
            return Pagination(type="cursor", cursor=place(path), parameter=parameter)
    for path in _NEXT_PAGES:
        if _count(at(path)) is not None:
            return Pagination(type="cursor", cursor=place(path), parameter="page")
    for number, total in _PAGE_NUMBERS:
        here, pages = _count(at(number)), _count(at(total))
        if here is not None and pages is not None and here < pages and pages > 1:
            return Pagination(type="page", start=here)
    if (here := _count(at("number"))) is not None and at("last") is False:
        return Pagination(type="page", start=here)  # a slice of Spring's, which counts no pages
    for offset, total, parameter in _OFFSETS:
        rows = _count(at(total))
        if at(offset) == 0 and rows is not None and len(page.records) < rows:
            return Pagination(type="offset", total=place(total), parameter=parameter)
    return None


def says_more(page: Page) -> str | None:
    """Where a response of several records says that there are more of them, or more pages."""
    if page.document is None or page.document.is_one(page.records):
        return None
    headers = page.response.headers
    for header in _TOTAL_HEADERS:
        if (_count(headers.get(header, "").strip()) or 0) > len(page.records):
            return header
    for around in ((), *((name,) for name in ENVELOPES)):
        for path in (*_FLAGS, *_END_FLAGS, *_TOTALS, *_TOTAL_PAGES, *_LINKS, *_NEXT):
            steps = _steps(around, path)
            found = page.find(steps)
            if (
                (path in _FLAGS and found is True)
                or (path in _END_FLAGS and found is False)
                or (path in _TOTALS and (_count(found) or 0) > len(page.records))
                or (path in _TOTAL_PAGES and (_count(found) or 0) > 1)
                or (
                    path in _LINKS + _NEXT
                    and (found not in (None, "", False) or page.document.holds_several(steps))
                )
            ):
                return written_path(steps)
    return None


def _steps(around: Path, path: str) -> Path:
    """The steps of a path whose names may have points, written as `~`."""
    return (*around, *(step.replace("~", ".") for step in path.split(".")))


def _count(found: Scalar) -> int | None:
    """A whole number, which some write as text."""
    if isinstance(found, str) and found.isdecimal() and len(found) < 16:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def told(how: Pagination, page: Page) -> str | None:
    """What a person should know of how the first response was understood; None where nothing is doubtful."""
    if how.type != "auto":
        return _told_missing(how, page)
    chosen = recognised(page)
    if chosen is None:
        if len(page.records) < _SMALLEST_PAGE:
            return None
        return f"no pagination was recognised, so that there is one page of {len(page.records):,} records"
    details = chosen.model_dump(exclude_defaults=True, exclude={"type"})
    found = ", ".join(f"{name} {value}" for name, value in details.items())
    return f"pagination was recognised as {chosen.type}" + (f" ({found})" if found else "")


def _told_missing(how: Pagination, page: Page) -> str | None:
    """Where the first response has nothing at all where it should say how to go on."""
    places = {
        "cursor": None if how.header else how.cursor or "next_cursor",
        "next_url": how.next or "next",
    }
    document = page.document
    if document is None or len(page.records) < _SMALLEST_PAGE:
        return None
    for place in (places.get(how.type), how.has_more):
        if place is not None and document.lacks(parse_path(place)):
            return (
                f"the first answer has nothing at {place!r}, so its {len(page.records):,} records "
                "were taken for all: check `pagination`"
            )
    return None


def next_link(header: str) -> str | None:
    """The target of `rel="next"` in a Link header (RFC 8288, section 3)."""
    for target, parameters in _LINK.findall(header):
        for relation in re.findall(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", parameters, re.IGNORECASE):
            if "next" in "".join(relation).lower().split():
                return str(target)
    return None
