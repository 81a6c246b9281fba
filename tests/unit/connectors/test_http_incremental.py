"""What is new of an API: the checkpoint as it is asked for, order, windows, rows that move between pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._incremental.since import written
from atlas_etl.connectors.http._settings.incremental import Incremental
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import (
    BatchLimits,
    CursorKind,
    CursorValue,
    Disposition,
    ReadRequest,
    Stream,
    Window,
)
from atlas_etl.pipeline.events import StreamFinished, WindowCommitted
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from atlas_etl.pipeline.verify import StreamVerified, VerifyJob, verify
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync, warehouse

INSTANT = CursorValue(CursorKind.TIMESTAMPTZ, "2026-03-01T12:30:45.123456789Z")
NAIVE = CursorValue(CursorKind.TIMESTAMP, "2026-03-01T12:30:45.123456")
WHOLE = CursorValue(CursorKind.TIMESTAMPTZ, "2026-03-01T00:00:00Z")
DAY = CursorValue(CursorKind.DATE, "2026-03-01")
NUMBER = CursorValue(CursorKind.INTEGER, "42")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.mark.parametrize(
    ("how", "bound", "zone", "expected"),
    [
        ({}, INSTANT, None, "2026-03-01T12:30:45.123456Z"),
        ({}, WHOLE, None, "2026-03-01T00:00:00Z"),
        ({"boundary": "exclusive"}, WHOLE, None, "2026-02-28T23:59:59Z"),
        ({}, NAIVE, None, "2026-03-01T12:30:45.123456"),
        ({}, NAIVE, "Europe/Berlin", "2026-03-01T11:30:45.123456Z"),
        ({}, DAY, None, "2026-03-01T00:00:00"),
        ({"format": "epoch"}, INSTANT, None, 1772368245),
        ({"format": "epoch", "boundary": "exclusive"}, INSTANT, None, 1772368244),
        ({"format": "epoch_ms"}, INSTANT, None, 1772368245123),
        ({"format": "epoch_ms"}, NAIVE, "UTC", 1772368245123),
        ({"format": "date"}, INSTANT, None, "2026-03-01"),
        ({"format": "date", "boundary": "exclusive"}, INSTANT, None, "2026-02-28"),
        ({"format": "%d.%m.%Y %H:%M"}, INSTANT, None, "01.03.2026 12:30"),
        ({"format": "%d.%m.%Y", "boundary": "exclusive"}, INSTANT, None, "28.02.2026"),
        ({"format": "%Y-%j %H:%M", "boundary": "exclusive"}, INSTANT, None, "2026-060 12:29"),
        ({"format": "%Y-%m"}, INSTANT, None, "2026-03"),
        ({"format": "%d.%m.%Y %H:%M"}, NAIVE, "America/New_York", "01.03.2026 12:30"),
        ({"format": "%d.%m.%Y %H:%M"}, NAIVE, "Europe/Berlin", "01.03.2026 11:30"),
        ({"format": "%d.%m.%Y %H:%M %z"}, NAIVE, "America/New_York", "01.03.2026 17:30 +0000"),
        ({"format": "%Y-%m-%dT%H:%M:%S%z"}, DAY, None, "2026-03-01T00:00:00+0000"),
        ({"format": "plain"}, INSTANT, None, "2026-03-01T12:30:45.123456789Z"),
        ({"format": "plain"}, NUMBER, None, 42),
        ({"format": "plain", "boundary": "exclusive"}, NUMBER, None, 41),
        ({"format": "epoch"}, NUMBER, None, 42),
        ({"format": "plain"}, CursorValue(CursorKind.TEXT, "b"), None, "b"),
    ],
)
def test_a_checkpoint_is_written_as_the_api_wants_it_and_never_later(
    how: Mapping[str, object], bound: CursorValue, zone: str | None, expected: object
) -> None:
    assert written(Incremental.model_validate(how), bound, zone) == expected


@pytest.mark.parametrize(
    ("how", "bound"),
    [
        ({"format": "epoch"}, NAIVE),
        ({"format": "%Y-%m-%dT%H:%M:%S%z"}, NAIVE),
        ({"format": "iso8601"}, NUMBER),
        ({"format": "plain", "boundary": "exclusive"}, CursorValue(CursorKind.TEXT, "b")),
    ],
)
def test_a_checkpoint_that_cannot_be_written_so(how: Mapping[str, object], bound: CursorValue) -> None:
    with pytest.raises(ConfigError) as caught:
        written(Incremental.model_validate(how), bound, None)
    assert caught.value.code == "cursor_format"


@pytest.mark.parametrize(
    "how",
    [
        {"format": "%H:%M"},
        {"format": "%%Y %d.%m. %H:%M"},
        {"format": "%Y-%m", "boundary": "exclusive"},
        {"format": "%Y-%W", "start": "2026-01-01", "end_parameter": "until"},
    ],
    ids=["no year", "escaped", "no day", "no day of an end"],
)
def test_a_pattern_that_cannot_tell_what_it_has_to_is_refused(how: Mapping[str, object]) -> None:
    """What is a month long would leave out, as an exclusive bound or an end, what comes in that month."""
    with pytest.raises(ValidationError, match="a pattern"):
        Incremental.model_validate({"parameter": "since", **how})


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "UTC", "Pacific/Kiritimati"])
@pytest.mark.parametrize("form", ["date", "%Y-%m-%d %H:%M:%S"])
def test_nothing_is_lost_by_whose_clock_an_api_compares_with(
    api: Api, tmp_path: Path, form: str, zone: str
) -> None:
    """The API takes what it is sent for times of its own zone."""
    held = ["2026-03-01T04:00:00Z"]

    def answer(request: Request) -> Response:
        since = request.args.get("since")
        given = datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone)) if since else None
        found = [at for at in held if given is None or datetime.fromisoformat(at) >= given]
        return as_json([{"id": at, "at": at} for at in found])

    api.serve("/orders", answer)
    resources = resource(parameter="since", format=form)
    stream = Stream("orders", table="orders", cursor="at")
    sync(api.connector(resources=resources), tmp_path, stream)
    held.append("2026-03-01T05:00:00Z")
    sync(api.connector(resources=resources), tmp_path, stream)
    assert rows(tmp_path, "SELECT count(*) FROM api.orders") == [(2,)]


def resource(**incremental: object) -> dict[str, object]:
    return {"orders": {"path": "orders", "primary_key": "id", "incremental": incremental}}


@pytest.mark.parametrize("into", ["query", "header", "body"])
@pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
def test_the_api_filters_and_no_tie_is_lost(api: Api, tmp_path: Path, into: str, boundary: str) -> None:
    held = [{"id": 1, "at": 100}, {"id": 2, "at": 200}]

    def answer(request: Request) -> Response:
        given = {
            "query": request.args.get("since"),
            "header": request.headers.get("since"),
            "body": json.loads(request.data or b"{}").get("since"),
        }[into]
        since = int(given) if given is not None else -1
        return as_json(
            [row for row in held if row["at"] > since or (row["at"] == since and boundary[0] == "i")]
        )

    api.serve("/orders", answer)
    resources = resource(parameter="since", into=into, boundary=boundary, format="epoch")
    stream = Stream("orders", table="orders", cursor="at", disposition=Disposition.APPEND)
    sync(api.connector(resources=resources), tmp_path, stream)
    held += [{"id": 3, "at": 200}, {"id": 4, "at": 300}]
    second = sync(api.connector(resources=resources), tmp_path, stream)
    assert second.rows_read == 3
    assert rows(tmp_path, "SELECT id FROM api.orders ORDER BY id") == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("cursor", ["at", "meta__at"])
def test_reading_stops_early_where_the_newest_come_first(api: Api, tmp_path: Path, cursor: str) -> None:
    def record(number: int) -> dict[str, object]:
        at = f"2026-01-{number:02}T00:00:00Z"
        return {"id": number, **({"at": at} if cursor == "at" else {"meta": {"at": at}})}

    held = [record(n) for n in range(20, 0, -1)]

    def answer(request: Request) -> Response:
        start = (int(request.args["page"]) - 1) * 2
        return as_json(held[start : start + 2])

    api.serve("/orders", answer)
    stream = Stream("orders", table="orders", cursor=cursor)
    more = {"resources": resource(order="descending"), "pagination": "page", "nested": "flatten"}
    assert sync(api.connector(**more), tmp_path, stream).rows_loaded == 20
    held.insert(0, record(21))
    api.asked.clear()
    assert sync(api.connector(**more), tmp_path, stream).rows_read == 2
    assert len(api.asked) == 3  # the first page again, behind the second
    assert rows(tmp_path, "SELECT count(*), max(id) FROM api.orders") == [(21, 21)]


def long_load(api: Api, folder: Path, **incremental: object) -> list[object]:
    connector = api.connector(resources=resource(**incremental), pagination="page", attempts=1)
    stream = Stream("orders", table="orders", cursor="id", disposition=Disposition.APPEND)
    job = Job("run", "api", stream, datetime.now(UTC), window=Window(rows=1))
    events: list[object] = []
    with closing(connector), closing(warehouse(folder)) as destination:
        try:
            events += transfer(connector, destination, job)
        except SourceError as failure:
            events.append(failure)
    return events


def test_what_was_committed_before_a_failure_stays(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas_etl.connectors.http._rows._CHUNK_BYTES", 1)
    monkeypatch.setattr("atlas_etl.connectors.http._rows._SURVEY_ROWS", 1)
    held = [{"id": n} for n in range(1, 7)]
    fails = [True]

    def answer(request: Request) -> Response:
        number, since = int(request.args["page"]), int(request.args.get("since", 0))
        wanted = [row for row in held if row["id"] >= since]
        if number == 4 and fails:
            return Response(status=500)
        return as_json(wanted[number - 1 : number])

    api.serve("/orders", answer)
    asked = {"parameter": "since", "format": "plain", "order": "ascending"}
    events = long_load(api, tmp_path, **asked)
    assert isinstance(events[-1], SourceError)
    kept = rows(tmp_path, "SELECT id FROM api.orders ORDER BY id")
    assert kept[:2] == [(1,), (2,)]
    fails.clear()
    events = long_load(api, tmp_path, **asked)
    assert isinstance(events[-1], StreamFinished)
    assert any(isinstance(event, WindowCommitted) for event in events)
    assert rows(tmp_path, "SELECT id FROM api.orders ORDER BY id") == [(n,) for n in range(1, 7)]


def test_an_order_that_is_not_kept_is_an_error(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas_etl.connectors.http._rows._CHUNK_BYTES", 1)
    api.serve_pages("/orders", ['[{"id": 5}]', '[{"id": 4}]'])
    (*_, failure) = long_load(api, tmp_path, order="ascending")
    assert isinstance(failure, SourceError)
    assert failure.code == "not_in_order"


def test_rows_that_are_added_while_pages_are_read_come_once(api: Api) -> None:
    held = list(range(6))

    def answer(request: Request) -> Response:
        start = int(request.args["offset"])
        page = held[start : start + 2]
        if start == 0:
            held.insert(0, 99)  # the newest come first
        return as_json([{"id": number} for number in page])

    api.serve("/things", answer)
    connector = api.connector(pagination={"type": "offset", "page_size": 2})
    found = read(connector, Stream("things", path="things", primary_key=("id",)))
    assert found.column("id").to_pylist() == list(range(6))


@pytest.mark.parametrize("disposition", [Disposition.MERGE, Disposition.REPLACE])
def test_a_record_that_changes_while_pages_are_read_is_not_there_twice(
    api: Api, tmp_path: Path, disposition: Disposition
) -> None:
    pages = ['[{"id": 1, "v": 1}, {"id": 2, "v": 1}]', '[{"id": 2, "v": 2}, {"id": 3, "v": 1}]']
    api.serve_pages("/things", pages)
    stream = Stream("things", path="things", primary_key=("id",), disposition=disposition)
    if disposition is Disposition.MERGE:
        sync(api.connector(pagination="page"), tmp_path, stream)
        assert rows(tmp_path, "SELECT * FROM api.things ORDER BY id") == [(1, 1), (2, 2), (3, 1)]
        return
    with pytest.raises(SourceError) as caught:
        sync(api.connector(pagination="page"), tmp_path, stream)
    assert (caught.value.code, caught.value.retryable) == ("rows_moved", True)


@pytest.mark.parametrize(
    ("overlap", "deleted", "is_seen"), [({"overlap": 2}, 1, True), ({"overlap": 2}, 3, False), ({}, 1, False)]
)
def test_rows_that_are_deleted_while_pages_are_read_are_missed_by_nobody(
    api: Api, overlap: dict[str, int], deleted: int, is_seen: bool
) -> None:
    held = list(range(12))

    def answer(request: Request) -> Response:
        start = int(request.args["offset"])
        page = held[start : start + 4]
        if start == 0:
            del held[:deleted]
        return as_json([{"id": number} for number in page])

    api.serve("/things", answer)
    connector = api.connector(pagination={"type": "offset", "page_size": 4, **overlap})
    stream = Stream("things", path="things", primary_key=("id",))
    if is_seen:
        assert read(connector, stream).column("id").to_pylist() == list(range(12))
        return
    with pytest.raises(SourceError) as caught:
        read(connector, stream)
    assert caught.value.code == "rows_moved"


@pytest.mark.parametrize("deleted", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("overlap", [None, 0])
def test_rows_that_are_deleted_while_numbered_pages_are_read(
    api: Api, deleted: int, after: int, overlap: int | None
) -> None:
    """Up to a page of deletes at once loses nothing that stays; more are an error."""
    held = list(range(11))

    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        page = held[4 * number - 4 : 4 * number]
        if len(api.asked) == after:
            del held[:deleted]
        return as_json([{"id": number} for number in page])

    api.serve("/things", answer)
    connector = api.connector(pagination={"type": "page", "page_size": 4, "overlap": overlap})
    stream = Stream("things", path="things", primary_key=("id",))
    if deleted >= 4 and overlap is None:
        with pytest.raises(SourceError) as caught:
            read(connector, stream)
        assert caught.value.code == "rows_moved"
        return
    found = read(connector, stream).column("id").to_pylist()
    assert len(found) == len(set(found))
    lost = set(held) - set(found)
    assert not lost or overlap == 0
    if overlap == 0 and deleted and after == 1:
        assert lost


@pytest.mark.parametrize("pagination", ["page", "offset"])
@pytest.mark.parametrize("pages", [[[1]], [[1, 2], [3, 4]], [[1], [2], [3]]])
@pytest.mark.parametrize("key", [(), ("id",)])
def test_pages_that_go_in_circles_are_an_error(
    api: Api, pagination: str, pages: list[list[int]], key: tuple[str, ...]
) -> None:
    api.serve("/things", lambda _: as_json([{"id": n} for n in pages[len(api.asked) % len(pages)]]))
    with pytest.raises(SourceError) as caught:
        read(api.connector(pagination=pagination), Stream("things", path="things", primary_key=key))
    assert caught.value.code in ("pagination_stuck", "rows_moved")
    assert len(api.asked) < 20


@pytest.mark.parametrize(
    ("pagination", "is_told"),
    [
        ({"type": "cursor"}, True), ({"type": "cursor", "cursor": "after"}, False),
        ({"type": "next_url"}, True), ({"type": "page"}, False),
        ({"type": "page", "has_more": "more", "page_size": 10}, True),
    ],
)  # fmt: skip
def test_where_nothing_says_how_to_go_on_a_person_is_told(
    api: Api, tmp_path: Path, pagination: dict[str, object], is_told: bool
) -> None:
    def answer(request: Request) -> Response:
        return as_json(
            {"data": [{"id": n} for n in range(10 * (request.args.get("page", "1") == "1"))], "after": None}
        )

    api.serve("/things", answer)
    stream = Stream("things", path="things")
    outcome = sync(api.connector(records="data", pagination=pagination), tmp_path, stream)
    assert any("were taken for all" in each for each in outcome.warnings) == is_told


def test_numbered_pages_without_a_key_are_read_once(api: Api) -> None:
    api.serve_pages("/things", ['[{"id": 1}]', '[{"id": 2}]'])
    read(api.connector(pagination="page"), Stream("things", path="things"))
    assert [request.args["page"] for request in api.asked] == ["1", "2", "3"]
    api.asked.clear()
    read(api.connector(pagination="page"), Stream("things", path="things", primary_key=("id",)))
    assert [request.args["page"] for request in api.asked] == ["1", "2", "1", "3", "2"]


def test_an_overlap_costs_one_request_in_ten_and_none_at_the_end(api: Api) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args["offset"])
        return as_json([{"id": number} for number in range(500)[start : start + 100]])

    api.serve("/things", answer)
    connector = api.connector(pagination={"type": "offset", "page_size": 100})
    keyed = read(connector, Stream("things", path="things", primary_key=("id",)))
    asked = [int(request.args["offset"]) for request in api.asked]
    assert keyed.column("id").to_pylist() == list(range(500))
    assert asked == [0, 90, 180, 270, 360, 450, 495]
    api.asked.clear()
    assert read(connector, Stream("things", path="things")).num_rows == 500
    assert [int(request.args["offset"]) for request in api.asked] == [0, 100, 200, 300, 400, 500]


FORMATS = {
    "jsonl": '{"id": 1, "price": 1.50, "code": "007"}\n{"id": 2, "price": 20, "code": "8"}\n',
    "csv": "id,price,code\r\n1,1.50,007\r\n2,20,8\r\n",
    "xml": "<rows><row id='1'><price>1.50</price><code>007</code></row>"
    "<row id='2'><price>20</price><code>8</code></row></rows>",
}


@pytest.mark.parametrize("form", FORMATS)
def test_other_formats(api: Api, form: str) -> None:
    api.serve("/things", lambda _: Response(FORMATS[form]))
    found = read(api.connector(format=form), Stream("things", path="things"))
    key = "@id" if form == "xml" else "id"
    assert found.column(key).to_pylist() == [1, 2]
    assert found.column("code").to_pylist() == ["007", "8"]
    assert [str(price) for price in found.column("price").to_pylist()] == ["1.50", "20.00"]


def test_a_cell_of_csv_may_be_long(api: Api) -> None:
    api.serve("/things", lambda _: Response(f'id,text\n1,"{"x" * 200_000}"\n'))
    found = read(api.connector(format="csv"), Stream("things", path="things"))
    assert len(found.column("text")[0].as_py()) == 200_000


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><rows><row>&b;</row></rows>'


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("jsonl", '{"id": 1}\n{"id"'), ("csv", "a,b\n1,2\n3"),
        ("csv", "a,a\n1,2\n"), ("csv", "a,\n1,2\n"), ("csv", 'a\n"1'),
        ("xml", "<rows><row>"), ("xml", BOMB), ("json", "<html>"), ("json", ""),
    ],
)  # fmt: skip
def test_bodies_that_are_not_what_they_should_be(api: Api, form: str, body: str) -> None:
    api.serve("/things", lambda _: Response(body))
    with pytest.raises(SourceError) as caught:
        read(api.connector(format=form), Stream("things", path="things"))
    assert caught.value.code == f"malformed_{'json' if form == 'jsonl' else form}"


def test_verify_reads_in_the_types_of_the_table(api: Api, tmp_path: Path) -> None:
    held: list[dict[str, object]] = [{"id": 1, "v": "x"}, {"id": 2, "v": "2026-01-01"}]
    api.serve("/things", lambda _: as_json(held))
    stream = Stream("things", path="things", primary_key=("id",))
    sync(api.connector(), tmp_path, stream)
    held[0]["v"] = "2026-01-02"
    with closing(api.connector()) as source, closing(warehouse(tmp_path)) as destination:
        (*_, event) = verify(source, destination, VerifyJob("api", stream))
    assert isinstance(event, StreamVerified)
    counts = event.comparison.counts
    assert (counts.changed, counts.missing, counts.extra) == (1, 0, 0)


def test_a_load_may_end_within_an_answer_only_past_what_was_read(api: Api) -> None:
    """One answer is given on in several batches: what reaches so far is that of those which were taken."""
    api.serve("/orders", lambda _: as_json([{"id": at, "at": at} for at in range(10)]))
    resources = resource(order="ascending")
    stream = Stream("orders", table="orders", cursor="at")
    asked = ReadRequest(stream, limits=BatchLimits(rows=3), window=Window(rows=3), may_read_again=True)
    seen: list[tuple[str, str]] = []
    with closing(api.connector(resources=resources)) as source, source.open(asked) as extract:
        for batch in extract.batches():
            reached = extract.reached()
            assert reached is not None
            seen.append((str(batch.column("at")[-1]), reached.high.text))
    assert len(seen) > 1
    assert all(last == high for last, high in seen)
