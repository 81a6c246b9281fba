"""A GraphQL API on a real socket: its pages, its errors in answers 200, and what is new."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http.graphql import GraphqlConnection, GraphqlConnector
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import Disposition, Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync
from tests.unit.connectors.test_http_protocols import AUTHS, guarded, serve_logins

RECORDS = [{"id": number, "at": f"2026-01-0{number}T00:00:00Z"} for number in range(1, 8)]
SIZE = 3
QUERY = """query ($after: String, $since: DateTime) {
  shop { orders(first: 3, after: $after, since: $since) {
    nodes { id at } pageInfo { hasNextPage endCursor }
  } }
}"""
ORDERS = Stream("orders", table="orders")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def connector(api: Api, *, path: str = "/graphql", more: object = None, **orders: object) -> GraphqlConnector:
    resource = {"query": QUERY, "records": "shop.orders.nodes", "primary_key": "id", **orders}
    given = {
        "endpoint": api.server.url_for(path),
        "resources": {"orders": resource},
        "longest_wait": 0.01,
        "attempts": 3,
    }
    return GraphqlConnector(GraphqlConnection.model_validate({**given, **dict(more or {})}))  # type: ignore[call-overload]


def variables(request: Request) -> dict[str, object]:
    found = json.loads(request.data)["variables"]
    assert isinstance(found, dict)
    return found


def connection(request: Request, *, edges: bool = False) -> Response:
    given = variables(request)
    wanted = [record for record in RECORDS if str(record["at"]) >= str(given.get("since") or "")]
    start = int(str(given.get("after", "c0"))[1:])
    page, end = wanted[start : start + SIZE], start + SIZE
    info = {"hasNextPage": end < len(wanted), "endCursor": f"c{end}" if page else None}
    found = {"edges": [{"node": record} for record in page]} if edges else {"nodes": page}
    return as_json({"data": {"shop": {"orders": {**found, "pageInfo": info}}}})


@pytest.mark.parametrize("how", AUTHS)
def test_every_page_comes_once_whoever_asks(api: Api, how: str) -> None:
    auth, good = AUTHS[how]
    serve_logins(api)
    api.serve("/graphql", guarded(connection, good))
    if auth["type"] == "oauth2":
        auth = {**auth, "token_url": api.server.url_for("/token")}
    found = read(connector(api, more={"auth": auth}), ORDERS)
    assert found.column("id").to_pylist() == [record["id"] for record in RECORDS]
    sent = [json.loads(request.data) for request in api.asked if request.path == "/graphql"]
    assert [asked["variables"].get("after") for asked in sent][-3:] == [None, "c3", "c6"]
    assert all(asked["query"] == QUERY for asked in sent)


def test_edges_lists_and_an_endpoint_that_ends_with_a_slash(api: Api) -> None:
    api.serve("/graphql/", lambda request: connection(request, edges=True))
    query = QUERY.replace("nodes { id at }", "edges { node { id at } }")
    edges = connector(api, path="/graphql/", query=query, records="shop.orders.edges[*].node")
    assert read(edges, ORDERS).num_rows == len(RECORDS)
    api.serve("/list", lambda _: as_json({"data": {"countries": [{"code": "DE"}]}, "errors": []}))
    plain = connector(
        api, path="/list", query="{ countries { code } }", records="countries", primary_key="code"
    )
    assert read(plain, ORDERS).to_pylist() == [{"code": "DE"}]


def test_a_list_of_plain_values_has_a_row_for_each(api: Api) -> None:
    api.serve("/graphql", lambda _: as_json({"data": {"tags": ["a", "b"]}}))
    tags = connector(api, query="{ tags }", records="tags", value_column="tag", primary_key="tag")
    assert read(tags, ORDERS).to_pylist() == [{"tag": "a"}, {"tag": "b"}]


def test_only_what_is_new_is_asked_for(api: Api, tmp_path: Path) -> None:
    api.serve("/graphql", connection)
    made = {"incremental": {"variable": "since"}, "variables": {"since": "2026-01-02"}}
    stream = Stream("orders", table="orders", cursor="at", primary_key=("id",))
    sync(connector(api, **made), tmp_path, stream)
    api.asked.clear()
    assert sync(connector(api, **made), tmp_path, stream).rows_read == 1
    assert [variables(request) for request in api.asked] == [{"since": "2026-01-07T00:00:00Z"}]
    assert rows(tmp_path, "SELECT id FROM api.orders ORDER BY id") == [(n,) for n in range(2, 8)]


def failing(*errors: object, data: object = None, status: int = 200) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        made = as_json({"data": data, "errors": list(errors)})
        made.status_code = status
        return made

    return answer


UNKNOWN = {"message": 'Cannot query field "nodes" on type "Order"', "extensions": {"code": "BAD_INPUT"}}
NOT_FOUND = {"type": "NOT_FOUND", "message": "no shop 'Ada Lovelace' of a@b.example with key k3y-9 in shop"}


def marked(answer: dict[str, object]) -> Response:
    """With a byte order mark, as some servers write UTF-8."""
    return Response(b"\xef\xbb\xbf" + json.dumps(answer).encode(), content_type="application/json")


HALF = {"shop": {"orders": {"nodes": RECORDS[:3], "pageInfo": {"hasNextPage": False, "endCursor": None}}}}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (failing(UNKNOWN), '(BAD_INPUT): Cannot query field "nodes" on type ...'),
        (failing(UNKNOWN, NOT_FOUND, data=HALF), "and 1 more errors"),
        (failing(NOT_FOUND, status=400), "(NOT_FOUND): no shop ... of ... with key ... in shop"),
        (failing({"message": "You cannot", "extensions": {"code": "FORBIDDEN"}}), "under `auth`"),
        (lambda _: as_json({"errors": "[API] Invalid key 4711"}), "Invalid key ..."),
        (lambda _: as_json({"data": None}), "neither data nor errors"),
        (lambda _: marked({"data": HALF, "errors": [UNKNOWN]}), "(BAD_INPUT)"),
        (lambda _: marked({"data": None}), "neither data nor errors"),
    ],
)
def test_errors_are_an_error_with_data_or_without(
    api: Api, tmp_path: Path, answer: Callable[[Request], Response], says: str
) -> None:
    replaced = Stream("orders", table="orders", disposition=Disposition.REPLACE)
    api.serve("/graphql", connection)
    sync(connector(api), tmp_path, replaced)
    api.server.clear()
    api.asked.clear()
    api.serve("/graphql", answer)
    with pytest.raises(SourceError) as caught:
        sync(connector(api), tmp_path, replaced)
    shown = f"{caught.value.message}; {caught.value.hint}"
    assert (caught.value.code, caught.value.retryable) == ("graphql_error", False)
    assert says in shown
    assert not any(hidden in shown for hidden in ("Lovelace", "a@b", "k3y", "4711"))
    assert len(api.asked) == 1
    assert rows(tmp_path, "SELECT count(*) FROM api.orders") == [(7,)]


def test_a_query_that_costs_too_much_for_now_is_asked_again_when_it_can_be_paid(api: Api) -> None:
    left = {"maximumAvailable": 1000, "currentlyAvailable": 10, "restoreRate": 60}
    throttled = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": {"requestedQueryCost": 100, "throttleStatus": left}},
    }
    at: list[float] = []

    def answer(request: Request) -> Response:
        at.append(time.monotonic())
        return as_json(throttled) if len(at) == 1 else connection(request)

    api.serve("/graphql", answer)
    found = read(connector(api, more={"longest_wait": 10}), ORDERS)
    assert found.num_rows == len(RECORDS)
    assert at[1] - at[0] >= 1.5  # (100 - 10) / 60


def test_nulls_among_nodes_are_left_out_where_that_is_asked_for(api: Api) -> None:
    """What the one who asks may not see is null in some APIs, without an error."""

    def answer(request: Request) -> Response:
        answered = json.loads(connection(request).data)
        answered["data"]["shop"]["orders"]["nodes"].insert(0, None)
        return as_json(answered)

    api.serve("/graphql", answer)
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "not_objects"
    assert "[*]" in str(caught.value.hint)
    found = read(connector(api, records="shop.orders.nodes[*]"), ORDERS)
    assert found.num_rows == len(RECORDS)


@pytest.mark.parametrize("code", ["RATE_LIMITED", "THROTTLED", "throttled"])
def test_an_api_that_asks_for_patience_gets_it_within_the_budget(api: Api, code: str) -> None:
    throttled = failing({"message": "Throttled", "extensions": {"code": code}})
    refusals = [1, 1]
    api.serve(
        "/graphql", lambda request: throttled(request) if refusals and refusals.pop() else connection(request)
    )
    assert read(connector(api), ORDERS).num_rows == len(RECORDS)
    api.server.clear()
    api.asked.clear()
    api.serve("/graphql", throttled)
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert (caught.value.code, caught.value.retryable, len(api.asked)) == ("graphql_throttled", True, 3)


@pytest.mark.parametrize(
    ("info", "code"),
    [
        ({"hasNextPage": True, "endCursor": "same"}, "pagination_stuck"),
        ({"hasNextPage": True, "endCursor": None}, "no_page_info"),
        (None, "no_page_info"),
    ],
)
def test_pages_that_do_not_move_on_are_an_error(api: Api, info: object, code: str) -> None:
    found = {"shop": {"orders": {"nodes": RECORDS[:3], "pageInfo": info}}}
    api.serve("/graphql", lambda _: as_json({"data": found}))
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == code
    assert "a endCursor" not in caught.value.message


@pytest.mark.parametrize("gone", [None, {"nodes": None, "pageInfo": None}])
def test_a_connection_that_is_null_behind_its_first_page_is_no_end(api: Api, gone: object) -> None:
    def answer(request: Request) -> Response:
        if "after" not in variables(request):
            return connection(request)
        return as_json({"data": {"shop": {"orders": gone}}})

    api.serve("/graphql", answer)
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert (caught.value.code, caught.value.retryable) == ("no_page_info", True)


NESTED = """query ($after: String) { customers(first: 3, after: $after) {
  nodes { id orders(first: 2) { edges { node { id } } pageInfo { hasNextPage } } }
  pageInfo { hasNextPage endCursor }
} }"""


def nested(*infos: object) -> dict[str, object]:
    """A customer for each, with two orders and this pageInfo."""
    orders = [{"edges": [{"node": {"id": n}}, {"node": {"id": n + 1}}]} for n in range(0, 2 * len(infos), 2)]
    nodes = [
        {"id": n, "orders": {**found, "pageInfo": info} if info != "none" else None}
        for n, (found, info) in enumerate(zip(orders, infos, strict=True))
    ]
    return {"customers": {"nodes": nodes, "pageInfo": {"hasNextPage": False, "endCursor": None}}}


@pytest.mark.parametrize(
    ("infos", "pagination", "code"),
    [
        (({"hasNextPage": False}, {"hasNextPage": True}), None, "nested_pages"),
        (({"hasNextPage": True},), "none", "nested_pages"),
        (({"hasNextPage": False}, None), None, "no_page_info"),
        (({"hasNextPage": False}, None), "none", None),
        (({"hasNextPage": False}, "none"), None, None),
    ],
)
def test_connections_within_records_came_whole(
    api: Api, infos: tuple[object, ...], pagination: str | None, code: str | None
) -> None:
    api.serve("/graphql", lambda _: as_json({"data": nested(*infos)}))
    path = "customers.nodes[*].orders.edges[*].node"
    reader = connector(api, query=NESTED, records=path, pagination=pagination)
    if code is None:
        assert read(reader, ORDERS).column("id").to_pylist()[:2] == [0, 1]
        return
    with pytest.raises(SourceError) as caught:
        read(reader, ORDERS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("edges", "inside"), [(False, "shop.orders.nodes"), (True, "shop.orders.edges[*].node")]
)
def test_a_connection_is_no_record(api: Api, edges: bool, inside: str) -> None:
    api.serve("/graphql", lambda request: connection(request, edges=edges))
    with pytest.raises(SourceError) as caught:
        read(connector(api, records="shop.orders", pagination="none"), ORDERS)
    assert caught.value.code == "records_not_found"
    assert caught.value.hint == f"set `records` to {inside}"


@pytest.mark.parametrize("more", ["1e999", "9" * 5000])
def test_errors_with_numbers_that_nobody_can_read_are_errors(api: Api, more: str) -> None:
    answer = f'{{"data": null, "errors": [{{"message": "no", "extensions": {{"n": {more}}}}}]}}'
    api.serve("/graphql", lambda _: as_json(answer))
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "graphql_error"


def test_a_parents_values_are_variables_and_the_query_stays_as_it_is(api: Api) -> None:
    def answer(request: Request) -> Response:
        asked = json.loads(request.data)
        if "lines" not in asked["query"]:
            return connection(request)
        assert asked["query"] == "query ($order: Int) { order(id: $order) {lines} }"
        return as_json({"data": {"order": {"lines": [{"n": asked["variables"]["order"] * 10}]}}})

    api.serve("/graphql", answer)
    lines = {
        "query": "query ($order: Int) { order(id: $order) {lines} }",
        "records": "order.lines",
        "variables": {"order": "{order_id}"},
        "parent": {"resource": "orders", "fields": {"order_id": "id"}},
    }
    orders = {"query": QUERY, "records": "shop.orders.nodes"}
    found = read(
        connector(api, more={"resources": {"orders": orders, "lines": lines}}), Stream("l", table="lines")
    )
    assert found.column("n").to_pylist() == [10 * n for n in range(1, 8)]
    with pytest.raises(ValueError, match="another name"):
        lines["parent"] = {"resource": "orders", "fields": {"lines": "id"}}
        connector(api, more={"resources": {"orders": orders, "lines": lines}})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"query": "{ shop { orders { nodes { id } } } }"},
            r"no \$after and no endCursor and no hasNextPage",
        ),
        ({"incremental": {"variable": "from"}}, r"no \$from"),
        ({"records": "a..b["}, "path"),
        ({"parent": {"resource": "shops", "fields": {"x": "id"}}}, "shops"),
    ],
)
def test_descriptions_that_cannot_be_meant(api: Api, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        connector(api, **wrong)


def test_the_connection_is_tested_and_names_are_checked(api: Api) -> None:
    api.serve("/graphql", lambda request: as_json({"data": {"__typename": "Query"}}))
    assert "answered with 200" in connector(api, more={"resources": {}}).test().message
    with pytest.raises(ConfigError, match="order") as caught:
        read(connector(api), Stream("order", table="order"))
    assert "orders" in str(caught.value.hint)
