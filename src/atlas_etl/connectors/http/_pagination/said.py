"""What a page says by itself of others: a next one, more of them, or how many there are in all."""

from __future__ import annotations

import re

from atlas_etl.connectors.http._documents.paths import Path, written_path
from atlas_etl.connectors.http._documents.records import Scalar
from atlas_etl.connectors.http._documents.where_records import ENVELOPES
from atlas_etl.connectors.http._pagination import usual_names as usual
from atlas_etl.connectors.http._pagination.page import Page

AROUND: tuple[Path, ...] = ((), *((name,) for name in ENVELOPES))
# A link with its parameters, whose texts may have quotes in them that are escaped.
_LINK = re.compile(r"""<([^<>]*)>((?:\s*;\s*[^,;"]+(?:"(?:[^"\\]|\\.)*")?)*)""")
_PAGE_TOTALS = tuple(total for _, total in usual.PAGE_NUMBERS)
_CONTENT_RANGE = re.compile(r"(?:(?!bytes)\w+ )?\s*(?:\d+-\d+|\*)/(\d{1,15})")  # RFC 9110, section 14.4
_PARTIAL = 206


def says_more(page: Page) -> str | None:
    """Where a response of several records says that there are more of them, or more pages."""
    if page.is_single:
        return None
    if (header := _header_says_more(page)) is not None or page.document is None:
        return header
    for around in AROUND:
        for path in (
            *usual.FLAGS,
            *usual.END_FLAGS,
            *usual.TOTALS,
            *usual.TOTAL_PAGES,
            *usual.LINKS,
            *usual.NEXT,
            *usual.TOKENS,
        ):
            steps = steps_to(around, path)
            found = page.find(steps)
            if (
                (path in usual.FLAGS and found is True)
                or (path in usual.END_FLAGS and found is False)
                or (path in usual.TOTALS and 0 < len(page.records) < (count_of(found) or 0))
                or (path in usual.TOTAL_PAGES and page.records and (count_of(found) or 0) > 1)
                or (
                    path in usual.LINKS + usual.NEXT + usual.TOKENS
                    and (found not in (None, "", False) or page.document.holds_several(steps))
                )
            ):
                return written_path(steps)
        for link, _ in usual.LINK_LISTS:
            if page.document.holds_several((*around, *link)):
                return written_path((*around, *link))
    if isinstance(page.find(("offset",)), str) and count_of(page.find(("offset",))) is None:
        return "offset"  # Airtable's
    return None


def said_total(page: Page) -> tuple[str, int] | None:
    """Where a page says how many records there are, which are more than its own, and how many."""
    found: list[tuple[str, Scalar]] = [
        (header, page.response.headers.get(header, "").strip()) for header in usual.TOTAL_HEADERS
    ]
    for around in AROUND:
        places = [steps_to(around, path) for path in usual.TOTALS]
        found += [(written_path(place), page.find(place)) for place in places]
    totals = [(place, total) for place, value in found if (total := count_of(value)) is not None]
    return next((each for each in totals if each[1] > len(page.records)), None)


def flag_of(page: Page) -> tuple[str, bool] | None:
    """Where a page says whether others follow, however many records it has, and what it says.

    That it is not the last one is no such flag: behind the last page some APIs say so, too.
    """
    if page.is_single:
        return None
    places = (steps_to(around, path) for around in AROUND for path in usual.FLAGS)
    found = ((steps, page.find(steps)) for steps in places)
    return next(((written_path(steps), flag) for steps, flag in found if isinstance(flag, bool)), None)


def said_pages(page: Page) -> tuple[str, int] | None:
    """Where a page says how many pages there are, and how many."""
    found: list[tuple[str, Scalar]] = [
        (header, page.response.headers.get(header, "").strip()) for header in usual.TOTAL_PAGES_HEADERS
    ]
    for around in AROUND:
        places = [steps_to(around, path) for path in (*usual.TOTAL_PAGES, *_PAGE_TOTALS)]
        found += [(written_path(place), page.find(place)) for place in places]
    return next(((place, pages) for place, value in found if (pages := count_of(value))), None)


def _header_says_more(page: Page) -> str | None:
    """The same by headers, whatever the format is."""
    headers, count = page.response.headers, len(page.records)
    for header in (*usual.TOTAL_HEADERS, *usual.TOTAL_PAGES_HEADERS, *usual.TOKEN_HEADERS):
        value = headers.get(header, "").strip()
        is_more = bool(value)
        if header in usual.TOTAL_HEADERS:
            is_more = 0 < count < (count_of(value) or 0)
        elif header in usual.TOTAL_PAGES_HEADERS:
            is_more = count > 0 and (count_of(value) or 0) > 1
        if is_more:
            return header
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is not None and 0 < count < int(found[1]):
        return "content-range"
    return f"status {_PARTIAL}" if page.response.status == _PARTIAL else None


def next_link(header: str) -> str | None:
    """The target of `rel="next"` in a Link header (RFC 8288, section 3); some write `rel='next'`."""
    for target, parameters in _LINK.findall(header):
        for relation in re.findall(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", parameters, re.IGNORECASE):
            if "next" in "".join(relation).strip("'").lower().split():
                return str(target)
    return None


def steps_to(around: Path, path: str) -> Path:
    """The steps of a path whose names may have points, written as `~`."""
    return (*around, *(step.replace("~", ".") for step in path.split(".")))


def count_of(found: Scalar) -> int | None:
    """A whole number, which some write as text."""
    if isinstance(found, str) and found.isdecimal() and len(found) < 16:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
