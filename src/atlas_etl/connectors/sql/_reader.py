"""The one SQL reader: a connector that opens extracts of its streams. Dialects say how."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from msgspec.structs import replace

from atlas_etl.connectors.base import BaseConnector, Config
from atlas_etl.connectors.sql._examined import examined
from atlas_etl.connectors.sql._extract import SqlExtract
from atlas_etl.connectors.sql._late import COUNTED
from atlas_etl.connectors.sql._look import Look
from atlas_etl.connectors.sql._source import Dialect, Snapshot
from atlas_etl.model import (
    ColumnInfo,
    Examination,
    Finding,
    ReadRequest,
    Severity,
    Stream,
    StreamInfo,
    Watermark,
)

_LOOKS, _PAUSE = 10, timedelta(seconds=0.2)  # how long a first read waits for those that write to end


class SqlConnector(BaseConnector[Config], ABC):
    """Reads any SQL system that offers snapshots and a dialect."""

    dialect: Dialect

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open a read-only snapshot, sessions pinned to UTC. Raises SourceError."""

    def look(self, *, first: bool) -> AbstractContextManager[Snapshot] | None:  # noqa: ARG002
        """Open a snapshot for a watermark, the stream's first or one more; None where none is needed.

        One more must be as good as `snapshot`: it is read where nothing has come since the last watermark.
        """
        return None

    def looking(self) -> AbstractContextManager[Look] | None:
        """Open what the system is examined by; None where nothing is known of it but how it is read."""
        return None

    def examine(self, examination: Examination) -> Iterator[Finding]:
        looking = self.looking()
        if looking is None:
            message = f"nothing but its connection can be looked at: {self.protocol} has no such checks yet"
            yield Finding("server", "source", Severity.NOTE, message)
            return
        with looking as look:
            yield from examined(look, examination)

    def describe(self, stream: Stream) -> StreamInfo:
        with self.snapshot() as snapshot:
            relation = snapshot.relation(replace(stream, partitions=1))
        return StreamInfo(
            stream.name,
            tuple(ColumnInfo(column.name, column.native, column.nullable) for column in relation.columns),
            primary_key=stream.primary_key or relation.primary_key,
            estimated_rows=relation.estimated_rows,
        )

    @contextmanager
    def open(self, request: ReadRequest) -> Iterator[SqlExtract]:
        """A snapshot; of a stream without a watermark yet, one that its first watermark is old enough for."""
        found: tuple[Watermark, ...] = ()
        looking = self._looking(request)
        if looking is not None:
            with looking as before:
                extract = SqlExtract(self.dialect, before, _look_of(request))
                watermark = extract.watermark()
                if request.watermarks and watermark is not None and watermark.high == request.past:
                    yield extract
                    return
            found = (watermark,) if watermark is not None else ()
        later = replace(request, watermarks=(*request.watermarks, *found))
        # Ranges may take a lock to find: only those that are read are asked for.
        waiting = (
            replace(later, stream=replace(request.stream, partitions=1))
            if request.stream.connections > 1
            else later
        )
        left = _LOOKS if found and not request.watermarks else 1
        while True:
            left -= 1
            with self.snapshot() as snapshot:
                extract = SqlExtract(self.dialect, snapshot, waiting if left else later)
                is_settled = not timedelta() < extract.unsettled < _LOOKS * _PAUSE
                if not left or (is_settled and waiting == later):
                    yield extract
                    return
            if is_settled:
                left = 1
            else:
                time.sleep(_PAUSE.total_seconds())

    def _looking(self, request: ReadRequest) -> AbstractContextManager[Snapshot] | None:
        """A look at how far cursors are given out before the snapshot; None for cursors that are times."""
        is_clocked = request.since is not None and request.since.kind not in COUNTED
        if request.limit is not None or request.stream.cursor is None or is_clocked:
            return None
        return self.look(first=not request.watermarks)


def _look_of(request: ReadRequest) -> ReadRequest:
    """What to ask of a look: its greatest cursor, and, where that is the last watermark's, all the rows.

    A load that reaches no further than the one before it has no windows.
    """
    if request.watermarks:
        return replace(request, window=None)
    return replace(request, since=None, limit=0)
