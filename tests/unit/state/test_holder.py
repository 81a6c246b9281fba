"""Who runs this process, and whether another is certainly gone, from real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from atlas_etl.state.holder import Holder, has_ended, this_process, this_user

pytestmark = pytest.mark.skipif(
    this_process().place is None, reason="only Linux tells boots and namespaces apart"
)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Holder]]:
    """A real process, and how it describes itself."""
    script = (
        "from atlas_etl.state.holder import *; import sys; print(repr(this_process()), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, eval(process.stdout.readline(), {"Holder": Holder})
        process.kill()


def test_this_process_runs() -> None:
    assert not has_ended(this_process(), this_process())
    assert this_process().pid == os.getpid()


def test_a_killed_process_has_ended_before_and_after_it_is_reaped(
    other: tuple[subprocess.Popen[str], Holder],
) -> None:
    process, holder = other
    assert not has_ended(holder, this_process())
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert has_ended(holder, this_process())
    process.wait()
    assert has_ended(holder, this_process())


def test_a_later_process_with_the_same_pid_is_another_one() -> None:
    me = this_process()
    assert me.started is not None
    assert has_ended(replace(me, started=me.started - 1), me)


def test_nothing_is_known_from_another_place() -> None:
    gone = Holder("elsewhere", 2**22 + 1, "another boot pid:[1]", 1)
    assert not has_ended(gone, this_process())
    assert has_ended(replace(gone, place=this_process().place), this_process())
    assert not has_ended(replace(gone, place=None), replace(this_process(), place=None))


def test_a_user_without_an_account_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 987_654_321)
    monkeypatch.setenv("LOGNAME", "somebody else")
    assert this_user() == f"987654321@{os.uname().nodename}"
