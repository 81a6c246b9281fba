"""How an API is described in a definition: its address, credentials, pages, limits and resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from atlas_etl.config.fields import Columns, Duration, Size, parse_duration
from atlas_etl.connectors.base import ConnectionConfig, ProjectPath
from atlas_etl.connectors.declared import known_types
from atlas_etl.connectors.http._auth_settings import MODEL, Auth, RecordsPath, Url
from atlas_etl.connectors.http._older_keys import from_older_keys
from atlas_etl.connectors.http._prior_settings import Given, Job
from atlas_etl.connectors.http._records import parse_path

Plain = str | int | float | bool
EmptyStatus = Literal[400, 403, 404, 405, 409, 410, 422]  # never of credentials, or of what may pass


def check_members(*names: str | None) -> None:
    """Raises ValueError for a name that is no place in a body."""
    for name in names:
        if name is not None and not parse_path(name):
            raise ValueError("a parameter in the body should have a name")


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
        default=None, description='what the cursor is on the last page, where it is there, too, e.g. "null"'
    )
    next: RecordsPath | None = Field(
        default=None, description="where a response holds the next page's URL; default next"
    )
    field: RecordsPath | None = Field(
        default=None, description="keyset: the last record's member that is sent; default id"
    )
    total: RecordsPath | None = Field(
        default=None, description="where a response holds the number of all records"
    )
    has_more: RecordsPath | None = Field(
        default=None, description="where a response says whether there are more pages"
    )
    stop_on_short_page: bool = Field(
        default=False, description="whether a page of fewer records than page_size is the last"
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        description="offset: records that are read again with the next page; default: a tenth of a page, "
        "ten at most, where records have a key",
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
            raise ValueError("overlap is for the type offset")
        if self.page_size is not None and (self.overlap or 0) >= self.page_size:
            raise ValueError("overlap should be less than page_size")
        if self.into == "body":
            check_members(self.parameter, self.page_size_parameter)
        return self


def _pagination(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


PaginationField = Annotated[Pagination, BeforeValidator(_pagination, json_schema_input_type=Pagination | str)]


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time on the calendar."""

    months: int
    length: timedelta


_CALENDAR = re.compile(r"([1-9][0-9]*)\s*(month|year)s?")
_SHORTEST = timedelta(minutes=1)


def _span(value: object) -> object:
    found = _CALENDAR.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is not None:
        return Span(int(found[1]) * (12 if found[2] == "year" else 1), timedelta())
    if value is None or isinstance(value, Span):
        return value
    try:
        length = parse_duration(value)
    except ValueError:
        raise ValueError("should be a length of time such as 1 month, 1 year, 30d or 12h") from None
    if length < _SHORTEST:
        raise ValueError("should be a minute at least")
    return Span(0, length)


