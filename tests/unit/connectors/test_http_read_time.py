"""Records that change behind a page that was read: the next sync has them, whatever came with later pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._incremental.read_time import ReadTime
from atlas_etl.model import CursorKind, CursorValue, Stream
from tests.unit.connectors.http_api import Api, as_json, rows, sync

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def _iso(at: datetime) -> object:
    return at.isoformat()


def _clock(at: datetime) -> object:
    return at.replace(tzinfo=None).isoformat()


def _epoch(at: datetime) -> object:
    return int(at.timestamp())


def _epoch_ms(at: datetime) -> object:
    return int(at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("written", "incremental", "zone"),
    [
        (_iso, {}, None),
        (_clock, {}, "UTC"),
        (_epoch, {"format": "epoch"}, None),
        (_epoch_ms, {"format": "epoch_ms"}, None),
    ],
)
def test_a_change_behind_a_page_is_read_by_the_next_sync(
    api: Api,
    tmp_path: Path,
    written: Callable[[datetime], object],
    incremental: Mapping[str, object],
    zone: str | None,
) -> None:
    began = datetime.now(UTC) - 10 * SECOND
    changed = dict.fromkeys("abcd", began - timedelta(days=3))

    def answer(request: Request) -> Response:
        after = request.args.get("after", "")
        since = request.args.get("since", "")
        found = [
            {"id": id, "at": written(at)}
            for id, at in sorted(changed.items())
            if id > after and (not since or str(written(at)) >= since.removesuffix("Z"))
        ]
        if after == "b":
            changed["a"] = began + SECOND  # and this page has a record that changed later still
        return as_json(found[:2])

    api.serve("/orders", answer)
    connection = {
        "resources": {
            "orders": {
                "path": "orders",
                "primary_key": "id",
                "incremental": {"parameter": "since", **incremental},
                "pagination": {"type": "keyset", "parameter": "after"},
            }
        }
    }
    orders = Stream("orders", table="orders", cursor="at", timezone=zone)
    changed["d"] = began + 2 * SECOND
    sync(api.connector(**connection), tmp_path, orders)
    sync(api.connector(**connection), tmp_path, orders)
    assert rows(tmp_path, 'SELECT id FROM "api"."orders" ORDER BY "at" DESC LIMIT 2') == [("d",), ("a",)]


def test_a_record_that_comes_to_a_parent_that_was_asked_already_is_read_by_the_next_sync(
    api: Api, tmp_path: Path
) -> None:
    began = datetime.now(UTC) - 10 * SECOND
    orders = dict.fromkeys((1, 2), began - timedelta(days=3))
    refunds: dict[int, list[object]] = {
        1: [],
        2: [{"id": 20, "at": (began - timedelta(days=3)).isoformat()}],
    }

    def of_orders(request: Request) -> Response:
        since = request.args.get("since", "").replace("Z", "+00:00")
        found = [{"id": id, "at": at.isoformat()} for id, at in orders.items() if at.isoformat() >= since]
        return as_json(found)

    def of_refunds(request: Request) -> Response:
        number = int(request.path.split("/")[2])
        found = as_json(list(refunds[number]))
        if number == 1 and not refunds[1]:
            for order, at in ((1, began + SECOND), (2, began + 2 * SECOND)):
                orders[order] = at
                refunds[order].append({"id": order, "at": at.isoformat()})
        return found

    api.serve("/orders", of_orders)
    for number in orders:
        api.serve(f"/orders/{number}/refunds", of_refunds)
    connection = {
        "resources": {
            "orders": {
                "path": "orders",
                "primary_key": "id",
                "cursor": "at",
                "incremental": {"parameter": "since"},
            },
            "refunds": {
                "path": "orders/{order}/refunds",
                "primary_key": "id",
                "cursor": "at",
                "parent": {"resource": "orders", "fields": {"order": "id"}, "changed_only": True},
            },
        }
    }
    stream = Stream("refunds", table="refunds", cursor="at")
    sync(api.connector(**connection), tmp_path, stream)
    sync(api.connector(**connection), tmp_path, stream)
    assert rows(tmp_path, 'SELECT id FROM "api"."refunds" ORDER BY id') == [(1,), (2,), (20,)]


@pytest.mark.parametrize(
    ("kind", "high", "form", "zone", "expected"),
    [
        (CursorKind.TIMESTAMPTZ, "2026-03-01T12:00:30Z", "iso8601", None, "2026-03-01T11:59:00.000000Z"),
        (CursorKind.TIMESTAMPTZ, "2026-03-01T11:58:59.5Z", "iso8601", None, "2026-03-01T11:58:59.5Z"),
        (
            CursorKind.TIMESTAMP,
            "2026-03-01T13:00:30",
            "iso8601",
            "Europe/Berlin",
            "2026-03-01T12:59:00.000000",
        ),
        (CursorKind.TIMESTAMP, "2026-03-01T13:00:30", "iso8601", None, "2026-03-01T12:50:30.000000"),
        (CursorKind.TIMESTAMP, "2026-02-28T23:00:00", "iso8601", None, "2026-02-28T23:00:00"),
        (CursorKind.DATE, "2026-03-01", "iso8601", "UTC", "2026-03-01"),
        (CursorKind.DATE, "2026-03-02", "iso8601", "UTC", "2026-03-01"),
        (CursorKind.DATE, "2026-03-01", "iso8601", None, "2026-02-28"),
        (CursorKind.INTEGER, "1772366430", "epoch", None, "1772366340"),
        (CursorKind.INTEGER, "1772366430", "plain", None, "1772366430"),
        (CursorKind.TEXT, "z", "plain", None, "z"),
    ],
)
def test_no_tail_begins_later_than_the_read_did(
    kind: CursorKind, high: str, form: str, zone: str | None, expected: str
) -> None:
    times = iter([NOON, NOON + timedelta(minutes=10)])
    time = ReadTime(lambda: next(times))
    assert time.may_change_from(CursorValue(kind, high), form=form, timezone=zone).text == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 01 Mar 2026 11:00:00 GMT", "2026-03-01T10:59:00.000000Z"),  # its clock is an hour behind
        ("Sun, 01 Mar 2026 13:00:00 GMT", "2026-03-01T11:59:00.000000Z"),
        (
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "2026-02-28T11:59:00.000000Z",
        ),  # no clock: a day is read again, not all
        ("yesterday", "2026-03-01T11:59:00.000000Z"),
    ],
)
def test_a_read_began_by_the_clock_of_its_api(date: str, expected: str) -> None:
    time = ReadTime(lambda: NOON)
    time.hear({"date": date})
    time.hear({"date": "Sat, 28 Feb 2026 00:00:00 GMT"})  # the first answer counts
    high = CursorValue(CursorKind.TIMESTAMPTZ, "2026-03-01T12:00:30.000000Z")
    assert time.may_change_from(high, form="iso8601", timezone=None).text == expected
