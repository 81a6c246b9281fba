"""How a definition says that pages follow each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from atlas_etl.connectors.http._documents.paths import Chosen, parse_path
from atlas_etl.connectors.http._settings.auth import MODEL, RecordsPath


def check_members(*names: str | None) -> None:
    """Raises ValueError for a name that is no place in a body."""
    for name in names:
        steps = parse_path(name) if name is not None else ("",)
        if not steps or any(isinstance(step, Chosen) for step in steps):
            raise ValueError("a parameter in the body should have a name, or a path of names")


class Pagination(BaseModel):
    """How the next page is asked for, and which one is the last."""

    model_config = MODEL

    type: Literal[
        "auto", "none", "offset", "page", "cursor", "keyset", "next_url", "link_header", "page_info"
    ] = "auto"
    page_size: int | None = Field(
        default=None, ge=1, description="records to ask for; default: the API's own"
    )
    page_size_parameter: str | None = Field(default=None, description="its name; default limit or per_page")
    parameter: str | None = Field(
        default=None, description="the name of the offset, page, cursor or key that is sent"
    )
    start: int | None = Field(default=None, ge=0, description="the first offset (0) or page (1)")
    cursor: RecordsPath | None = Field(
        default=None,
        description="where a response holds the next cursor, or for page_info the object of hasNextPage "
        "and endCursor; default next_cursor, pageInfo",
    )
    header: str | None = Field(default=None, description="the response's header that holds the next cursor")
    end_value: str | None = Field(
        default=None,
        description="what the cursor is on the last page, where it is there, too, and neither null, empty, "
        'false nor 0, e.g. "null" or "-1"; an answer without the `header` is an error then',
    )
    next: RecordsPath | None = Field(
        default=None, description="where a response holds the next page's URL; default next"
    )
    field: RecordsPath | None = Field(
        default=None,
        description="keyset: the last record's member that is sent, into a body also a list; default id",
    )
    total: RecordsPath | None = Field(
        default=None,
        description="where a response holds the number of all records: a full page that reaches it is "
        "followed by one more request, and fewer records are an error",
    )
    has_more: RecordsPath | None = Field(
        default=None,
        description="where a response says whether there are more pages, however many records it has",
    )
    stop_on_short_page: bool = Field(
        default=False, description="whether a page of fewer records than page_size is the last"
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        description="offset: records that are read again with the next page; default: a tenth of a page, "
        "ten at most, where records have a key; page: 0 keeps pages from being read again behind the next",
    )
    into: Literal["query", "body", "template"] = Field(
        default="query",
        description="where the parameters are sent; a name in the body may be a path: page.after; "
        "template: they replace `{name}` in path, params and body",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Pagination:
        if self.stop_on_short_page and self.page_size is None:
            raise ValueError("stop_on_short_page needs page_size")
        if self.end_value is not None and self.type != "cursor":
            raise ValueError("end_value is for the type cursor")
        if self.overlap and self.type != "offset":
            raise ValueError("overlap is for the type offset; for the type page it may be 0")
        if self.page_size is not None and (self.overlap or 0) >= self.page_size:
            raise ValueError("overlap should be less than page_size")
        if self.into == "body":
            check_members(self.parameter, self.page_size_parameter)
        return self


def _pagination(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


PaginationField = Annotated[Pagination, BeforeValidator(_pagination, json_schema_input_type=Pagination | str)]
