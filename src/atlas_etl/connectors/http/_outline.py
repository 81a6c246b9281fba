"""What an API will be asked for, and which promise holds there, as people want to know it before."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from urllib.parse import urlencode

from atlas_etl.connectors.http._messages import Request, shown
from atlas_etl.connectors.http._settings.pagination import Pagination

MANY_PARENTS = (
    "there are more parents than it is kept of how far each is read: of one that appears later, records from "
    "before the checkpoint are missed"
)


def written(request: Request, *, own: Collection[str]) -> str:
    """The request's line; what a definition itself gives for parameters (`own`) may be secret."""
    params = [(name, "..." if name in own else value) for name, value in request.params]
    query = f"?{urlencode(params, safe='.:{}')}" if params else ""
    return f"{request.method} {shown(request.url)}{query}"


def caveats(pagination: Pagination, *, has_key: bool, has_many_parents: bool) -> Iterator[str]:
    """Why records may be missed, where they may."""
    yield "an API has no snapshot, and records may change while its pages are read"
    overlaps = has_key and pagination.overlap != 0
    if pagination.type == "offset" and overlaps:
        yield "pages by offset overlap: more deletes meanwhile than that are an error"
    elif pagination.type == "page" and overlaps:
        yield "each page is read again behind the next one: more deletes meanwhile than a page are an error"
    elif pagination.type in ("page", "offset"):
        yield f"by {pagination.type}, a record that is deleted meanwhile moves another to a page before"
    elif pagination.type in ("link_header", "next_url"):
        yield "where links number pages, a record that is deleted meanwhile moves another to a page before"
    elif pagination.type == "auto":
        yield "the first answer tells how pages follow each other: by page or offset, deletes move records"
    if has_many_parents:
        yield MANY_PARENTS
