"""Long loads are committed in windows; one that is stopped goes on from its last."""

from __future__ import annotations

from itertools import takewhile

import duckdb
import pytest

from atlas_etl.model import BatchLimits, Disposition, Hazard, HazardPolicy, Stream, Window
from atlas_etl.pipeline.events import StreamFinished, WindowCommitted
from tests.unit.pipeline.house import House, orders

ROWS = 6000
SMALL = BatchLimits(rows=100)
WINDOW = Window(rows=300)
KEYS = {Disposition.APPEND: (), Disposition.MERGE: ("id",)}

# Ties, a cursor that does not follow the key, and the tail's ties last.
TABLE = f"""CREATE TABLE orders AS SELECT i AS id,
  TIMESTAMP '2026-01-01' + INTERVAL (i * 7919 % {ROWS} // 40) MINUTE AS moment,
  'note ' || i AS note FROM range({ROWS}) AS numbers(i)"""  # fmt: skip


def stream(disposition: Disposition, **more: object) -> Stream:
    return orders(
        **{"cursor": "moment", "disposition": disposition, "primary_key": KEYS[disposition], **more}
    )


def windows(house: House, what: Stream, *, stop_after: int | None = None) -> list[WindowCommitted]:
    """Sync; `stop_after` so many windows as SIGTERM would. Gives back the windows that were committed."""
    seen: list[WindowCommitted] = []
    events = house.events(what, limits=SMALL, window=WINDOW)
    for event in takewhile(lambda _: len(seen) != stop_after, events):
        if isinstance(event, WindowCommitted):
            seen.append(event)
    events.close()
    return seen


def source_rows(house: House) -> list[tuple[str, ...]]:
    with duckdb.connect(str(house.source_path), read_only=True) as opened:
        names = "id::VARCHAR, strftime(moment, '%Y-%m-%dT%H:%M:%S.%f'), note"
        return sorted(opened.execute(f"SELECT {names} FROM orders").fetchall(), key=str)


@pytest.mark.parametrize("disposition", KEYS)
def test_a_stopped_load_goes_on_from_its_last_window(any_house: House, disposition: Disposition) -> None:
    any_house.source(TABLE)
    what = stream(disposition)
    seen = windows(any_house, what, stop_after=3)
    there = any_house.rows(what)
    assert len(there) == seen[-1].outcome.rows_loaded >= 900
    assert any_house.state(what).checkpoint == seen[-1].outcome.checkpoint
    any_house.source(
        "UPDATE orders SET note = 'changed', moment = TIMESTAMP '2026-03-01' WHERE id % 1000 = 7"
    )
    *_, last = any_house.events(what, limits=SMALL, window=WINDOW)
    assert isinstance(last, StreamFinished)
    assert last.outcome.rows_read < ROWS
    if disposition is Disposition.MERGE:
        assert any_house.rows(what) == source_rows(any_house)
    else:
        versions = {row for row in there if int(str(row[0])) % 1000 == 7}
        assert set(any_house.rows(what)) == {*source_rows(any_house), *versions}
        assert len(any_house.rows(what)) == len(source_rows(any_house)) + len(versions)


def test_windows_are_told_with_what_they_committed_so_far(duck: House) -> None:
    duck.source(TABLE)
    what = stream(Disposition.APPEND)
    *events, last = duck.events(what, limits=SMALL, window=WINDOW)
    told = [event.outcome for event in events if isinstance(event, WindowCommitted)]
    assert [outcome.loads for outcome in told] == list(range(1, ROWS // 300 + 1))
    assert [outcome.rows_loaded for outcome in told] == list(range(300, ROWS + 1, 300))
    assert isinstance(last, StreamFinished)
    assert (last.outcome.rows_read, last.outcome.rows_loaded) == (ROWS, ROWS)
    assert duck.rows(what) == source_rows(duck)


def test_the_previous_tail_is_replaced_at_once(duck: House) -> None:
    """Its rows were deleted: a window that held only some of them would show a table with a gap."""
    duck.source(TABLE, "UPDATE orders SET moment = TIMESTAMP '2026-02-01' WHERE id >= 1000")
    what = stream(Disposition.APPEND)
    duck.sync(what)
    duck.source(
        "INSERT INTO orders SELECT id + 10000, moment + INTERVAL 1 DAY, note FROM orders WHERE id >= 3000"
    )
    seen = windows(duck, what, stop_after=1)
    assert seen[0].outcome.rows_read >= 5000
    assert len(duck.rows(what)) >= ROWS
    duck.sync(what)
    assert duck.rows(what) == source_rows(duck)


@pytest.mark.parametrize(
    "what",
    [
        stream(Disposition.APPEND, cursor="note"),
        stream(Disposition.APPEND, hazards={Hazard.INFINITY: HazardPolicy.NULL}),
        orders(disposition=Disposition.REPLACE, cursor="moment"),
        orders(),
    ],
    ids=["text", "a cursor that may become NULL", "replace", "no cursor"],
)
def test_what_has_no_order_of_its_own_is_one_load(duck: House, what: Stream) -> None:
    duck.source(TABLE)
    assert windows(duck, what) == []
    assert duck.rows(what) == source_rows(duck)


def test_a_full_refresh_is_one_load(duck: House) -> None:
    duck.source(TABLE)
    what = stream(Disposition.MERGE)
    duck.sync(what)
    events = duck.events(what, full_refresh=True, limits=SMALL, window=WINDOW)
    assert not any(isinstance(event, WindowCommitted) for event in events)


def test_a_short_load_is_read_as_the_table_has_it(duck: House) -> None:
    duck.source(
        "CREATE TABLE orders AS SELECT 10 - i AS id, TIMESTAMP '2026-01-01' AS moment FROM range(9) AS n(i)"
    )
    duck.sync(stream(Disposition.APPEND, cursor="id"))
    assert duck.table(orders()).column("id").to_pylist() == list(range(10, 1, -1))
