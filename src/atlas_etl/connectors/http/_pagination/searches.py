"""Searches of Elasticsearch and OpenSearch, whose answers may be of a part of the hits."""

from __future__ import annotations

from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.connectors.http._pagination.said import count_of
from atlas_etl.errors import SourceError

HOW_TO_PAGE = (  # https://www.elastic.co/docs/reference/elasticsearch/rest-apis/paginate-search-results
    "set `pagination` to {type: keyset, field: sort, parameter: search_after, into: body, page_size: 1000, "
    "page_size_parameter: size}"
)


def is_search(page: Page) -> bool:
    """Whether it is of Elasticsearch or OpenSearch, which give ten hits of a search unless told otherwise."""
    return page.document is not None and "hits" in page.document.lists(("hits",))


def says_partial(page: Page) -> SourceError | None:
    """What is wrong with a search's answer that says itself that hits are missing; None where it does not.

    https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-search#operation-search-200
    """
    if not is_search(page):
        return None
    failed = count_of(page.find(("_shards", "failed"))) or 0
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
