"""Local times that clocks have twice, or skip: no record is missed behind a checkpoint."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.clocks_back import MOST, before_repeats, earliest
from atlas_etl.connectors.http._incremental.since import written
from atlas_etl.connectors.http._settings.incremental import Incremental
from atlas_etl.model import CursorKind, CursorValue, Stream
from tests.unit.connectors.http_api import Api, as_json, rows, sync


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2026-10-25T02:50:00", "Europe/Berlin", "2026-10-25T01:50:00"),
        ("2026-10-25T02:00:00", "Europe/Berlin", "2026-10-25T01:00:00"),
        ("2026-10-25T01:59:59", "Europe/Berlin", "2026-10-25T01:59:59"),
        ("2026-10-25T03:00:00", "Europe/Berlin", "2026-10-25T03:00:00"),
        ("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T02:30:00"),
        ("2026-04-05T01:45:00", "Australia/Lord_Howe", "2026-04-05T01:15:00"),
        ("2026-10-25T02:50:00", "UTC", "2026-10-25T02:50:00"),
        ("2026-06-01T02:50:00", None, "2026-06-01T00:50:00"),
    ],
)
def test_a_time_that_may_come_again_is_no_end(at: str, zone: str | None, expected: str) -> None:
    found = before_repeats(CursorValue(CursorKind.TIMESTAMP, at), zone, MOST)
    assert datetime.fromisoformat(found.text) == datetime.fromisoformat(expected)
    instant = CursorValue(CursorKind.TIMESTAMPTZ, f"{at}Z")
    assert before_repeats(instant, zone, MOST) == instant


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
        ("2026-03-29T02:30:00", "2026-03-29T00:30:00Z"),
        ("2026-07-01T02:30:00", "2026-07-01T00:30:00Z"),
    ],
)
def test_what_is_sent_is_the_first_instant_that_it_may_mean(at: str, expected: str) -> None:
    """A `lag` may put a tail into the hour that clocks skip, before which it then begins."""
    bound = CursorValue(CursorKind.TIMESTAMP, at)
    assert written(Incremental(parameter="since"), bound, "Europe/Berlin") == expected
    assert earliest(datetime.fromisoformat(at), ZoneInfo("Europe/Berlin")).isoformat()[:19] == at


@pytest.mark.parametrize("key", [("id",), ()])
def test_a_record_of_the_second_of_two_hours_is_loaded_once(
    httpserver: HTTPServer, tmp_path: Path, key: tuple[str, ...]
) -> None:
    api = Api(httpserver)
    held = [{"id": 1, "at": "2025-10-26 01:30:00.000001"}, {"id": 2, "at": "2025-10-26 02:50:00.000001"}]

    def answer(request: Request) -> Response:
        return as_json([each for each in held if str(each["at"]) >= request.args.get("since", "")])

    api.serve("/things", answer)
    asked = {"parameter": "since", "format": "%Y-%m-%d %H:%M:%S.%f"}
    resource = {"path": "/things", "pagination": "none", "incremental": asked}
    stream = Stream("things", table="things", primary_key=key, cursor="at")
    for more in ([], [{"id": 3, "at": "2025-10-26 02:10:00.000001"}], []):  # an hour later, and nothing
        held += more
        sync(api.connector(resources={"things": resource}), tmp_path, stream)
    assert rows(tmp_path, "SELECT id FROM api.things ORDER BY id") == [(1,), (2,), (3,)]
