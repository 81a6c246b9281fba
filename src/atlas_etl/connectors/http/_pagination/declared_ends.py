"""Whether a page is the last one, by what the definition says of sizes and of a flag."""

from __future__ import annotations

from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.standstill import stuck
from atlas_etl.connectors.http._settings.pagination import Pagination


def is_last(how: Pagination, page: Page) -> bool:
    """Raises SourceError (`pagination_stuck`) for an empty page that says that there are more."""
    count = len(page.records)
    if how.has_more is not None:
        if not count and has_more(how, page):
            raise stuck("an empty page says that there are more, and not where")
        return not has_more(how, page)
    return count == 0 or (how.stop_on_short_page and how.page_size is not None and count < how.page_size)


def has_more(how: Pagination, page: Page) -> bool:
    return how.has_more is not None and not has_no_more(how, page)


def has_no_more(how: Pagination, page: Page) -> bool:
    return how.has_more is not None and page.find(parse_path(how.has_more)) in (False, None, 0, "false")
