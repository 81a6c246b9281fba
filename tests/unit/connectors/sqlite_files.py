"""SQLite files that tests make behind Atlas's back, and what Atlas reads from them.

Python's own sqlite3 makes them, and is closed before Atlas opens them; while Atlas has a file open, only
another process may write to it, because two copies of SQLite in one drop each other's locks.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa

from atlas_etl.connectors.sql._sqlite.reader import SqliteConnector
from atlas_etl.connectors.sql.sqlite import ADAPTER
from atlas_etl.model import BatchLimits, Checkpoint, CursorValue, ReadRequest, Stream


def make(path: Path, *statements: str, rows: Sequence[Sequence[object]] = (), into: str = "t") -> None:
    """Run statements, then insert rows."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        for row in rows:
            connection.execute(f"INSERT INTO {into} VALUES ({', '.join('?' * len(row))})", tuple(row))


def connector(path: Path | str, **options: object) -> SqliteConnector:
    config = ADAPTER.connection.model_validate({"database_path": str(path), "options": options})
    return SqliteConnector(config, protocol="sqlite")


def read(
    path: Path,
    stream: Stream,
    *,
    since: CursorValue | None = None,
    limit: int | None = None,
    limits: BatchLimits | None = None,
) -> tuple[pa.Table, Checkpoint | None]:
    """Every row, and the checkpoint."""
    request = ReadRequest(stream, since=since, limit=limit, limits=limits or BatchLimits())
    with connector(path).open(request) as extract:
        table = pa.Table.from_batches(extract.batches(), schema=extract.schema)
        table.validate(full=True)
        return table, extract.checkpoint()


def column(path: Path, name: str = "c", *, query: str | None = None, **stream: object) -> pa.ChunkedArray:
    """One column of the table `t`, or of a query."""
    source = {"query": query} if query else {"table": "t"}
    return read(path, Stream("s", **source, **stream))[0].column(name)


_OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
for line in sys.stdin:
    try:
        connection.execute(line)
        print("done", flush=True)
    except sqlite3.Error as failure:
        print(failure, flush=True)
"""


class OtherProcess:
    """Another program that has the file open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def execute(self, statement: str) -> str:
        """`done`, or what SQLite said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def other_process(path: Path) -> Iterator[OtherProcess]:
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield OtherProcess(process)
        assert process.stdin is not None
        process.stdin.close()
