"""A small API on a real socket for tests of the http family, and what a sync of it leaves in DuckDB."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors import registry
from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.connectors.http._settings.connection import HttpConnection
from atlas_etl.contracts import Destination
from atlas_etl.model import ReadRequest, Stream, StreamRun
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer

Answer = Callable[[Request], Response]


@contextmanager
def accepting(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that has each connection answered in turn, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # wakes accept
    thread.join(60)


@dataclass
class Api:
    """What a test's server answers, and what it was asked."""

    server: HTTPServer
    asked: list[Request] = field(default_factory=list)

    def serve(self, path: str | re.Pattern[str], answer: Answer) -> None:
        def noted(request: Request) -> Response:
            self.asked.append(request)
            return answer(request)

        self.server.expect_request(path).respond_with_handler(noted)

    def serve_pages(self, path: str, pages: Sequence[str]) -> None:
        """JSON pages, by `page` from 1 on; an empty one follows."""

        def answer(request: Request) -> Response:
            number = int(request.args.get("page", "1"))
            return as_json(pages[number - 1] if number <= len(pages) else "[]")

        self.serve(path, answer)

    def connector(self, **config: object) -> HttpConnector:
        quick = {"longest_wait": 0.01, "attempts": 3}
        return HttpConnector(
            HttpConnection.model_validate({"base_url": self.server.url_for("/"), **quick, **config})
        )


def as_json(text: str | object, **headers: str) -> Response:
    body = text if isinstance(text, str) else json.dumps(text)
    return Response(body, content_type="application/json", headers=headers)


def read(connector: HttpConnector, stream: Stream) -> pa.Table:
    """Every row, surveyed as a whole."""
    with closing(connector), connector.open(ReadRequest(stream)) as extract:
        return pa.Table.from_batches(extract.batches(), schema=extract.schema)


def warehouse(folder: Path) -> Destination:
    adapter = registry.load("duckdb")
    assert adapter.destination is not None
    made: Destination = adapter.destination(
        adapter.connection.model_validate({"path": str(folder / "warehouse.duckdb")})
    )
    return made


def sync(connector: HttpConnector, folder: Path, stream: Stream) -> StreamRun:
    """One run into DuckDB."""
    with closing(connector), closing(warehouse(folder)) as destination:
        job = Job("run", "api", stream, datetime.now(UTC))
        events = list(transfer(connector, destination, job))
    finished = events[-1]
    assert isinstance(finished, StreamFinished)
    return finished.outcome


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(warehouse(folder)) as destination:
        return [tuple(row.values()) for row in destination.query(sql).to_pylist()]
