"""Any GraphQL API: a query's connections and lists to rows, by the rooms of the http protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, JsonValue, model_validator

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.http._cassettes.recording import wiring
from atlas_etl.connectors.http._documents.paths import EVERY, Path, parse_path, written_path
from atlas_etl.connectors.http._graphql.errors import refusal
from atlas_etl.connectors.http._graphql.pages import check_inner_pages, check_records
from atlas_etl.connectors.http._messages import Request, Response
from atlas_etl.connectors.http._named import NamedResources, asked_in_body
from atlas_etl.connectors.http._one_list import pages_of_list
from atlas_etl.connectors.http._pages import Records
from atlas_etl.connectors.http._reader import streams_of
from atlas_etl.connectors.http._reading import Reading
from atlas_etl.connectors.http._settings.auth import RecordsPath, Url, check_token_url
from atlas_etl.connectors.http._settings.connection import (
    ApiConnection,
    HttpConnection,
    Offered,
    Resource,
    parents_lead_to_an_end,
)
from atlas_etl.connectors.http._settings.incremental import Since, check_windows
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.connectors.http._wire import Network, Wire, dispose, session

_CONNECTION = frozenset({"nodes", "edges"})  # of which a Relay connection has one or both


class SinceVariable(Since):
    """How a query is asked for what is new since the checkpoint; without it, what is old is left out here."""

    variable: str | None = Field(default=None, description="the query's variable that is set to it")
    end_variable: str | None = Field(default=None, description="the query's variable that is set to the end")

    @model_validator(mode="after")
    def _is_complete(self) -> SinceVariable:
        check_windows(self, self.variable, self.end_variable, names="variable and end_variable")
        return self

    @property
    def is_asked(self) -> bool:
        return self.variable is not None


class Query(Offered):
    """A query and where its answer has records."""

    query: str = Field(min_length=1, description="of one operation, as the API's own explorer takes it")
    variables: dict[str, JsonValue] = Field(
        default_factory=dict, description="sent with the query; `{name}` is a value of the parent's record"
    )
    records: RecordsPath = Field(
        description="where they are below `data`: orders.nodes, shop.orders.edges[*].node, or a plain list"
    )
    pagination: Literal["page_info", "none"] | None = Field(
        default=None, description="default: page_info where records are in `nodes` or `edges`"
    )
    cursor_variable: str = Field(
        default="after", min_length=1, description="the query's variable that is set to pageInfo.endCursor"
    )
    incremental: SinceVariable = SinceVariable()

    @model_validator(mode="after")
    def _asks_for_what_is_needed(self) -> Query:
        words = set(re.findall(r"\$?\w+", self.query))
        if self.is_paged:
            needed = {f"${self.cursor_variable}", "hasNextPage", "endCursor"}
            if missing := sorted(needed - words):
                raise ValueError(
                    f"the query has no {' and no '.join(missing)}: ask for `after: ${self.cursor_variable}` "
                    "and `pageInfo { hasNextPage endCursor }`, or set `pagination: none` for a single page"
                )
        for variable in (self.incremental.variable, self.incremental.end_variable):
            if variable is not None and f"${variable}" not in words:
                raise ValueError(f"the query has no ${variable}, which `incremental` names")
        for name in self.parent.fields if self.parent is not None else ():
            if f"{{{name}}}" in self.query:
                raise ValueError(f"parent: {{{name}}} is in the query, too: give that field another name")
        return self

    @property
    def is_paged(self) -> bool:
        if self.pagination is not None:
            return self.pagination == "page_info"
        steps = parse_path(self.records)
        depth = next((at for at, step in enumerate(steps) if step in _CONNECTION), None)
        return depth is not None and EVERY not in steps[:depth]

    @property
    def page_info(self) -> str:
        """Where the answer has the pageInfo of the records' connection."""
        steps = parse_path(self.records)
        depth = next((at for at, step in enumerate(steps) if step in _CONNECTION), len(steps) - 1)
        return written_path(("data", *steps[:depth], "pageInfo"))

    @property
    def path(self) -> Path:
        """Where the answer has records."""
        return ("data", *parse_path(self.records))

    @property
    def inner(self) -> list[Path]:
        """Where the answer has connections within records, each of which has pages of its own."""
        steps = self.path
        found = [steps[:at] for at, step in enumerate(steps) if step in _CONNECTION]
        return [path for path in found if EVERY in path]


class GraphqlConnection(ApiConnection):
    """A GraphQL API."""

    endpoint: Url = Field(description="where queries are posted to, e.g. https://api.example.com/graphql")
    resources: dict[str, Query] = Field(
        default_factory=dict, description="what is asked for, by the names that streams have"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> GraphqlConnection:
        check_token_url(self.auth, self.endpoint)
        parents_lead_to_an_end(self.resources)
        return self


class GraphqlConnector(NamedResources):
    """Reads one GraphQL API as an HTTP API whose resources are all at one address."""

    described_by = "query"

    def __init__(
        self, config: GraphqlConnection, *, wiring: Callable[[HttpConnection], Wire] = Network
    ) -> None:
        super().__init__(_as_http(config), protocol="graphql", refusal=refusal, wiring=wiring)
        self._endpoint = config.endpoint
        self._queries = config.resources

    def _pages_of(
        self, resource: Resource, first: Request, reading: Reading
    ) -> Generator[Records, None, None]:
        query = self._queries[self._name_of(resource)]

        def fetch(request: Request) -> Response:
            response = self._transport.fetch(request)
            for path in query.inner:
                check_inner_pages(response, path, may_lack=query.pagination == "none")
            if _CONNECTION.isdisjoint(query.path):
                check_records(response, query.path)
            return response

        return pages_of_list(resource, first, reading, config=self.config, fetch=fetch)

    def _probe(self) -> Resource:
        return _posted(self._endpoint, "{ __typename }", {})


def _as_http(config: GraphqlConnection) -> HttpConnection:
    shared = {name: getattr(config, name) for name in ApiConnection.model_fields}
    parts = urlsplit(config.endpoint)
    return HttpConnection(
        **shared,
        base_url=urlunsplit((parts.scheme, parts.netloc, "", "", "")),
        resources={name: _resource(config.endpoint, query) for name, query in config.resources.items()},
    )


def _resource(endpoint: str, query: Query) -> Resource:
    asked = query.incremental
    paged = Pagination(
        type="page_info", into="body", parameter=_variable(query.cursor_variable), cursor=query.page_info
    )
    return _posted(endpoint, query.query, query.variables).model_copy(
        update={
            **{name: getattr(query, name) for name in Offered.model_fields},
            "records": written_path(query.path),
            "pagination": paged if query.is_paged else Pagination(type="none"),
            "incremental": asked_in_body(asked, _variable(asked.variable), _variable(asked.end_variable)),
        }
    )


def _posted(endpoint: str, query: str, variables: dict[str, JsonValue]) -> Resource:
    return Resource(path=endpoint, method="POST", body={"query": query, "variables": variables})


def _variable(name: str | None) -> str | None:
    return written_path(("variables", name)) if name is not None else None


ADAPTER = Adapter(
    connection=GraphqlConnection,
    client=session,
    dispose=dispose,
    thread_bound=True,  # a session is not made for several
    shared=True,
    connector=GraphqlConnector,
    taped=lambda config, tape: GraphqlConnector(config, wiring=wiring(tape)),
    default_streams=lambda config: streams_of(config.resources),
)