SpanField = Annotated[
    Span, BeforeValidator(_span), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


class Since(BaseModel):
    """How the checkpoint is written for an API, and what its answers hold then."""

    model_config = MODEL

    format: str = Field(
        default="iso8601",
        min_length=1,
        description="iso8601, epoch, epoch_ms, date, plain (as records have it), or such as %Y-%m-%d %H:%M",
    )
    boundary: Literal["inclusive", "exclusive"] = Field(
        default="inclusive", description="whether records that are equal to the parameter come"
    )
    order: Literal["none", "ascending", "descending"] = Field(
        default="none",
        description="of the cursor: ascending commits long loads in windows, descending stops early",
    )
    start: datetime | None = Field(
        default=None, description="where the first sync begins, e.g. 2024-01-01 or 2024-01-01T00:00:00Z"
    )
    window: SpanField | None = Field(
        default=None,
        description="how much is asked for at once, e.g. 1 month, 30d: from the checkpoint to now",
    )

    @property
    def is_asked(self) -> bool:
        """Whether the API is told the checkpoint."""
        return False

    @model_validator(mode="after")
    def _known_format(self) -> Since:
        if self.format not in ("iso8601", "epoch", "epoch_ms", "date", "plain") and "%" not in self.format:
            raise ValueError("format: should be iso8601, epoch, epoch_ms, date, plain or a pattern with %")
        return self


class Incremental(Since):
    """How the API is asked for what is new since the checkpoint; without it, what is old is left out here."""

    parameter: str | None = Field(default=None, description="its name, e.g. updated_since")
    into: Literal["query", "header", "body", "template"] = Field(
        default="query",
        description="where it is sent; a name in the body may be a path: filter.since; template: it replaces "
        "`{name}` in path, params and body",
    )
    initial: str | int | None = Field(
        default=None, description="what is sent instead as long as there is no checkpoint"
    )
    end_parameter: str | None = Field(
        default=None, description="the name of the end that is sent with it, e.g. updated_until"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Incremental:
        if self.into == "body":
            check_members(self.parameter, self.end_parameter)
        check_windows(self, self.parameter, self.end_parameter, names="parameter and end_parameter")
        if self.initial is not None and (self.parameter is None or self.start is not None):
            raise ValueError("initial needs a parameter, and no `start`")
        if self.into == "template" and self.parameter is not None and self.initial is None is self.start:
            raise ValueError("a parameter in a template needs `initial` or `start` for the first sync")
        return self

    @property
    def is_asked(self) -> bool:
        return self.parameter is not None


def check_windows(how: Since, begin: str | None, end: str | None, *, names: str) -> None:
    """Raises ValueError for windows without what they need."""
    if how.window is not None and (begin is None or end is None):
        raise ValueError(f"window needs {names}")
    if end is not None and how.start is None:
        raise ValueError("an end needs `start`, from which the first sync reads")
    if how.start is not None and begin is None:
        raise ValueError("start needs the parameter that it is sent as")


class Parent(BaseModel):
    """The resource for each of whose records another one is asked for."""

    model_config = MODEL

    resource: str = Field(description="its name under `resources`")
    fields: dict[str, RecordsPath] = Field(
        min_length=1,
        description="names for `{name}` in path, params and body, and where its records have them",
    )
    include: bool = Field(default=True, description="whether these are columns of the records, too")
    changed_only: bool = Field(
        default=False,
        description="whether only those are asked for that changed since the checkpoint, by that resource's "
        "`incremental`: for parents that change whenever one of these records does",
    )


class Offered(BaseModel):
    """One thing that an API offers; a stream reads it as its `table`."""

    model_config = MODEL

    nested: Literal["json", "flatten"] | None = Field(default=None, description="default: the connection's")
    types: Annotated[dict[str, str], AfterValidator(known_types)] = Field(
        default_factory=dict, description="types of columns that are not to be inferred: {at: timestamptz}"
    )
    primary_key: Columns = Field(default=(), description="the members that tell records apart")
    cursor: str | None = Field(
        default=None, description="the member that grows, where no stream says otherwise"
    )
    incremental: Since = Since()
    parent: Parent | None = Field(default=None, description="for each of whose records this is asked for")


class Resource(Offered):
    """What is at a path below the base URL."""

    path: str = Field(min_length=1, description="below base_url, or a whole URL")
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Plain] = Field(default_factory=dict, description="parameters of the query")
    headers: dict[str, str] = Field(default_factory=dict)
    body: JsonValue = Field(default=None, description="what is posted, as JSON")
    records: RecordsPath | None = Field(default=None, description="where the records are; default: found out")
    pagination: PaginationField | None = Field(default=None, description="default: the connection's")
    incremental: Incremental = Incremental()
    records_may_lack: bool = Field(
        default=False, description="whether an answer without the last member of `records` has none"
    )
    empty_on: tuple[EmptyStatus, ...] = Field(
        default=(),
        description="statuses that mean no records, e.g. [404, 410] where not each parent's record has some",
    )
    format: Literal["json", "jsonl", "csv", "xml"] | None = Field(
        default=None, description="default: the connection's"
    )
    given: dict[str, Given] = Field(
        default_factory=dict,
        description="names for `{name}` in path, params and body that another answer tells, e.g. all columns",
    )
    job: Job | None = Field(default=None, description="where the request begins a job that finds the records")

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> Resource:
        if both := self.given.keys() & (self.parent.fields.keys() if self.parent is not None else set()):
            raise ValueError(f"{min(both)!r} is in both `given` and the `fields` of `parent`")
        if self.job is not None and self.empty_on:
            raise ValueError("empty_on is not for jobs: what begins one has no records")
        return self


def _resource(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


ResourceField = Annotated[Resource, BeforeValidator(_resource, json_schema_input_type=Resource | str)]


def parents_lead_to_an_end(resources: Mapping[str, Offered]) -> None:
    """Raises ValueError where a parent is missing or leads back, or has children that are to be in order."""
    for name, resource in resources.items():
        above, seen = resource.parent, {name}
        if above is not None and resource.incremental.order == "ascending":
            raise ValueError(f"resources.{name}: no order holds over the records of several parents")
        while above is not None:
            if above.resource not in resources:
                raise ValueError(
                    f"resources.{name}: there is no resource {above.resource!r} to be its parent"
                )
            if above.resource in seen:
                raise ValueError(f"resources.{name}: it is a parent of itself")
            if above.changed_only and not resources[above.resource].incremental.is_asked:
                raise ValueError(
                    f"resources.{name}: changed_only needs an `incremental` parameter of {above.resource!r}"
                )
            seen.add(above.resource)
            above = resources[above.resource].parent


class HttpSettings(ConnectionConfig):
    """How requests go out, and within which limits."""

    headers: dict[str, str] = Field(default_factory=dict, description="sent with each request")
    nested: Literal["json", "flatten"] = Field(
        default="json", description="objects inside records: as JSON, or as columns a__b"
    )
    connect_timeout: Duration = Field(default=timedelta(seconds=10), description="to reach the server")
    timeout: Duration = Field(default=timedelta(seconds=60), description="without a byte from the server")
    page_timeout: Duration = Field(default=timedelta(minutes=5), description="for one whole response")
    largest_page: Size = Field(default=256 * 1024**2, ge=1024, description="bytes that one response may have")
    least_rate: int = Field(
        default=100, ge=0, description="bytes a second, below which a response is given up"
    )
    attempts: int = Field(default=5, ge=1, le=100, description="how often a request is tried; 1: no retry")
    longest_wait: Duration = Field(
        default=timedelta(minutes=2),
        description="before a request is tried again, whatever the server asks for",
    )
    retry_budget: int = Field(
        default=100, ge=0, description="tries again, of all requests together, that go beyond as many answers"
    )
    requests_per_minute: float | None = Field(default=None, gt=0, description="of all streams together")
    requests_per_second: float | None = Field(default=None, gt=0, description="the same, for short limits")
    proxy: SecretStr | None = Field(default=None, description="http://user:password@host:port; never guessed")
    ca_bundle: ProjectPath | None = Field(
        default=None, description="certificates to trust instead of the usual"
    )
    concurrency: int = Field(
        default=1, ge=1, le=16, description="how many parents' records are asked for at once"
    )

    @property
    def least_interval(self) -> float:
        """The seconds between two requests that both rates ask for."""
        a_minute, a_second = self.requests_per_minute, self.requests_per_second
        return max(60 / a_minute if a_minute else 0.0, 1 / a_second if a_second else 0.0)


class ApiConnection(HttpSettings):
    """What every protocol that speaks HTTP and describes an API has: who asks, too."""

    auth: Auth = Auth()

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, given: Any) -> Any:
        return from_older_keys(given) if isinstance(given, Mapping) else given


class HttpConnection(ApiConnection):
    """An HTTP API."""

    base_url: Url = Field(description="where the API begins, e.g. https://api.example.com/v1")
    params: dict[str, Plain] = Field(default_factory=dict, description="sent with each request")
    records: RecordsPath | None = Field(
        default=None, description="where responses hold their records, e.g. data.items; default: found out"
    )
    format: Literal["json", "jsonl", "csv", "xml"] = "json"
    pagination: PaginationField = Field(default=Pagination(), description="a type, or a mapping with more")
    resources: dict[str, ResourceField] = Field(
        default_factory=dict, description="what the API offers, by the names that streams have"
    )

    @model_validator(mode="after")
    def _parents_lead_to_an_end(self) -> HttpConnection:
        parents_lead_to_an_end(self.resources)
        return self
