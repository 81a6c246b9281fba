"""How an API is described in a definition: its address, credentials, pages, limits and resources."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    model_validator,
)

from atlas_etl.config.fields import Columns, Duration, Encoding, Size
from atlas_etl.connectors.base import ConnectionConfig, ProjectPath
from atlas_etl.connectors.declared import known_types
from atlas_etl.connectors.http._settings.auth import MODEL, Auth, RecordsPath, Url, check_token_url
from atlas_etl.connectors.http._settings.incremental import Incremental, Since
from atlas_etl.connectors.http._settings.older_keys import from_older_keys
from atlas_etl.connectors.http._settings.pagination import Pagination, PaginationField
from atlas_etl.connectors.http._settings.prior import Given, Job

Plain = str | int | float | bool
EmptyStatus = Literal[400, 403, 404, 405, 409, 410, 422]  # never of credentials, or of what may pass


class Parent(BaseModel):
    """The resource for each of whose records another one is asked for."""

    model_config = MODEL

    resource: str = Field(description="its name under `resources`")
    fields: dict[str, RecordsPath] = Field(
        min_length=1,
        description="names for `{name}` in path, params, headers and body, and where its records have them",
    )
    include: bool = Field(default=True, description="whether these are columns of the records, too")
    changed_only: bool = Field(
        default=False,
        description="whether only those are asked for that changed since the checkpoint, by that resource's "
        "`incremental`: for parents that change whenever one of these records does; all records of these are "
        "merged, whatever their cursor",
    )
    shared_cursor: bool = Field(
        default=False,
        description="whether a number as cursor grows over the records of all parents together: asked only "
        "where there are more than 10,000 of them",
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
    value_column: str | None = Field(
        default=None,
        min_length=1,
        description='the column of records that are no objects, but values or lists, as in ["EUR", "USD"]',
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
    encoding: Encoding | None = Field(
        default=None,
        description="the charset of its answers, e.g. latin-1; default: what the header Content-Type, or XML "
        "itself, names, or UTF-8",
    )
    given: dict[str, Given] = Field(
        default_factory=dict,
        description="names for `{name}` in path, params, headers and body that another answer tells, e.g. "
        "all columns",
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
    request_timeout: Duration = Field(default=timedelta(minutes=5), description="for one whole response")
    page_timeout: Duration = Field(
        default=timedelta(minutes=30), description="for one page, with all tries and the waits between them"
    )
    largest_page: Size = Field(default=256 * 1024**2, ge=1024, description="bytes that one response may have")
    least_rate: int = Field(
        default=100, ge=0, description="bytes a second, below which a response is given up"
    )
    attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="how often a request is tried; 1: no retry; where no answer comes in time, as often as "
        "this or `retry` says",
    )
    longest_wait: Duration = Field(
        default=timedelta(minutes=2),
        description="before a request is tried again, whatever the server asks for",
    )
    retry_budget: int = Field(
        default=100,
        ge=0,
        description="tries again, of all requests together, that go beyond as many answers; once three "
        "requests in a row failed by all their tries, or one that was not answered in time, none until one "
        "is answered",
    )
    requests_per_minute: float | None = Field(default=None, gt=0, description="of all streams together")
    requests_per_second: float | None = Field(default=None, gt=0, description="the same, for short limits")
    proxy: SecretStr | None = Field(default=None, description="http://user:password@host:port; never guessed")
    ca_bundle: ProjectPath | None = Field(
        default=None, description="certificates to trust instead of the usual"
    )
    concurrency: int = Field(
        default=1, ge=1, le=16, description="how many requests go out at once, of all streams together"
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
    def _is_consistent(self) -> HttpConnection:
        check_token_url(self.auth, self.base_url)
        parents_lead_to_an_end(self.resources)
        return self
