"""Windows of time: whatever an API makes of their bounds, each row comes once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._incremental.windows import Windows
from atlas_etl.connectors.http._messages import Request as Asked
from atlas_etl.connectors.http._settings.incremental import Incremental
from atlas_etl.connectors.http._wire import Network
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CursorKind, CursorValue, Disposition, Stream, Window
from atlas_etl.pipeline.events import WindowCommitted
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync, warehouse

ASKED = {"parameter": "from", "end_parameter": "to", "start": "2024-01-31T00:00:00Z", "window": "1 month"}
NOW = datetime(2024, 4, 15, 12, tzinfo=UTC)


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def bounds(how: dict[str, object], bound: CursorValue | None = None, zone: str | None = None) -> list[object]:
    windows = Windows(Incremental.model_validate({**ASKED, **how}), "at", bound, zone, NOW)
    return [tuple(dict(request.params).values()) for request, _ in windows.requests(Asked("http://a"))]


@pytest.mark.parametrize(
    ("how", "bound", "zone", "expected"),
    [
        ({}, None, None, [
            ("2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z"),
            ("2024-03-31T00:00:00Z", "2024-04-15T12:00:00Z"),
        ]),
        ({"boundary": "exclusive", "window": "60d"}, None, None, [
            ("2024-01-30T23:59:59Z", "2024-03-31T00:00:00Z"),
            ("2024-03-30T23:59:59Z", "2024-04-15T12:00:00Z"),
        ]),
        ({"window": "1 year", "format": "epoch"}, CursorValue(CursorKind.INTEGER, "1713182399"), None,
         [("1713182399", "1713182400")]),
        ({"format": "epoch", "start": "2024-01-31T00:00:00.5Z", "window": "60d"}, None, None, [
            ("1706659200", "1711843201"), ("1711843200", "1713182400"),
        ]),
        ({"format": "date"}, CursorValue(CursorKind.DATE, "2024-04-01"), None,
         [("2024-04-01", "2024-04-17")]),
        ({"format": "date"}, CursorValue(CursorKind.TIMESTAMPTZ, "2024-04-01T06:00:00.5Z"), None,
         [("2024-03-31", "2024-04-17")]),
        ({}, CursorValue(CursorKind.TIMESTAMP, "2024-04-01T06:00:00"), None,
         [("2024-04-01T06:00:00", "2024-04-16T12:00:00")]),
        ({"window": None}, CursorValue(CursorKind.TIMESTAMPTZ, "2030-01-01T00:00:00Z"), None,
         [("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z")]),
    ],
)  # fmt: skip
def test_what_is_sent(
    how: dict[str, object], bound: CursorValue | None, zone: str | None, expected: list[object]
) -> None:
    assert bounds(how, bound, zone) == expected


def test_a_cursor_that_is_no_time_has_no_windows() -> None:
    with pytest.raises(ConfigError) as caught:
        bounds({}, CursorValue(CursorKind.TEXT, "b"))
    assert caught.value.code == "cursor_format"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"end_parameter": None}, "needs parameter and end_parameter"),
        ({"start": None}, "start"),
        ({"window": "1 fortnight"}, "1 month"),
        ({"window": "1s"}, "minute"),
        ({"parameter": None, "end_parameter": None, "window": None}, "start needs"),
    ],
)
def test_windows_that_cannot_be_meant(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Incremental.model_validate({**ASKED, **wrong})


FIRST = datetime(2024, 1, 1, tzinfo=UTC)
ZONES = {"none": None, "west": ZoneInfo("Etc/GMT+12"), "east": ZoneInfo("Pacific/Kiritimati")}
ANY = st.integers(-3 * 96, 90 * 96).map(lambda quarters: FIRST + timedelta(minutes=15 * quarters))
EDGES = [
    *(FIRST + timedelta(seconds=0.5, days=30 * count) for count in range(4)),
    *(FIRST.replace(month=month) for month in (1, 2, 3, 4)),
]
NEAR = st.builds(
    lambda edge, seconds: edge + timedelta(seconds=seconds),
    st.sampled_from(EDGES),
    st.sampled_from([0, -0.2, 0.2, -0.5, 0.5, -1, 1]),
)
INSTANTS = st.one_of(NEAR, NEAR, ANY)


def model_server(
    held: Sequence[dict[str, object]], instants: dict[int, datetime], form: str, zone: ZoneInfo | None,
    includes: tuple[bool, bool],
) -> Iterator[object]:  # fmt: skip
    """An API that reads its parameters in its own zone, and includes records at its bounds or not."""

    def moment(text: str) -> datetime:
        if form.startswith("epoch"):
            return datetime.fromtimestamp(int(text) / (1000 if form == "epoch_ms" else 1), UTC)
        found = (
            datetime.fromisoformat(text)
            if form != "date"
            else datetime.combine(date.fromisoformat(text), datetime.min.time())
        )
        return found if found.tzinfo else found.replace(tzinfo=zone or UTC)

    def answer(request: Request) -> Response:
        begin, end = moment(request.args["from"]), moment(request.args["to"])
        assert begin <= end
        found = []
        for record in held:
            at = instants[int(str(record["id"]))]
            after = at > begin or (includes[0] and at == begin)
            if after and (at < end or (includes[1] and at == end)):
                found.append(record)
        return as_json(found)

    yield answer


@pytest.mark.parametrize("form", ["iso8601", "epoch", "epoch_ms", "date"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_row_is_lost_and_none_comes_twice(api: Api, form: str, data: st.DataObject) -> None:
    zone = ZONES[data.draw(st.sampled_from(sorted(ZONES)), label="zone of the API")]
    includes = data.draw(st.tuples(st.booleans(), st.booleans()), label="bounds that are included")
    window = data.draw(st.sampled_from(["1 month", "30d", "45d6h", "1 year"]))
    instants = dict(enumerate(data.draw(st.lists(INSTANTS, min_size=1, max_size=25)), 1))
    start = data.draw(st.sampled_from(["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z"]))
    as_number = form.startswith("epoch") and data.draw(st.booleans(), label="numbers")
    unit = 1000 if form == "epoch_ms" else 1
    if as_number and unit == 1:
        instants = {number: at.replace(microsecond=0) for number, at in instants.items()}
    held: list[dict[str, object]] = []

    def insert(ids: Iterator[int]) -> None:
        for number in ids:
            at = instants[number]
            text = round(at.timestamp() * unit) if as_number else at.isoformat().replace("+00:00", "Z")
            held.append({"id": number, "at": text})

    (answer,) = model_server(held, instants, form, zone, includes)
    api.server.clear()
    api.serve("/orders", answer)  # type: ignore[arg-type]
    asked = {
        "parameter": "from", "end_parameter": "to", "start": start, "window": window, "format": form,
        "boundary": "inclusive" if includes[0] else "exclusive",
    }  # fmt: skip
    resources = {"orders": {"path": "orders", "incremental": asked, "cursor": "at"}}
    stream = Stream("orders", table="orders", cursor="at", disposition=Disposition.APPEND)
    begin = datetime.fromisoformat(start)
    begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
    ordered = sorted(instants, key=lambda number: instants[number])
    half = len(ordered) // 2
    with TemporaryDirectory() as folder:
        for part in (ordered[:half], ordered[half:]):
            insert(iter(part))
            sync(api.connector(resources=resources, pagination="none"), Path(folder), stream)
        wanted = sorted(number for number in instants if instants[number] >= begin)
        if wanted:
            found = rows(Path(folder), "SELECT id FROM api.orders ORDER BY id")
            assert [number for (number,) in found] == wanted


BERLIN = ZoneInfo("Europe/Berlin")
TURNS = {"spring": datetime(2024, 3, 31, 1, tzinfo=UTC), "autumn": datetime(2024, 10, 27, 1, tzinfo=UTC)}


@pytest.mark.parametrize("has_zone", [True, False], ids=["timezone", "no timezone"])
@pytest.mark.parametrize("form", ["iso8601", "date", "%Y-%m-%d %H:%M:%S"])
@pytest.mark.parametrize("season", TURNS)
def test_no_row_is_lost_and_none_comes_twice_when_clocks_are_changed(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, season: str, form: str, *, has_zone: bool
) -> None:
    """Local times of an API that compares them as such, six hours at once, and a sync every other hour."""
    turn = TURNS[season]
    instants = [turn + timedelta(minutes=30 * count) for count in range(-12, 12)]
    local = [at.astimezone(BERLIN).replace(tzinfo=None) for at in instants]
    twice = {
        at
        for at in local
        if at.replace(tzinfo=BERLIN, fold=0).timestamp() != at.replace(tzinfo=BERLIN, fold=1).timestamp()
    }
    held = [
        {"id": number, "at": str(at)} for number, at in enumerate(local) if not (has_zone and at in twice)
    ]
    there: list[dict[str, object]] = []

    def moment(text: str) -> datetime:
        found = datetime.fromisoformat(text)
        return found.astimezone(BERLIN).replace(tzinfo=None) if found.tzinfo else found

    def answer(request: Request) -> Response:
        begin, end = moment(request.args["from"]), moment(request.args["to"])
        return as_json(
            [record for record in there if begin <= datetime.fromisoformat(str(record["at"])) < end]
        )

    api.serve("/orders", answer)
    asked = {**ASKED, "start": f"{turn - timedelta(days=2):%Y-%m-%d}", "window": "6h", "format": form}
    resources = {"orders": {"path": "orders", "incremental": asked, "cursor": "at"}}
    stream = Stream(
        "orders", table="orders", cursor="at", disposition=Disposition.APPEND,
        timezone="Europe/Berlin" if has_zone else None,
    )  # fmt: skip
    for record in held:
        there.append(record)
        at = instants[int(str(record["id"]))]
        if (at.hour % 2 and at.minute == 0) or record is held[-1]:
            monkeypatch.setattr(Network, "now", lambda _, at=at: at)
            sync(api.connector(resources=resources, pagination="none"), tmp_path, stream)
    found = rows(tmp_path, "SELECT id FROM api.orders ORDER BY id")
    assert [number for (number,) in found] == [record["id"] for record in held]


def test_a_window_is_committed_where_the_load_is_long_enough(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order a window's records come, and what was committed stays after a failure."""
    monkeypatch.setattr("atlas_etl.connectors.http._rows._SURVEY_ROWS", 1)
    held = [{"id": n, "at": f"2024-0{1 + n % 3}-1{n % 4}T00:00:00Z"} for n in range(9)]
    fails = [True]

    def answer(request: Request) -> Response:
        begin, end = request.args["from"], request.args["to"]
        if begin.startswith("2024-03") and fails:
            return Response(status=404)
        return as_json([record for record in held if begin <= str(record["at"]) < end])

    api.serve("/orders", answer)
    asked = {**ASKED, "start": "2024-01-01T00:00:00Z"}
    resources = {"orders": {"path": "orders", "incremental": asked}}
    stream = Stream("orders", table="orders", cursor="at", disposition=Disposition.APPEND)
    job = Job("run", "api", stream, datetime.now(UTC), window=Window(rows=1))

    def run() -> list[object]:
        events: list[object] = []
        with (
            closing(api.connector(resources=resources, pagination="none", attempts=1)) as source,
            closing(warehouse(tmp_path)) as destination,
        ):
            try:
                events += transfer(source, destination, job)
            except SourceError as failure:
                events.append(failure)
        return events

    events = run()
    assert isinstance(events[-1], SourceError)
    assert any(isinstance(event, WindowCommitted) for event in events)
    assert rows(tmp_path, 'SELECT DISTINCT month("at") AS month FROM api.orders ORDER BY month')[:1] == [(1,)]
    high = str(rows(tmp_path, 'SELECT max("at")::VARCHAR FROM api.orders')[0][0])[:10]
    fails.clear()
    api.asked.clear()
    assert any(isinstance(event, WindowCommitted) for event in run())
    assert min(request.args["from"] for request in api.asked) == f"{high}T00:00:00Z"
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT id) FROM api.orders") == [(9, 9)]


