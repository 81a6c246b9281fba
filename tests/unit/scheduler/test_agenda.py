"""Which definitions are read again, and what becomes of wrong ones."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from atlas_etl.config.schedule import CatchUp
from atlas_etl.errors import ConfigError
from atlas_etl.scheduler import agenda as agenda_room
from atlas_etl.scheduler.agenda import Agenda, read_agenda
from tests.unit.scheduler.world import World
from tests.waiting import until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def read(world: World, before: Agenda | None = None, *, all_again: bool = False) -> Agenda:
    return read_agenda(world.folder, {}, before, all_again=all_again)


def test_the_projects_settings_and_what_a_definition_sets(world: World) -> None:
    world.settings("catch_up: skip, timeout: 2h, jitter: 5m, retries: 7")
    world.define("plain", timezone="Asia/Tokyo")
    world.define("own", scheduling="{catch_up: all, timeout: 30s, retries: 0}")
    found = read(world).scheduled
    plain, own = found["plain"], found["own"]
    assert (plain.timing.catch_up, plain.timeout, plain.retry.retries) == (
        CatchUp.SKIP,
        timedelta(hours=2),
        7,
    )
    assert (own.timing.catch_up, own.timeout, own.retry.retries) == (CatchUp.ALL, timedelta(seconds=30), 0)
    assert own.timing.jitter == plain.timing.jitter == timedelta(minutes=5)
    assert (plain.timing.timezone, own.timing.timezone) == ("Asia/Tokyo", "UTC")


def test_only_what_changed_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    load = agenda_room.load_definition

    def counted(*given: object) -> object:
        names.append(str(given[1]))
        return load(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(agenda_room, "load_definition", counted)
    for name in ("a", "b", "c"):
        world.define(name)
    first = read(world)
    names.clear()
    world.define("b", "@daily")
    world.define("d")
    (world.folder / "connectors.d" / "c.yaml").unlink()
    second = read(world, first)
    assert names == ["b", "d"]
    assert [(name, each.timing.expression) for name, each in second.scheduled.items()] == [
        ("a", "@hourly"),
        ("b", "@daily"),
        ("d", "@hourly"),
    ]
    names.clear()
    world.settings("retries: 9")
    assert read(world, second).scheduled["a"].retry.retries == 9
    assert names == ["a", "b", "d"]
    names.clear()
    read(world, second, all_again=True)
    assert names == ["a", "b", "d"]


def test_one_that_changed_is_read_also_where_its_size_and_time_are_those_that_it_had(world: World) -> None:
    world.define("a", "0 1 * * *")
    first = read(world)
    file = world.folder / "connectors.d" / "a.yaml"
    was = file.stat()
    text = file.read_text().replace("0 1 * * *", "0 2 * * *")

    def rewritten() -> bool:
        file.write_text(text)
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
        return file.stat().st_ctime_ns != was.st_ctime_ns

    until(rewritten, "the clock of files went on")
    assert read(world, first).scheduled["a"].timing.expression == "0 2 * * *"


def test_a_wrong_one_is_looked_at_until_it_is_right(world: World) -> None:
    world.define("a")
    first = read(world)
    world.define("a", "0 0 31 2 *")
    wrong = read(world, first)
    assert wrong.scheduled == first.scheduled
    assert len(read(world, wrong).problems) == 1
    twin = world.folder / "connectors.d" / "a.yml"
    world.define("a", "@daily")
    twin.write_text("protocol: sqlite\n")
    assert "both define" in read(world, wrong).problems[0].message
    twin.unlink()
    right = read(world, wrong)
    assert right.problems == ()
    assert right.scheduled["a"].timing.expression == "@daily"
    twin.write_text("protocol: sqlite\n")
    assert "both define" in read(world, right).problems[0].message


def test_a_wrong_project_keeps_everything_but_there_has_to_be_something_to_keep(world: World) -> None:
    world.define("a")
    first = read(world)
    world.settings("jobs: none")
    wrong = read(world, first)
    assert wrong.scheduled == first.scheduled
    assert wrong.problems
    with pytest.raises(ConfigError):
        read(world)
    world.settings("jobs: 3")
    right = read(world, wrong)
    assert (right.problems, right.settings.jobs) == ((), 3)
