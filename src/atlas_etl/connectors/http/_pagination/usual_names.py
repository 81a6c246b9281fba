"""Names by which APIs say how their pages follow each other. A name that has a point is written with `~`."""

from __future__ import annotations

from atlas_etl.connectors.http._documents.paths import parse_path

# Where nothing but an address is, which may be a relative one (JSON:API, HAL, OData, Laravel, Salesforce).
LINKS = (
    "links.next", "links.next.href", "_links.next.href", "_links.next", "@odata~nextLink", "odata~nextLink",
    "__next", "nextLink", "next_page_url", "nextPageUrl", "next_url", "nextUrl", "nextRecordsUrl",
    "pagination.next_url", "paging.next.link", "meta.next_url", "hydra:view.hydra:next", "view.next",
)  # fmt: skip
# The same in a list of links: of FHIR (https://hl7.org/fhir/http.html#paging), ORDS, APIs of OGC.
LINK_LISTS = tuple(
    (parse_path(links), address)
    for links, address in (
        ("link[relation=next]", "url"), ("links[rel=next]", "href"), ("links[rel=next]", "url"),
        ("link[rel=next]", "href"), ("_links[rel=next]", "href"),
    )
)  # fmt: skip
# Where an address may be, or something else.
NEXT = (
    "next", "paging.next", "pagination.next", "meta.next", "info.next", "page.next", "pages.next",
    "next_page", "nextPage", "meta.next_page", "pagination.next_page", "_pagination.next",
)  # fmt: skip
# Where the cursor is, and the parameter that such APIs want it in.
CURSORS = (
    ("next_cursor", "cursor"), ("meta.next_cursor", "cursor"), ("pagination.next_cursor", "cursor"),
    ("response_metadata.next_cursor", "cursor"), ("cursor.next", "cursor"), ("cursor", "cursor"),
    ("next_page_token", "page_token"), ("nextPageToken", "pageToken"), ("paging.cursors.after", "after"),
    ("paging.next.after", "after"), ("meta.cursor.next", "cursor"), ("nextCursor", "cursor"),
    ("metadata.continue", "continue"), ("meta.cursors.after", "after"),
    ("additional_data.next_cursor", "cursor"),
)  # fmt: skip
NEXT_PAGES = ("next_page", "nextPage", "meta.next_page", "pagination.next_page")
# The page's number, and how many there are. The second name is Spring's, which counts from 0.
PAGE_NUMBERS = (
    ("page", "total_pages"), ("number", "totalPages"), ("page.number", "page.totalPages"),
    ("page", "totalPages"), ("current_page", "last_page"), ("meta.current_page", "meta.last_page"),
    ("currentPage", "totalPages"), ("current_page", "total_pages"), ("meta.page", "meta.total_pages"),
    ("meta.current_page", "meta.total_pages"), ("meta.currentPage", "meta.totalPages"),
    ("pagination.page", "pagination.total_pages"), ("pagination.current_page", "pagination.total_pages"),
    ("page", "pages"), ("page", "nbPages"), ("meta.pagination.current_page", "meta.pagination.total_pages"),
    ("meta.pagination.page", "meta.pagination.pageCount"),
)  # fmt: skip
ABOVE = (
    "", "meta.", "pagination.", "paging.", "page_info.", "pageInfo.", "meta.pagination.", "meta.page.",
    "_meta.", "metadata.", "_metadata.", "result_info.", "paginator.",
)  # fmt: skip
FLAGS = (
    *(
        f"{above}{flag}"
        for above in ABOVE
        for flag in (
            "has_more", "hasMore", "has_next", "hasNext", "has_next_page", "hasNextPage", "more",
            "hasMoreItems", "hasMoreRecords", "isTruncated", "is_truncated", "IsTruncated",
        )
    ),
    # Zoho's, Pipedrive's and Eventbrite's.
    "info.more_records", "additional_data.pagination.more_items_in_collection", "pagination.has_more_items",
)  # fmt: skip
END_FLAGS = tuple(
    f"{above}{flag}"
    for above in ABOVE
    for flag in ("last", "isLast", "is_last", "done", "isLastPage", "is_last_page", "lastPage", "lastpage")
)
# What the next page begins with, and nothing tells how it is sent.
TOKENS = tuple(
    f"{above}{token}"
    for above in ABOVE
    for token in (
        "nextToken", "next_token", "NextToken", "continuationToken", "continuation_token", "nextPageKey",
        "next_page_key", "nextPageStart", "nextOffset", "next_offset", "nextStart", "next_start",
        "nextMarker", "next_marker", "NextMarker", "lastEvaluatedKey", "LastEvaluatedKey",
    )
)  # fmt: skip
TOKEN_HEADERS = (
    "x-ms-continuation", "x-continuation-token", "x-next-token", "x-next-cursor", "next-cursor",
)  # fmt: skip
# Where the records begin, how many there are, and the parameter.
OFFSETS = (
    ("offset", "total", "offset"), ("meta.offset", "meta.total", "offset"),
    ("pagination.offset", "pagination.total", "offset"), ("skip", "total", "skip"),
    ("start", "total", "start"), ("startAt", "total", "startAt"), ("start", "numFound", "start"),
)  # fmt: skip
TOTALS = (
    *(
        f"{above}{total}"
        for above in (*ABOVE, "page.")
        for total in (
            "total", "total_count", "totalCount", "total_results", "totalResults", "total_items",
            "totalItems", "total_records", "totalRecords", "totalElements", "recordsTotal", "numFound",
            "nbHits", "@odata~count", "count", "total.value", "numberMatched", "hydra:totalItems",
        )
    ),
    "totalSetSize", "records.totalRecords",  # DocuSign's and Gong's
)  # fmt: skip
TOTAL_HEADERS = ("x-total-count", "x-total", "total-count", "x-wp-total", "x-pagination-total-count")
TOTAL_PAGES_HEADERS = ("x-total-pages", "x-wp-totalpages", "x-pages", "x-pagination-page-count")
TOTAL_PAGES = tuple(
    f"{above}{total}"
    for above in (*ABOVE, "page.")
    for total in ("total_pages", "totalPages", "last_page", "page_count", "pageCount")
)
