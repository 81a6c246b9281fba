"""What a first page shows of how the others follow."""

from __future__ import annotations

import re

from atlas_etl.connectors.http._documents.paths import Path, parse_path, written_path
from atlas_etl.connectors.http._documents.records import Scalar
from atlas_etl.connectors.http._pagination import usual_names as usual
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.said import AROUND, count_of, next_link, says_more, steps_to
from atlas_etl.connectors.http._pagination.searches import HOW_TO_PAGE, is_search
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.errors import SourceError

_SMALLEST_PAGE = 10  # of those that APIs give by themselves


def recognised(page: Page) -> Pagination | None:
    """The pagination that a first response shows; None where it shows none, or that there is one page."""
    if next_link(page.response.headers.get("link", "")):
        return Pagination(type="link_header")
    if page.response.headers.get("x-next-page", "").strip():
        return Pagination(type="cursor", header="X-Next-Page", parameter="page")
    for around in AROUND:
        if (found := _shown(page, around)) is not None:
            return found
    return None


def _shown(page: Page, around: Path) -> Pagination | None:
    """The same by the members of an object."""

    def at(path: str) -> Scalar:
        return page.find(steps_to(around, path))

    def place(path: str) -> str:
        return written_path(steps_to(around, path))

    for path in (*usual.LINKS, *usual.NEXT):
        found = at(path)
        if isinstance(found, str) and (
            found != "" if path in usual.LINKS else re.match(r"https?://|/|\?", found)
        ):
            return Pagination(type="next_url", next=place(path))
    if (linked := _listed_link(page, around)) is not None:
        return linked
    for path, parameter in usual.CURSORS:
        found = at(path)
        if isinstance(found, str | int | float) and not isinstance(found, bool) and found != "":
            return Pagination(type="cursor", cursor=place(path), parameter=parameter)
    for path in usual.NEXT_PAGES:
        if count_of(at(path)) is not None:
            return Pagination(type="cursor", cursor=place(path), parameter="page")
    for number, total in usual.PAGE_NUMBERS:
        here, pages = count_of(at(number)), count_of(at(total))
        if here is not None and pages is not None and here < pages and pages > 1:
            return Pagination(type="page", start=here)
    if (here := count_of(at("number"))) is not None and at("last") is False:
        return Pagination(type="page", start=here)  # a slice of Spring's, which counts no pages
    for offset, total, parameter in usual.OFFSETS:
        rows = count_of(at(total))
        if at(offset) == 0 and rows is not None and len(page.records) < rows:
            return Pagination(type="offset", total=place(total), parameter=parameter)
    return None


def _listed_link(page: Page, around: Path) -> Pagination | None:
    """The same by a list of links, of which one is to be fetched as it is."""
    for link, address in usual.LINK_LISTS:
        steps = (*around, *link)
        found, method = page.find((*steps, address)), page.find((*steps, "method"))
        if isinstance(found, str) and found and method in (None, "GET") and not page.is_single:
            return Pagination(type="next_url", next=written_path((*steps, address)))
    return None


def unknown(page: Page) -> SourceError | None:
    """What is wrong with taking a page that shows no pagination for all; None where it may be all."""
    searched = is_search(page)
    place = says_more(page)
    if place is not None:
        why = f"the first answer says by {place!r} that there is more, and not how to ask for it"
    elif searched and len(page.records) >= _SMALLEST_PAGE and page.find(("hits", "total")) is None:
        if page.find(("hits", "total", "value")) is not None:
            return None
        why = "the first answer is a search's, and does not say how many hits there are"
    else:
        return None
    hint = "describe `pagination`, e.g. {type: page} or {type: keyset}; with `none` one is read"
    if searched:
        hint = f"POST a `sort` that ends with a unique field, and {HOW_TO_PAGE}; with `none` one page is read"
    return SourceError(why, hint=hint, code="pagination_unknown")


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
