"""Pages as they came, and what the first of them shows of how the others follow."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from atlas_etl.connectors.http._documents.records import Document, Path, Scalar, parse_path, written_path
from atlas_etl.connectors.http._documents.where_records import ENVELOPES
from atlas_etl.connectors.http._messages import Response
from atlas_etl.connectors.http._pagination import usual_names as usual
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.errors import SourceError


class Page(Struct, frozen=True):
    """What came back for one request."""

    response: Response
    document: Document | None  # None: the format is not JSON
    records: list[msgspec.Raw]

    @property
    def is_single(self) -> bool:
        """Whether it is one record, and no list of them."""
        return self.document is not None and self.document.is_one(self.records)

    @property
    def lacks_list(self) -> bool:
        """Whether it is no list at all, and not an empty one."""
        if self.document is None:
            return not self.response.content
        return not self.records and self.document.has_null_for_records

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
_AROUND: tuple[Path, ...] = ((), *((name,) for name in ENVELOPES))
_PAGE_TOTALS = tuple(total for _, total in usual.PAGE_NUMBERS)
_SMALLEST_PAGE = 10  # of those that APIs give by themselves
_CONTENT_RANGE = re.compile(r"(?:(?!bytes)\w+ )?\s*(?:\d+-\d+|\*)/(\d{1,15})")  # RFC 9110, section 14.4
_PARTIAL = 206
_OF_SEARCH = (  # https://www.elastic.co/docs/reference/elasticsearch/rest-apis/paginate-search-results
    "set `pagination` to {type: keyset, field: sort, parameter: search_after, into: body, page_size: 1000, "
    "page_size_parameter: size}"
)


def recognised(page: Page) -> Pagination | None:
    """The pagination that a first response shows; None where it shows none, or that there is one page."""
    if next_link(page.response.headers.get("link", "")):
        return Pagination(type="link_header")
    if page.response.headers.get("x-next-page", "").strip():
        return Pagination(type="cursor", header="X-Next-Page", parameter="page")
    for around in _AROUND:
        if (found := _shown(page, around)) is not None:
            return found
    return None


def _shown(page: Page, around: Path) -> Pagination | None:
    """The same by the members of an object."""

    def at(path: str) -> Scalar:
        return page.find(_steps(around, path))

    def place(path: str) -> str:
        return written_path(_steps(around, path))

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
        if _count(at(path)) is not None:
            return Pagination(type="cursor", cursor=place(path), parameter="page")
    for number, total in usual.PAGE_NUMBERS:
        here, pages = _count(at(number)), _count(at(total))
        if here is not None and pages is not None and here < pages and pages > 1:
            return Pagination(type="page", start=here)
    if (here := _count(at("number"))) is not None and at("last") is False:
        return Pagination(type="page", start=here)  # a slice of Spring's, which counts no pages
    for offset, total, parameter in usual.OFFSETS:
        rows = _count(at(total))
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


def says_more(page: Page) -> str | None:
    """Where a response of several records says that there are more of them, or more pages."""
    if page.is_single:
        return None
    if (header := _header_says_more(page)) is not None or page.document is None:
        return header
    for around in _AROUND:
        for path in (
            *usual.FLAGS,
            *usual.END_FLAGS,
            *usual.TOTALS,
            *usual.TOTAL_PAGES,
            *usual.LINKS,
            *usual.NEXT,
            *usual.TOKENS,
        ):
            steps = _steps(around, path)
            found = page.find(steps)
            if (
                (path in usual.FLAGS and found is True)
                or (path in usual.END_FLAGS and found is False)
                or (path in usual.TOTALS and 0 < len(page.records) < (_count(found) or 0))
                or (path in usual.TOTAL_PAGES and page.records and (_count(found) or 0) > 1)
                or (
                    path in usual.LINKS + usual.NEXT + usual.TOKENS
                    and (found not in (None, "", False) or page.document.holds_several(steps))
                )
            ):
                return written_path(steps)
        for link, _ in usual.LINK_LISTS:
            if page.document.holds_several((*around, *link)):
                return written_path((*around, *link))
    if isinstance(page.find(("offset",)), str) and _count(page.find(("offset",))) is None:
        return "offset"  # Airtable's
    return None


def said_total(page: Page) -> tuple[str, int] | None:
    """Where a page says how many records there are, which are more than its own, and how many."""
    found: list[tuple[str, Scalar]] = [
        (header, page.response.headers.get(header, "").strip()) for header in usual.TOTAL_HEADERS
    ]
    for around in _AROUND:
        places = [_steps(around, path) for path in usual.TOTALS]
        found += [(written_path(place), page.find(place)) for place in places]
    totals = [(place, total) for place, value in found if (total := _count(value)) is not None]
    return next((each for each in totals if each[1] > len(page.records)), None)


def flag_of(page: Page) -> tuple[str, bool] | None:
    """Where a page says whether others follow, however many records it has, and what it says.

    That it is not the last one is no such flag: behind the last page some APIs say so, too.
    """
    if page.is_single:
        return None
    places = (_steps(around, path) for around in _AROUND for path in usual.FLAGS)
    found = ((steps, page.find(steps)) for steps in places)
    return next(((written_path(steps), flag) for steps, flag in found if isinstance(flag, bool)), None)


def said_pages(page: Page) -> tuple[str, int] | None:
    """Where a page says how many pages there are, and how many."""
    found: list[tuple[str, Scalar]] = [
        (header, page.response.headers.get(header, "").strip()) for header in usual.TOTAL_PAGES_HEADERS
    ]
    for around in _AROUND:
        places = [_steps(around, path) for path in (*usual.TOTAL_PAGES, *_PAGE_TOTALS)]
        found += [(written_path(place), page.find(place)) for place in places]
    return next(((place, pages) for place, value in found if (pages := _count(value))), None)


def _header_says_more(page: Page) -> str | None:
    """The same by headers, whatever the format is."""
    headers, count = page.response.headers, len(page.records)
    for header in (*usual.TOTAL_HEADERS, *usual.TOTAL_PAGES_HEADERS, *usual.TOKEN_HEADERS):
        value = headers.get(header, "").strip()
        is_more = bool(value)
        if header in usual.TOTAL_HEADERS:
            is_more = 0 < count < (_count(value) or 0)
        elif header in usual.TOTAL_PAGES_HEADERS:
            is_more = count > 0 and (_count(value) or 0) > 1
        if is_more:
            return header
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is not None and 0 < count < int(found[1]):
        return "content-range"
    return f"status {_PARTIAL}" if page.response.status == _PARTIAL else None


def is_search(page: Page) -> bool:
    """Whether it is of Elasticsearch or OpenSearch, which give ten hits of a search unless told otherwise."""
    return page.document is not None and "hits" in page.document.lists(("hits",))


def says_partial(page: Page) -> SourceError | None:
    """What is wrong with a search's answer that says itself that hits are missing; None where it does not.

    https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-search#operation-search-200
    """
    if not is_search(page):
        return None
    failed = _count(page.find(("_shards", "failed"))) or 0
    if page.find(("timed_out",)) is not True and failed == 0:
        return None
    why = f"{failed:,} of its shards failed" if failed else "it timed out"
    return SourceError(
        f"the answer of a search is not whole, it says: {why}",
        hint="sync again; a smaller `page_size` or a longer `timeout` in the body may help, and "
        "`params: {allow_partial_search_results: false}` has the server refuse such answers itself",
        code="partial_search",
        retryable=True,
    )


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
        hint = f"POST a `sort` that ends with a unique field, and {_OF_SEARCH}; with `none` one page is read"
    return SourceError(why, hint=hint, code="pagination_unknown")


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
    """The target of `rel="next"` in a Link header (RFC 8288, section 3); some write `rel='next'`."""
    for target, parameters in _LINK.findall(header):
        for relation in re.findall(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", parameters, re.IGNORECASE):
            if "next" in "".join(relation).strip("'").lower().split():
                return str(target)
    return None
