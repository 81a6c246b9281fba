"""Pages as they came, and what the first of them shows of how the others follow."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from atlas_etl.connectors.http._messages import Response
from atlas_etl.connectors.http._pagination_settings import Pagination
from atlas_etl.connectors.http._records import Document, Path, Scalar, parse_path, written_path
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
_LINK = re.compile(r"""<([^>]*)>((?:\s*;\s*[^,;"]+(?:"(?:[^"\\]|\\.)*")?)*)""")
_SMALLEST_PAGE = 10  # of those that APIs give by themselves
_NEXT_URLS = (
    "next", "links.next", "paging.next", "_links.next.href", "links.next.href", "next_page_url", "nextLink",
    "next_url", "@odata~nextLink", "meta.next", "pagination.next_url", "next_page",
)  # fmt: skip
# Where the cursor is, and the parameter that such APIs want it in.
_CURSORS = (
    ("next_cursor", "cursor"), ("meta.next_cursor", "cursor"), ("pagination.next_cursor", "cursor"),
    ("response_metadata.next_cursor", "cursor"), ("cursor.next", "cursor"), ("cursor", "cursor"),
    ("next_page_token", "page_token"), ("nextPageToken", "pageToken"), ("paging.cursors.after", "after"),
    ("paging.next.after", "after"), ("meta.cursor.next", "cursor"), ("nextCursor", "cursor"),
)  # fmt: skip
_NEXT_PAGES = ("next_page", "nextPage", "meta.next_page", "pagination.next_page")
_PAGE_NUMBERS = (
    ("page", "total_pages"), ("current_page", "last_page"), ("meta.current_page", "meta.last_page"),
    ("meta.page", "meta.total_pages"), ("pagination.page", "pagination.total_pages"),
    ("pagination.current_page", "pagination.total_pages"), ("page", "pages"),
)  # fmt: skip
_FLAGS = tuple(
    f"{above}{flag}"
    for above in ("", "meta.", "pagination.", "paging.", "page_info.", "pageInfo.")
    for flag in ("has_more", "hasMore", "has_next", "hasNext", "has_next_page", "hasNextPage", "more")
)
_OFFSETS = (("offset", "total"), ("meta.offset", "meta.total"), ("pagination.offset", "pagination.total"))


def recognised(page: Page) -> Pagination | None:
    """The pagination that a first response shows; None where it shows none, or that there is one page."""
    if next_link(page.response.headers.get("link", "")):
        return Pagination(type="link_header")
    for path in _NEXT_URLS:
        steps = tuple(step.replace("~", ".") for step in path.split("."))
        found = page.find(steps)
        if isinstance(found, str) and re.match(r"https?://|/|\?", found):
            return Pagination(type="next_url", next=written_path(steps))
    for path, parameter in _CURSORS:
        found = page.find(parse_path(path))
        if isinstance(found, str | int | float) and not isinstance(found, bool) and found != "":
            return Pagination(type="cursor", cursor=path, parameter=parameter)
    for path in _NEXT_PAGES:
        found = page.find(parse_path(path))
        if isinstance(found, int) and not isinstance(found, bool):
            return Pagination(type="cursor", cursor=path, parameter="page")
    for number, total in _PAGE_NUMBERS:
        here, pages = page.find(parse_path(number)), page.find(parse_path(total))
        if isinstance(here, int) and isinstance(pages, int) and here < pages:
            return Pagination(type="page", start=here)
    for offset, total in _OFFSETS:
        here, rows = page.find(parse_path(offset)), page.find(parse_path(total))
        if here == 0 and isinstance(rows, int) and len(page.records) < rows:
            return Pagination(type="offset", total=total)
    return None


def says_more(page: Page) -> str | None:
    """Where a response says that there are more pages."""
    return next((path for path in _FLAGS if page.find(parse_path(path)) is True), None)


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
