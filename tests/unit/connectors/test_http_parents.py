"""Resources that are asked for once for each record of another one."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Disposition, Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

ORDERS = [{"id": 1, "code": "a/b"}, {"id": 2, "code": "ü"}, {"id": 3, "code": "c"}]
REFUNDS = {1: [11, 12, 13], 2: [], 3: [31]}


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    made = Api(httpserver)

    def orders(request: Request) -> Response:
        number = int(request.args.get("page", "1"))
        return as_json(ORDERS[number - 1 : number])

    made.serve("/orders", orders)
    for order, refunds in REFUNDS.items():

        def answer(request: Request, refunds: list[int] = refunds) -> Response:
            number = int(request.args.get("page", "1"))
            return as_json([{"id": found} for found in refunds][2 * number - 2 : 2 * number])

        made.serve(f"/orders/{order}/refunds", answer)
    return made


def resources(**refunds: object) -> dict[str, object]:
    parent = {"resource": "orders", "fields": {"order_id": "id", "code": "code"}}
    return {
        "orders": "/orders",
        "refunds": {"path": "/orders/{order_id}/refunds", "parent": parent, **refunds},
    }


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_parent_is_asked_for_and_known_by_its_children(api: Api, concurrency: int) -> None:
    connector = api.connector(resources=resources(), pagination="page", concurrency=concurrency)
    found = read(connector, Stream("refunds", table="refunds"))
    pairs = list(zip(found.column("order_id").to_pylist(), found.column("id").to_pylist(), strict=True))
    assert pairs == [(order, refund) for order, refunds in REFUNDS.items() for refund in refunds]
    assert found.column("code").to_pylist() == ["a/b", "a/b", "a/b", "c"]


def test_so_many_are_asked_for_at_once() -> None:
    together = threading.Barrier(3)
    with HTTPServer(threaded=True) as server:
        api = Api(server)
        api.serve("/orders", lambda _: as_json(ORDERS))
        for order in REFUNDS:
            api.serve(f"/orders/{order}/refunds", lambda _: as_json([{"n": together.wait(20)}]))
        connector = api.connector(resources=resources(), pagination="none", concurrency=3)
        found = read(connector, Stream("refunds", table="refunds"))
    assert sorted(found.column("n").to_pylist()) == [0, 1, 2]


def test_values_go_into_path_parameters_and_body_and_nothing_is_evaluated(api: Api) -> None:
    asked: list[tuple[str, object, object]] = []

    def answer(request: Request) -> Response:
        asked.append(
            (request.environ["RAW_URI"].partition("?")[0], request.args["of"], json.loads(request.data))
        )
        return as_json([])

    api.server.clear()
    api.serve("/orders", lambda _: as_json(ORDERS[:2]))
    for code in ("a/b", "ü"):
        api.serve(f"/by/{code}", answer)
    more = {
        "path": "/by/{code}", "method": "POST", "params": {"of": "no {order_id}"},
        "body": {"order": "{order_id}", "list": ["{code}", "{unknown} {order_id.real}"]},
    }  # fmt: skip
    connector = api.connector(resources=resources(**more), pagination="none")
    assert read(connector, Stream("refunds", table="refunds")).num_rows == 0
    assert asked == [
        ("/by/a%2Fb", "no 1", {"order": 1, "list": ["a/b", "{unknown} {order_id.real}"]}),
        ("/by/%C3%BC", "no 2", {"order": 2, "list": ["ü", "{unknown} {order_id.real}"]}),
    ]


def test_a_childs_own_members_count(api: Api) -> None:
    api.server.clear()
    api.serve("/orders", lambda _: as_json(ORDERS[2:]))
    api.serve("/orders/3/refunds", lambda _: as_json([{"code": 7}, {}]))
    connector = api.connector(resources=resources(), pagination="none")
    found = read(connector, Stream("refunds", table="refunds"))
    assert found.column("code").to_pylist() == ["7", "c"]
    assert found.column("order_id").to_pylist() == [3, 3]


def test_a_failure_below_fails_the_read(api: Api) -> None:
    api.server.clear()
    api.serve("/orders", lambda _: as_json(ORDERS))
    for order in REFUNDS:
        api.serve(f"/orders/{order}/refunds", lambda _: Response(status=404))
    for concurrency in (1, 2):
        connector = api.connector(resources=resources(), pagination="none", concurrency=concurrency)
        with pytest.raises(SourceError) as caught:
            read(connector, Stream("refunds", table="refunds"))
        assert caught.value.code == "http_404"


def test_only_parents_that_changed_are_asked_for(api: Api, tmp_path: Path) -> None:
    """Each is asked for what is new of it, and a parent that was not there before is one that changed."""
    api.server.clear()
    orders = {1: 10, 2: 20, 3: 30}
    refunds = {1: [5, 10], 2: [20], 3: [30, 25]}

    def since(request: Request) -> int:
        return int(request.args.get("since", "0"))

    def parents(request: Request) -> Response:
        return as_json([{"id": key, "at": at} for key, at in orders.items() if at >= since(request)])

    def children(request: Request) -> Response:
        found = refunds[int(request.path.split("/")[2])]
        return as_json([{"at": at} for at in found if at >= since(request)])

    api.serve("/orders", parents)
    api.server.expect_request(re.compile("/orders/.*")).respond_with_handler(
        lambda request: (api.asked.append(request), children(request))[1]
    )
    asked = {"parameter": "since", "format": "plain"}
    parent = {"resource": "orders", "fields": {"order_id": "id"}, "changed_only": True}
    described = {
        "orders": {"path": "/orders", "incremental": asked},
        "refunds": {"path": "/orders/{order_id}/refunds", "parent": parent, "incremental": asked},
    }
    stream = Stream("refunds", table="refunds", cursor="at", disposition=Disposition.APPEND)
    sync(api.connector(resources=described, pagination="none"), tmp_path, stream)
    orders |= {1: 41, 4: 30}
    refunds[1] += [30, 41]
    refunds[4] = [7, 30]
    api.asked.clear()
    sync(api.connector(resources=described, pagination="none"), tmp_path, stream)
    assert [(request.path, since(request)) for request in api.asked] == [
        ("/orders", 30), ("/orders/1/refunds", 10), ("/orders/3/refunds", 30), ("/orders/4/refunds", 0),
    ]  # fmt: skip
    loaded = rows(tmp_path, 'SELECT order_id, "at" FROM api.refunds ORDER BY ALL')
    assert loaded == sorted((order, at) for order, found in refunds.items() for at in found)


@pytest.mark.parametrize("disposition", [None, Disposition.APPEND])
def test_parents_of_rare_records_are_asked_for_once(
    api: Api, tmp_path: Path, disposition: Disposition | None
) -> None:
    """How far parents were looked at counts, where their records are merged; else the last record does."""
    api.server.clear()
    orders = {number: f"2026-03-{number:02}T12:00:00Z" for number in range(1, 10)}
    refunds = {number: list[str]() for number in orders}
    refunds[2] = [orders[2]]

    def parents(request: Request) -> Response:
        begin = request.args.get("since", "")
        return as_json([{"id": key, "at": at} for key, at in orders.items() if at >= begin])

    def children(request: Request) -> Response:
        order = int(request.path.split("/")[2])
        return as_json([{"id": f"{order}-{at}", "at": at} for at in refunds[order]])

    api.server.expect_request("/orders").respond_with_handler(parents)
    api.serve(re.compile("/orders/.*"), children)
    parent = {"resource": "orders", "fields": {"order_id": "id"}, "changed_only": True}
    described = {
        "orders": {"path": "/orders", "cursor": "at", "incremental": {"parameter": "since"}},
        "refunds": {"path": "/orders/{order_id}/refunds", "primary_key": "id", "parent": parent},
    }
    stream = Stream("refunds", table="refunds", cursor="at", disposition=disposition)

    def asked() -> list[int]:
        api.asked.clear()
        sync(api.connector(resources=described, pagination="none"), tmp_path, stream)
        return [int(request.path.split("/")[2]) for request in api.asked]

    def loaded() -> list[tuple[object, ...]]:
        return rows(tmp_path, "SELECT order_id FROM api.refunds ORDER BY ALL")

    assert asked() == [*orders]
    from_last = [*range(2, 10)] if disposition is Disposition.APPEND else [9]
    assert asked() == from_last
    assert asked() == from_last
    orders[9] = "2026-03-11T12:00:00Z"
    orders[4] = "2026-03-10T12:00:00Z"
    refunds[4] = ["2026-03-10T12:00:00Z"]
    assert {4, 9} <= {*asked()}
    assert loaded() == [(2,), (4,)]
    refunds[9], orders[9] = ["2026-03-12T12:00:00Z"], "2026-03-12T12:00:00Z"
    assert 9 in asked()
    assert loaded() == [(2,), (4,), (9,)]


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "a": {"path": "/a", "parent": {"resource": "b", "fields": {"x": "id"}, "changed_only": True}},
            "b": {"path": "/b"},
        },
        {"a": {"path": "/a", "parent": {"resource": "b", "fields": {"x": "id"}}}},
        {"a": {"path": "/a", "parent": {"resource": "a", "fields": {"x": "id"}}}},
        {
            "a": {"path": "/a", "parent": {"resource": "b", "fields": {"x": "id"}}},
            "b": {"path": "/b", "parent": {"resource": "a", "fields": {"x": "id"}}},
        },
    ],
)
def test_parents_that_lead_nowhere(api: Api, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="resources"):
        api.connector(resources=wrong)


AWKWARD = ("{after}", "{since}", "{code}", "a/b?c=d#e%2Ff", "..x", "ü ☃", "100%", "{order_id}{after}")


def test_a_value_that_looks_like_a_name_is_data(api: Api) -> None:
    """Whatever is replaced later: the page, the checkpoint or another name."""
    asked: list[tuple[str, str, str, object]] = []

    def answer(request: Request) -> Response:
        path = request.environ["RAW_URI"].partition("?")[0]
        asked.append((unquote(path), request.args["of"], request.headers["X-Of"], request.get_json()["of"]))
        position = int(request.args["q"].rpartition(" ")[2])
        return as_json([{"n": 1}, {"n": 2}] if position == 0 else [])

    api.server.clear()
    api.serve("/orders", lambda _: as_json([{"id": at, "code": code} for at, code in enumerate(AWKWARD)]))
    api.serve(re.compile("/by/.*"), answer)
    parent: dict[str, object] = {"resource": "orders", "fields": {"order_id": "id", "code": "code"}}
    more: dict[str, object] = {
        "path": "/by/{code}", "method": "POST", "params": {"of": "{code}", "q": "{since} {code} {after}"},
        "headers": {"X-Of": "of {order_id}"}, "body": {"of": ["{code}", "{code}!"]}, "parent": parent,
        "pagination": {"type": "offset", "into": "template", "parameter": "after"},
        "incremental": {"parameter": "since", "into": "template", "initial": "0"},
    }  # fmt: skip
    connector = api.connector(
        resources={"orders": {"path": "/orders", "pagination": "none"}, "refunds": more}
    )
    assert read(connector, Stream("refunds", table="refunds")).num_rows == 2 * len(AWKWARD)
    assert asked[::2] == [
        (f"/by/{code}", code, f"of {at}", [code, f"{code}!"]) for at, code in enumerate(AWKWARD)
    ]


@pytest.mark.parametrize("code", ["", ".", ".."])
def test_a_value_that_would_lead_elsewhere_is_refused(api: Api, code: str) -> None:
    api.server.clear()
    api.serve("/orders", lambda _: as_json([{"id": 1, "code": code}]))
    connector = api.connector(resources=resources(path="/by/{code}/refunds"), pagination="none")
    with pytest.raises(SourceError) as caught:
        read(connector, Stream("refunds", table="refunds"))
    assert caught.value.code == "value_in_path"
    assert [request.path for request in api.asked] == ["/orders"]
