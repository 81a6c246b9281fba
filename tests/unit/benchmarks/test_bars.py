"""What the benchmarks make of their runs: ratios, bars, the check, and which runs count."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
from benchmarks import bars, report
from benchmarks.bars import Standing, standings
from benchmarks.ends import DuckDBDestination, End, Place, Setting, Source
from benchmarks.measure import Command
from benchmarks.paths import PATHS, Bar
from benchmarks.paths import Path as Route
from benchmarks.runs import Result, Round, run_all


class EmptySource(Source):
    name = "none"

    def filled(self, place: Place, rows: int) -> AbstractContextManager[End]:
        return self._filled()

    @contextmanager
    def _filled(self):
        yield End("sqlite", {"database_path": "nowhere"})


class Copying:
    """Makes a DuckDB file with so many rows, whatever it was asked for."""

    def __init__(self, rows: int, name: str = "copying") -> None:
        self.name = name
        self._rows = rows

    def prepare(self, path: Route, setting: Setting) -> Sequence[Command]:
        return ()

    def command(self, path: Route, setting: Setting) -> Command:
        made = f"CREATE SCHEMA shop; CREATE TABLE shop.wide AS SELECT range FROM range({self._rows})"
        code = f"import duckdb; duckdb.connect({str(setting.destination.path)!r}).execute({made!r})"
        return Command((sys.executable, "-c", code), setting.folder)

    def copies(self, path: Route) -> bool:
        return True


def route(bar: Bar | None = None) -> Route:
    return Route(EmptySource(), DuckDBDestination(), bar=bar)


def took(contender: str, *seconds: float, rows: int = 1000, error: str | None = None) -> list[Result]:
    return [
        Result("none->duckdb", contender, rows, repeat, wall, wall, 1, error)
        for repeat, wall in enumerate(seconds)
    ]


def test_a_ratio_is_of_medians_at_one_size():
    results = took("atlas", 3.0, 2.2, 2.0) + took("limit", 2.0, 1.9, 9.0) + took("atlas", 50.0, rows=9)
    (standing,) = standings(results, [route(Bar(1.10, 3))])
    assert (standing.atlas_seconds, standing.their_seconds) == (2.2, 2.0)
    assert standing.ratio == pytest.approx(1.10)
    assert standing.reached


@pytest.mark.parametrize(("peer", "reached"), [(3.0, True), (2.9, False)])
def test_a_peer_is_to_need_so_many_times_as_long(peer, reached):
    results = took("atlas", 1.0) + took("dlt", peer)
    (standing,) = standings(results, [route(Bar(1.10, 3))])
    assert standing.ratio == pytest.approx(peer)
    assert standing.reached is reached


def test_by_hand_and_one_commit_are_no_peers():
    results = took("atlas", 1.0) + took("by hand", 0.5) + took("one commit", 0.5)
    by_hand, in_one = standings(results, [route(Bar(1.10, 3))])
    assert (by_hand.ratio, by_hand.reached) == (2.0, False)
    assert (in_one.ratio, in_one.reached) == (2.0, None)


def test_a_run_that_failed_counts_nowhere():
    results = took("atlas", 1.0) + took("limit", 0.1, error="exit 1")
    assert standings(results, [route(Bar(1.10, 3))]) == []
    assert report.failures(results) == ["none->duckdb by limit at 1k: exit 1"]


@pytest.mark.parametrize(("seconds", "failed"), [(1.32, False), (1.34, True)])
def test_the_check_is_of_the_ratio_and_not_of_seconds(seconds, failed):
    published = [Standing("none->duckdb", "limit", 1000, 5, 12.0, 10.0, 12.0, 10.0)]
    now = standings(took("atlas", seconds) + took("limit", 1.0), [route()])
    assert bool(bars.worse(now, published)) is failed
    slower_machine = standings(took("atlas", 60.0) + took("limit", 50.0), [route()])
    assert bars.worse(slower_machine, published) == []


def test_one_run_that_is_as_good_as_published_is_enough():
    published = [Standing("none->duckdb", "limit", 1000, 3, 12.0, 10.0, 12.0, 10.0)]
    noisy = took("atlas", 1.2, 3.0, 3.0) + took("limit", 1.0, 1.0, 1.0)
    assert bars.worse(standings(noisy, [route()]), published) == []


def test_the_check_compares_equal_sizes_only():
    published = [Standing("none->duckdb", "limit", 2000, 5, 12.0, 10.0, 12.0, 10.0)]
    assert bars.worse(standings(took("atlas", 9.0) + took("limit", 1.0), [route()]), published) == []


def test_published_standings_come_back(tmp_path):
    made = standings(took("atlas", 1.0) + took("limit", 0.5), [route(Bar(2.0, 3))])
    report.write_standings(tmp_path / "published.json", {"cores": 2}, made)
    assert report.read_standings(tmp_path / "published.json") == made
    assert report.read_standings(tmp_path / "none.json") == []


def test_only_good_runs_of_the_same_commit_are_resumed(tmp_path):
    file = tmp_path / "build" / "runs.json"
    good, bad = took("atlas", 1.0), took("limit", 1.0, error="exit 1")
    report.write_json(file, {"commit": "a"}, good + bad, [])
    assert report.read_results(file, {"commit": "a"}) == good
    assert report.read_results(file, {"commit": "b"}) == []


def test_memory_that_grows_is_told():
    flat = [Result("p", "atlas", rows, 0, 1, 1, peak) for rows, peak in ((1, 200 << 20), (9, 250 << 20))]
    assert report.not_flat(flat) == []
    grown = [Result("p", "atlas", 1, 0, 1, 1, 100_000_000), Result("p", "atlas", 9, 0, 1, 1, 230_000_000)]
    assert report.not_flat(grown) == ["p: 100 MB at 1, 230 MB at 9"]


def test_every_row_must_be_there(tmp_path):
    contenders = (Copying(5, "all"), Copying(4, "fewer"))
    with Place(seed=1, parent=tmp_path) as place:
        good, short = run_all([Round(5, 1, (route(),), contenders)], place)
    assert good.error is None
    assert good.wall_seconds > 0
    assert short.error == "4 rows at the destination, not 5"


def test_a_contender_that_leaves_nothing_is_told_and_the_others_run(tmp_path):
    nothing = Copying(5, "nothing")
    nothing.command = lambda path, setting: Command((sys.executable, "-c", ""), setting.folder)
    with Place(seed=1, parent=tmp_path) as place:
        failed, good = run_all([Round(5, 1, (route(),), (nothing, Copying(5)))], place)
    assert "warehouse.duckdb" in failed.error
    assert good.error is None


def test_what_was_done_is_not_done_again(tmp_path):
    path = route()
    with Place(seed=1, parent=tmp_path) as place:
        (again,) = run_all([Round(5, 2, (path,), (Copying(5),))], place, {(path.name, "copying", 5, 0)})
    assert again.repeat == 1
    assert again.error is None


def test_names_of_paths_are_their_own():
    assert len({path.name for path in PATHS}) == len(PATHS)
