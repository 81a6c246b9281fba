"""From files to files through the data path: ties, rows that come later, zones, and nothing new."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import NullCursorError, SourceError
from atlas_etl.model import Disposition, NullCursor, Stream, StreamRun
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer


def ends(folder: Path, protocol: str, to: str) -> tuple[Connector, Destination]:
    source, target = registry.load(protocol), registry.load(to)
    assert source.connector is not None
    assert target.destination is not None
    return (
        source.connector(source.connection.model_validate({"path": str(folder / "in")})),
        target.destination(target.connection.model_validate({"path": str(folder / "out")})),
    )


def sync(folder: Path, stream: Stream, protocol: str = "csv", to: str = "parquet") -> StreamRun:
    source, destination = ends(folder, protocol, to)
    job = Job("run", "shop", stream, datetime.now(UTC))
    (finished,) = (e for e in transfer(source, destination, job) if isinstance(e, StreamFinished))
    return finished.outcome


def loaded(folder: Path, to: str = "parquet") -> Counter[tuple[object, ...]]:
    _, destination = ends(folder, "csv", to)
    table = destination.query("SELECT * FROM shop.s")
    return Counter(tuple(row.values()) for row in table.to_pylist())


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_text("\n".join(("id,at", *lines)) + "\n")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("**/*.csv", "'month', 'year': "),
        ("year=2026/**/*.csv", "'month': "),
        ("year=2026/month=1/a.csv", None),
        ("at=*/*.csv", None),
    ],
)
def test_what_folders_of_partitions_say_is_no_column(tmp_path: Path, path: str, told: str | None) -> None:
    for folder in ("year=2026/month=1", "at=1", "plain"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        write(tmp_path, f"{folder}/a.csv", "1,2026-01-01")
    done = sync(tmp_path, Stream("s", path=path))
    assert [warning[: len(told or "")] for warning in done.warnings] == ([told] if told else [])


@pytest.mark.parametrize("to", ["parquet", "jsonl", "csv"])
def test_each_sync_brings_what_is_new_once(tmp_path: Path, to: str) -> None:
    stream = Stream("s", cursor="at", disposition=Disposition.APPEND)
    write(tmp_path, "1.csv", "1,2026-01-01 10:00:00", "2,2026-01-01 11:00:00")
    assert sync(tmp_path, stream, to=to).rows_loaded == 2
    write(tmp_path, "2.csv", "3,2026-01-01 11:00:00", "4,2026-01-02 00:00:00")
    assert sync(tmp_path, stream, to=to).rows_loaded == 2
    outcome = sync(tmp_path, stream, to=to)
    assert (outcome.rows_read, outcome.rows_loaded) == (1, 0)
    moments = [datetime(2026, 1, 1, 10), *[datetime(2026, 1, 1, 11)] * 2, datetime(2026, 1, 2)]
    assert loaded(tmp_path, to) == Counter(zip(range(1, 5), moments, strict=True))


def test_a_lag_reads_further_back(tmp_path: Path) -> None:
    stream = Stream("s", cursor="at", disposition=Disposition.APPEND, lag=timedelta(hours=2))
    write(tmp_path, "1.csv", "1,2026-01-01 10:00:00", "2,2026-01-01 11:00:00")
    sync(tmp_path, stream)
    write(tmp_path, "2.csv", "3,2026-01-01 10:30:00")
    assert sync(tmp_path, stream).rows_loaded == 1
    assert sum(loaded(tmp_path).values()) == 3


def test_naive_times_get_their_zone_and_the_tail_is_still_found(tmp_path: Path) -> None:
    stream = Stream("s", cursor="at", disposition=Disposition.APPEND, timezone="Europe/Berlin")
    write(tmp_path, "1.csv", "1,2026-01-01 10:00:00", "2,2026-07-01 11:00:00")
    sync(tmp_path, stream)
    write(tmp_path, "2.csv", "3,2026-07-01 11:00:00")
    for _ in range(2):
        sync(tmp_path, stream)
    assert sorted((row[0], row[1]) for row in loaded(tmp_path).elements()) == [
        (1, datetime(2026, 1, 1, 9, tzinfo=UTC)),
        (2, datetime(2026, 7, 1, 9, tzinfo=UTC)),
        (3, datetime(2026, 7, 1, 9, tzinfo=UTC)),
    ]


def test_rows_without_a_cursor_follow_the_policy(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "1,2026-01-01 10:00:00", "2,")
    with pytest.raises(NullCursorError):
        sync(tmp_path, Stream("s", cursor="at"))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.parquet"))
    stream = Stream("s", cursor="at", disposition=Disposition.APPEND, null_cursor=NullCursor.INCLUDE)
    for _ in range(3):
        sync(tmp_path, stream)
    assert sorted(row[0] for row in loaded(tmp_path).elements()) == [1, 2]


def test_a_merge_updates_by_key(tmp_path: Path) -> None:
    stream = Stream("s", cursor="at", primary_key=("id",))
    write(tmp_path, "1.csv", "1,2026-01-01", "2,2026-01-02", "2,2026-01-03")
    assert sync(tmp_path, stream).rows_loaded == 2
    write(tmp_path, "2.csv", "1,2026-01-04", "3,2026-01-03")
    assert sync(tmp_path, stream).rows_loaded == 2
    assert {row[0]: str(row[1]) for row in loaded(tmp_path)} == {
        1: "2026-01-04",
        2: "2026-01-03",
        3: "2026-01-03",
    }


def test_without_a_cursor_everything_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "1,x", "2,y")
    sync(tmp_path, Stream("s"))
    write(tmp_path, "1.csv", "3,z")
    sync(tmp_path, Stream("s"))
    assert loaded(tmp_path) == Counter([(3, "z")])


def test_a_source_that_fails_changes_nothing(tmp_path: Path) -> None:
    stream = Stream("s", cursor="at", disposition=Disposition.APPEND)
    write(tmp_path, "1.csv", "1,2026-01-01")
    sync(tmp_path, stream)
    before = loaded(tmp_path)
    write(tmp_path, "2.csv", "2,2026-01-02", "ragged")
    with pytest.raises(SourceError, match="fields"):
        sync(tmp_path, stream)
    assert loaded(tmp_path) == before
    write(tmp_path, "2.csv", "2,2026-01-02")
    sync(tmp_path, stream)
    assert sorted(row[0] for row in loaded(tmp_path)) == [1, 2]
