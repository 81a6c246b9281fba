"""What systemd hears, on sockets as it makes them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from atlas_etl.scheduler import notify
from atlas_etl.scheduler.notify import ServiceManager


@pytest.mark.parametrize("abstract", [False, True])
def test_assignments_arrive(tmp_path: Path, abstract: bool) -> None:
    if abstract and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    name = f"@atlas-{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name[1:]}" if abstract else name)
        heard.settimeout(5)
        manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
        manager.tell("READY=1", "STATUS=5 connectors scheduled")
        assert heard.recv(4096) == b"READY=1\nSTATUS=5 connectors scheduled"
        assert manager.watchdog_seconds == 30


def test_a_supervisor_that_no_longer_reads_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system keeps some notices for it, ten by default, and has the sender of the next one wait."""
    monkeypatch.setattr(notify, "_PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):
            manager.tell(f"STATUS={'x' * 1000}")
        deaf.settimeout(5)
        assert deaf.recv(4096).startswith(b"STATUS=")


def test_nobody_listens(tmp_path: Path) -> None:
    ServiceManager({}).tell("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    assert ServiceManager({"WATCHDOG_USEC": "soon"}).watchdog_seconds is None
