"""An API on loopback: `GET /events?page=N` answers with 1,000 records of a file of JSON lines, made ready.

Called with the file; prints its port when it listens, and ends with its standard input.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_RECORDS = 1_000


class _Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many pages
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    pages: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        (asked,) = parse_qs(urlsplit(self.path).query).get("page", ["1"])
        number = int(asked)
        body = self.pages[number - 1] if number <= len(self.pages) else b'{"data": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def main(file: Path) -> None:
    made = []
    with file.open("rb") as lines:
        while page := list(islice(lines, _RECORDS)):
            made.append(b'{"data": [' + b",".join(page) + b"]}")
    _Pages.pages = tuple(made)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


main(Path(sys.argv[1]))