def test_a_start_with_a_zone_refuses_records_without_one(api: Api) -> None:
    api.serve("/orders", lambda _: as_json([{"id": 1, "at": "2024-02-01T00:00:00"}]))
    resources = {"orders": {"path": "orders", "incremental": ASKED, "cursor": "at"}}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources=resources), Stream("orders", table="orders", cursor="at"))
    assert caught.value.code == "window_cursor"


def test_windows_of_children_and_of_their_parents(api: Api) -> None:
    api.serve(
        "/shops", lambda request: as_json([{"id": request.args["from"][:7], "at": f"{request.args['from']}"}])
    )
    asked: list[object] = []

    def orders(request: Request) -> Response:
        given = json.loads(request.data)
        asked.append((given["shop"], given["range"]["from"][:10]))
        return as_json([{"at": given["range"]["from"]}])

    api.serve("/orders", orders)
    ranged = {**ASKED, "start": "2024-01-01T00:00:00Z", "window": "50 years"}
    below = {**ranged, "into": "body", "parameter": "range.from", "end_parameter": "range.to"}
    resources = {
        "shops": {"path": "shops", "incremental": ranged, "cursor": "at"},
        "orders": {
            "path": "orders", "method": "POST", "incremental": below, "body": {"shop": "{shop}"},
            "parent": {"resource": "shops", "fields": {"shop": "id"}},
        },
    }  # fmt: skip
    connector = api.connector(resources=resources, pagination="none")
    found = read(connector, Stream("orders", table="orders", cursor="at"))
    assert found.column("shop").to_pylist() == ["2024-01"]
    assert asked == [("2024-01", "2024-01-01")]


def test_a_cursor_inside_another_member_tells_its_window_too(api: Api) -> None:
    days = ["2024-02-01", "2024-03-01", "2024-04-01"]
    held = [{"id": day, "meta": {"o'f": {"at": f"{day}T00:00:00Z"}}} for day in days]

    def answer(request: Request) -> Response:
        begin, end = request.args["from"], request.args["to"]
        return as_json([row for row in held if begin <= str(row["id"]) + "T00:00:00Z" <= end])

    api.serve("/things", answer)
    cursor = "meta__o'f__at"
    resource = {"path": "/things", "primary_key": "id", "cursor": cursor, "incremental": ASKED}
    connector = api.connector(resources={"things": resource}, nested="flatten", pagination="none")
    found = read(connector, Stream("things", table="things", cursor=cursor))
    assert sorted(found.column("id").to_pylist()) == [date.fromisoformat(day) for day in days]
