"""Fetching rows: one SELECT at a time, and small pieces of its rows gathered into batches."""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import suppress
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, socket

import pyarrow as pa

from atlas_etl.connectors.sql._source import Select
from atlas_etl.model import BatchLimits, HazardCells

Batches = Generator[tuple[pa.RecordBatch, Sequence[HazardCells]], None, None]


def hang_up(descriptor: int) -> None:
    """End a connection that another thread may be waiting on: that one sees its end.

    The server sees it when the connection is closed: without a linger of no seconds, one that waits for room
    to send would wait until the system forgets the connection, a minute on Linux (tcp_fin_timeout).
    """
    with suppress(OSError), socket(fileno=os.dup(descriptor)) as connection:
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(SHUT_RDWR)


def gathered(pieces: Batches, limits: BatchLimits) -> Batches:
    """The pieces' rows in batches of about `limits`; a piece that holds hazards stays one of its own."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for piece, hazards in pieces:
        full = size + piece.nbytes > limits.bytes or rows + piece.num_rows > limits.rows
        if held and (hazards or full):
            yield pa.concat_batches(held), ()
            held, rows, size = [], 0, 0
        if hazards:
            yield piece, hazards
        elif piece.num_rows:
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
    if held:
        yield pa.concat_batches(held), ()


class OneFetchAtATime(ABC):
    """Ends a SELECT that was left in its middle, whoever holds its iterator still (_source.Snapshot)."""

    _fetching: Batches | None = None

    @abstractmethod
    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        """The rows, as `fetch` gives them."""

    def fetch(self, select: Select, limits: BatchLimits) -> Batches:
        self.close()
        self._fetching = self.fetched(select, limits)
        return self._fetching

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.close()
