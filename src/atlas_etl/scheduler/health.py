"""Answers to whoever asks over HTTP how a scheduler is: /healthz, /readyz and /metrics.

`/healthz`: its loop turns; else it should be started anew. `/readyz`: it reaches its state store and begins
runs. Nothing here tells of rows, and nothing can be changed from here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self

from atlas_etl.errors import AtlasError, UsageError
from atlas_etl.scheduler.metrics import CONTENT_TYPE
from atlas_etl.scheduler.vitals import Vitals

_TEXT = "text/plain; charset=utf-8"

Answer = tuple[int, str, bytes]


class HealthServer:
    """A server in a thread of its own, until its block is left."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        vitals: Callable[[], Vitals],
        ask_store: Callable[[], object],
        metrics: Callable[[], bytes],
    ) -> None:
        """Port 0 is any free one. Raises UsageError (`health_port`) where it cannot be had.

        `ask_store` and `metrics` raise StateError where the store does not answer.
        """
        answers: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: _alive(vitals()),
            "/readyz": lambda: _ready(vitals(), ask_store),
            "/metrics": lambda: (200, CONTENT_TYPE, metrics()),
        }
        handler = type("Handler", (_Handler,), {"answers": answers})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as failure:
            raise UsageError(
                f"{host}:{port} cannot be listened on: {getattr(failure, 'strerror', None) or failure}",
                hint="another process may have it; choose another --health-port",
                code="health_port",
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="atlas-health", daemon=True, kwargs={"poll_interval": 0.5}
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _alive(found: Vitals) -> Answer:
    if found.is_alive:
        return 200, _TEXT, b"ok\n"
    return 503, _TEXT, f"the loop has not turned for {found.seconds_since_turn:.0f} s\n".encode()


def _ready(found: Vitals, ask_store: Callable[[], object]) -> Answer:
    if found.is_alive and found.is_ready:
        ask_store()  # the loop may have slept since it went away
        return 200, _TEXT, b"ok\n"
    return 503, _TEXT, b"the state store did not answer, or the scheduler is stopping\n"


class _Handler(BaseHTTPRequestHandler):
    answers: ClassVar[Mapping[str, Callable[[], Answer]]]
    timeout = 10  # seconds, for whoever opens a connection and asks nothing

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        try:
            status, kind, body = answer() if answer else (404, _TEXT, b"/healthz, /readyz, /metrics\n")
        except AtlasError as failure:
            status, kind, body = 503, _TEXT, f"{failure.message}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Who asks is of no interest."""
