"""Celery's executor before brokers that answer, and not as brokers do."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("celery")

from kombu.exceptions import OperationalError

from atlas_etl.model import BreakerPolicy, Slot, SlotStatus
from atlas_etl.scheduler.celery_app import app, run_slot
from atlas_etl.scheduler.celery_executor import CeleryExecutor
from atlas_etl.state import MemoryStateStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(
    params=[
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-ERR max number of clients reached\r\n",
        b"*-7\r\n",
        b"$3\r\nabcdef\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        (b"LPUSH", b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        (b"LPUSH", b"*-7\r\n"),
        (b"LPUSH", b"\xff\r\n"),
    ]
)
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers everything with the same, or one command, and all others with OK."""
    command, wrong = request.param if isinstance(request.param, tuple) else (b"", request.param)

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while said := client.recv(65536):
                client.sendall(wrong if command in said else b"+OK\r\n" * said.count(b"*"))

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_breaks_its_protocol_is_one_that_cannot_be_used(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.conf, "broker_url", broker)
    monkeypatch.setattr(app.conf, "broker_write_url", broker)
    monkeypatch.setattr(app, "_pool", None)
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    executor = CeleryExecutor(tmp_path, MemoryStateStore().schedule)
    with pytest.raises(OSError, match="Celery's broker"):
        executor.start(Slot("shop", NOW, SlotStatus.CLAIMED, 0, NOW))


def test_a_task_whose_broker_is_gone_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = SimpleNamespace(id="task-1")
    monkeypatch.setattr(run_slot, "apply_async", lambda _arguments: sent)
    state = MemoryStateStore()
    policy = BreakerPolicy()
    slot = state.schedule.claim("shop", NOW, daemon="d", now=NOW, policy=policy)
    assert slot is not None
    run = CeleryExecutor(tmp_path, state.schedule).start(slot)

    def gone(_task: str) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(app.control, "revoke", gone)
    run.interrupt()
    assert run.poll() == -signal.SIGTERM
