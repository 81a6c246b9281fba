"""One list of an API, page after page, without what a page repeats of the one before."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from atlas_etl.connectors.http._documents.formats import FORMATS, NOTHING, LenientJson
from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.plain_values import named_values
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.charsets import text_of
from atlas_etl.connectors.http._pages import Records
from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.paging import paged
from atlas_etl.connectors.http._pagination.recognised import told
from atlas_etl.connectors.http._pagination.repeats import Repeats, behind
from atlas_etl.connectors.http._pagination.searches import says_partial
from atlas_etl.connectors.http._reading import Reading
from atlas_etl.connectors.http._settings.connection import HttpConnection, Resource

_NO_CONTENT = 204


def pages_of_list(
    resource: Resource,
    first: Request,
    reading: Reading,
    *,
    config: HttpConnection,
    fetch: Callable[[Request], Response],
) -> Generator[Records, None, None]:
    """The pages of one list in turn, from its first request on. Raises what `fetch` does, and SourceError."""
    where = shown(first.url)
    written = resource.records if resource.records is not None else config.records
    path = parse_path(written) if written is not None else None
    form = resource.format or config.format
    may_lack = resource.records_may_lack and form == "json"
    read = (LenientJson(path) if may_lack else FORMATS[form](path)).read
    pagination = resource.pagination or config.pagination
    is_counted = pagination.type in ("offset", "page", "auto")
    is_paged = resource.pagination is not None and pagination.type not in ("auto", "none")
    repeats = Repeats(reading.key if is_counted else (), merges=reading.merges, where=where)
    is_first, is_past = True, False
    before: Records = []
    held: Records = []  # what the page before turns out to have got meanwhile comes first
    wanted = replace(first, wants_records=True)
    flow = paged(pagination, wanted, has_key=bool(reading.key) and resource.job is None)
    request = next(flow, None)
    while request is not None:
        response = fetch(request)
        reading.time.hear(response.headers)
        document, records = NOTHING
        if response.status != _NO_CONTENT and response.status not in request.empty_on:
            document, records = read(text_of(response, where, form=form, encoding=resource.encoding), where)
            records = named_values(records, resource.value_column)
        page = Page(response, document, records)
        if path is None:
            reading.errors.see(page, where, is_paged=is_paged)
        if (failure := says_partial(page)) is not None:
            raise failure
        if is_first and not reading.notes and (note := told(pagination, page)) is not None:
            reading.notes.append(note)
        is_first = False
        if not request.is_again:
            held = repeats.new(records, expected=request.repeats)
            if pagination.type == "keyset":
                held, before = behind(before, held), records or before
            is_past = reading.newest is not None and reading.newest.is_past(records)
        elif missed := repeats.missed(records):
            yield missed
        request = _following(flow, page)
        if request is not None and request.is_again:
            continue
        if held:
            yield held
        if is_past:
            return


def _following(flow: Flow, page: Page) -> Request | None:
    try:
        return flow.send(page)
    except StopIteration:
        return None
