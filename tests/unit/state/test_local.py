"""The state in a SQLite file: who may read it, and every way in which the file or its folder can be wrong."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.disks import mounted

from atlas_etl.errors import ConfigError, LockedError, StateError
from atlas_etl.model import Run, RunStatus
from atlas_etl.state import LeaseTimes, LocalStateStore, MemoryStateStore, open_state_store
from atlas_etl.state.holder import this_process
from atlas_etl.state.open import look_at_state

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(number: int) -> Run:
    started = NOON + timedelta(minutes=number)
    return Run(f"run-{number:04}", "shop", RunStatus.COMPLETED, "t" * 200, started, started)


def refused(open_it: Callable[[], object]) -> StateError:
    with pytest.raises(StateError) as caught:
        open_it()
    assert caught.value.hint
    return caught.value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """As an ordinary user who may pass through to `folder` but owns nothing of it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="atlas-state-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 384 KiB that can be remounted."""
    with mounted(tmp_path / "disk", "384k") as point:
        yield point


def fill(file: Path) -> None:
    """Leave no room on the file's disk."""
    with file.open("wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(bytes(1024))


class TestPlace:
    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
    def test_only_the_owner_may_look(self, tmp_path: Path, mask: int) -> None:
        file = tmp_path / ".atlas" / "state.db"
        with umask(mask):
            LocalStateStore(file).finish(run(1))
        assert mode(file.parent) == 0o700
        assert mode(file) == 0o600
        with closing(sqlite3.connect(file)) as reader:  # keeps the log beside the file alive
            reader.execute("SELECT count(*) FROM scheduled_runs").fetchone()
            LocalStateStore(file).finish(run(2))
            assert {mode(path) for path in file.parent.iterdir()} == {0o600}
            assert (file.parent / "state.db-wal").exists()

    def test_what_is_there_keeps_its_permissions(self, tmp_path: Path) -> None:
        folder = tmp_path / "shared"
        folder.mkdir()
        folder.chmod(0o750)
        LocalStateStore(folder / "state.db").close()
        (folder / "state.db").chmod(0o640)
        LocalStateStore(folder / "state.db").close()
        assert (mode(folder), mode(folder / "state.db")) == (0o750, 0o640)

    def test_a_relative_path_is_of_the_folder_at_the_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = LocalStateStore("we'ird ?mode=ro#;--/stäte.db")
        monkeypatch.chdir("/")
        store.finish(run(1))
        assert list(open_state_store(tmp_path / "we'ird ?mode=ro#;--" / "stäte.db").history()) == [run(1)]

    def test_a_file_can_be_attached_to_another(self, tmp_path: Path) -> None:
        LocalStateStore(tmp_path / "state.db").finish(run(1))
        with closing(sqlite3.connect(":memory:")) as other:
            other.execute("ATTACH ? AS state", (str(tmp_path / "state.db"),))
            assert other.execute("SELECT run_id FROM state.v_recent_runs").fetchall() == [("run-0001",)]

    def test_what_a_location_names(self, tmp_path: Path) -> None:
        assert isinstance(open_state_store(":memory:"), MemoryStateStore)
        assert isinstance(open_state_store(str(tmp_path / "state.db")), LocalStateStore)

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://etl:hunter2@host/db",
            "postgresql://etl:hunter2@host:port/db",
            "postgresql://etl:hunter2@[::1/db",
            "postgresql://etl:pass@hunter2@host/db",
            "sqlite://hunter2",
        ],
    )
    def test_a_url_that_cannot_be_used_is_not_repeated(self, url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            open_state_store(url)
        assert caught.value.code == "state_url"
        assert "hunter2" not in f"{caught.value}{caught.value.hint}"
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_a_file_that_another_process_is_making_opens(self, tmp_path: Path) -> None:
        """The change to a write-ahead log fails at once, and not after the busy timeout."""
        with closing(
            sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
        ) as other:
            other.execute("CREATE TABLE theirs (x)")
            other.execute("BEGIN IMMEDIATE")
            release = threading.Timer(0.5, other.execute, ["ROLLBACK"])
            release.start()
            assert LocalStateStore(tmp_path / "state.db").count_runs() == 0
            release.join()


class TestUnwritable:
    def test_a_folder_that_cannot_be_made(self, public: Path) -> None:
        if os.geteuid() != 0:
            public.chmod(0o555)
        with unprivileged(public):
            error = refused(lambda: LocalStateStore(public / "new" / "state.db"))
        assert error.code == "state_unwritable"
        assert str(public / "new" / "state.db") in error.message

    def test_a_folder_that_cannot_be_entered(self, public: Path) -> None:
        (public / "closed").mkdir(mode=0o000)
        with unprivileged(public):
            assert refused(lambda: LocalStateStore(public / "closed" / "state.db")).code == "state_unwritable"

    def test_a_folder_that_cannot_be_written(self, public: Path) -> None:
        (public / "closed").mkdir(mode=0o555)
        with unprivileged(public):
            assert refused(lambda: LocalStateStore(public / "closed" / "state.db")).code == "state_unwritable"
        assert list((public / "closed").iterdir()) == []

    def test_a_disk_that_takes_no_more(self, tmp_path: Path) -> None:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        try:
            error = refused(lambda: LocalStateStore(tmp_path / "state.db"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert error.code == "state_unwritable"
        assert "free space and file size limits" in str(error.hint)

    def test_a_file_that_cannot_be_read(self, public: Path) -> None:
        LocalStateStore(public / "state.db").close()
        (public / "state.db").chmod(0o000)
        with unprivileged(public):
            assert refused(lambda: LocalStateStore(public / "state.db")).code == "state_unwritable"

    @pytest.mark.parametrize("folder", ["state.db", "file/state.db"])
    def test_a_path_that_cannot_be_a_file(self, tmp_path: Path, folder: str) -> None:
        (tmp_path / "file").write_text("not a folder")
        (tmp_path / "state.db").mkdir()
        assert refused(lambda: LocalStateStore(tmp_path / folder)).code == "state_unwritable"

    @pytest.mark.parametrize("opened", [LocalStateStore, look_at_state])
    def test_a_folder_is_told_as_that(self, tmp_path: Path, opened: Callable[[Path], object]) -> None:
        assert "it is a folder; a state is a file" in refused(lambda: opened(tmp_path)).message

    def test_a_disk_that_is_read_only(self, small_disk: Path) -> None:
        with closing(LocalStateStore(small_disk / "state.db")) as store:
            store.finish(run(1))
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        for name in ("state.db", "other.db", "folder/state.db"):
            assert refused(lambda name=name: LocalStateStore(small_disk / name)).code == "state_unwritable"

    def test_a_disk_without_room_for_the_file(self, small_disk: Path) -> None:
        fill(small_disk / "rest")
        for name in ("state.db", "folder/state.db"):
            error = refused(lambda name=name: LocalStateStore(small_disk / name))
            assert error.code == "state_full"
            assert "free some space" in str(error.hint)

    def test_a_full_disk_and_then_room_again(self, small_disk: Path) -> None:
        store = LocalStateStore(small_disk / "state.db")

        def fill() -> None:
            for number in range(10_000):
                store.finish(run(number))

        assert refused(fill).code == "state_full"
        known = store.count_runs()
        assert known > 0
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        store.finish(run(99_999))
        assert store.count_runs() == known + 1


class TestDamaged:
    def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "state.db").write_text("id,name\n1,x\n" * 100)
        error = refused(lambda: LocalStateStore(tmp_path / "state.db"))
        assert error.code == "state_corrupt"
        assert "only the history of runs is lost" in str(error.hint)
        assert (tmp_path / "state.db").read_text().startswith("id,name")

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        file = self._filled(tmp_path)
        os.truncate(file, file.stat().st_size // 2)
        assert refused(lambda: LocalStateStore(file).history(limit=1_000)).code == "state_corrupt"

    def test_a_file_with_noise_in_it(self, tmp_path: Path) -> None:
        file = self._filled(tmp_path)
        with file.open("r+b") as damaged:
            for offset in range(4096, file.stat().st_size, 4096):
                damaged.seek(offset)
                damaged.write(os.urandom(64))
        assert refused(lambda: LocalStateStore(file).history(limit=1_000)).code == "state_corrupt"

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE scheduled_runs SET streams = '[{'",
            "UPDATE scheduled_runs SET streams = '[{}]'",
            "UPDATE scheduled_runs SET error = '\"words\"'",
            "UPDATE scheduled_runs SET status = 'unheard of'",
            "UPDATE scheduled_runs SET started_at = 'yesterday'",
        ],
    )
    def test_a_row_changed_by_hand(self, tmp_path: Path, change: str) -> None:
        store = LocalStateStore(self._filled(tmp_path))
        with closing(sqlite3.connect(tmp_path / "state.db")) as hand:
            hand.execute(change)
            hand.commit()
        assert refused(store.history).code == "state_corrupt"

    def test_a_file_that_vanished_while_it_was_open(self, tmp_path: Path) -> None:
        store = LocalStateStore(self._filled(tmp_path))
        (tmp_path / "state.db").unlink()
        assert refused(store.history).code == "state_unwritable"
        assert not (tmp_path / "state.db").exists()

    def test_a_file_that_was_removed_takes_its_log_with_it(self, tmp_path: Path) -> None:
        """A killed process leaves a log behind: it is not the next file's."""
        killed = LocalStateStore(tmp_path / "state.db")
        killed.finish(run(1))
        assert (tmp_path / "state.db-wal").stat().st_size > 0
        (tmp_path / "state.db").unlink()
        with closing(LocalStateStore(tmp_path / "state.db")) as store:
            assert list(store.history()) == []
            store.finish(run(2))
        assert len(list(LocalStateStore(tmp_path / "state.db").history())) == 1

    def test_another_file_in_the_place_of_the_one_that_was_open(self, tmp_path: Path) -> None:
        store = LocalStateStore(self._filled(tmp_path))
        assert store.count_runs() == 100
        (tmp_path / "state.db").unlink()
        with closing(LocalStateStore(tmp_path / "state.db")) as other:
            other.finish(run(1))
        assert store.count_runs() == 1

    def test_an_empty_file(self, tmp_path: Path) -> None:
        os.truncate(self._filled(tmp_path), 0)
        assert refused(lambda: LocalStateStore(tmp_path / "state.db")).code == "state_corrupt"

    def test_a_filesystem_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stand-in for FAT: what it says to link(2)."""

        def no_links(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", no_links)
        self._filled(tmp_path)
        assert len(list(LocalStateStore(tmp_path / "state.db").history(limit=1000))) == 100

    def test_a_file_that_nothing_was_written_to_is_not_an_empty_one(self, tmp_path: Path) -> None:
        LocalStateStore(tmp_path / "state.db").close()  # as one killed here leaves it
        assert [file.name for file in tmp_path.iterdir()] == ["state.db"]
        assert list(LocalStateStore(tmp_path / "state.db").history()) == []

    @staticmethod
    def _filled(folder: Path) -> Path:
        with closing(LocalStateStore(folder / "state.db")) as store:
            for number in range(100):
                store.finish(run(number))
        return folder / "state.db"


class TestLiveness:
    def test_a_lease_that_cannot_be_renewed_is_lost(self, tmp_path: Path) -> None:
        store = LocalStateStore(tmp_path / "state.db", times=LeaseTimes(0.05, 0.4))
        with (
            store.lease("shop", triggered_by="t", destination=None) as lease,
            closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            deadline = time.monotonic() + 30
            while not lease.lost():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            other.execute("ROLLBACK")

    @pytest.mark.skipif(this_process().place is None, reason="only Linux tells boots apart")
    def test_a_clock_set_forward_frees_no_lease_of_this_host(self, tmp_path: Path) -> None:
        store = LocalStateStore(tmp_path / "state.db")
        with store.lease("shop", triggered_by="t", destination=None):
            self._change(tmp_path, "heartbeat_at = '2001-01-01 00:00:00.000000'")
            with pytest.raises(LockedError):
                store.lease("shop", triggered_by="t", destination=None).__enter__()

    @pytest.mark.parametrize(
        ("heartbeat", "free"), [(-3600, True), (-20, False), (20, False), (3600 * 24 * 365, True)]
    )
    def test_a_lease_of_another_host_is_judged_by_the_wall_clock(
        self, tmp_path: Path, heartbeat: int, free: bool
    ) -> None:
        """One that is ahead was written before the clock was set back, maybe before the host was started."""
        at = (datetime.now(UTC) + timedelta(seconds=heartbeat)).replace(tzinfo=None)
        store = LocalStateStore(tmp_path / "state.db")
        with store.lease("shop", triggered_by="t", destination=None) as lease:
            self._change(
                tmp_path,
                "host = 'elsewhere', pid = 4194305, place = 'elsewhere', "
                f"heartbeat_at = '{at.isoformat(sep=' ', timespec='microseconds')}'",
            )
            states = {run.status for run in store.history()}
            assert states == {RunStatus.INTERRUPTED if free else RunStatus.RUNNING}
            (recorded,) = store.history()
            if heartbeat == -3600:  # before its start: clocks differ, and no run ends before it began
                assert recorded.completed_at == lease.run.started_at
            if free:
                assert recorded.completed_at is not None
                assert recorded.completed_at <= datetime.now(UTC)

    @staticmethod
    def _change(folder: Path, assignment: str) -> None:
        with closing(sqlite3.connect(folder / "state.db")) as hand:
            hand.execute(f"UPDATE leases SET {assignment}")
            hand.commit()
