"""The packets of a MySQL result, received in large pieces and found as spans of one buffer.

A packet is a 3-byte length, a sequence number, and that many bytes; a row of 2^24-1 bytes or more goes on
in the next packet, up to the first that is shorter (MySQL source documentation, "MySQL Packets",
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html).
"""

from __future__ import annotations

import struct
from io import BufferedReader

import numpy as np
from pymysql import err
from pymysql.constants import CR

from atlas_etl.connectors.sql._mysql.cells import SLACK, Ints
from atlas_etl.model import BatchLimits

_FULL_PACKET = 0xFF_FF_FF
_HEADER = struct.Struct("<I")  # the length in its lower 24 bits
_RECEIVE = 256 * 1024  # the least room for a read; more than Python's own read buffer
_PIECE = 1024 * 1024  # decoded while the next is on its way: larger ones leave the server waiting
_PIECE_ROWS = 4096  # enough to make what a column costs small beside what its cells cost
_BUFFER = 4 * _PIECE
_FIRST_BUFFER = 2 * _RECEIVE  # most answers are a few rows, and a buffer's memory is cleared before its use
_LARGEST_BATCH = 256 * 1024 * 1024  # with a row of at most 1 GiB (max_allowed_packet) it stays below 2 GiB


class Packets:
    """The rows of one result as packets in a buffer, which is filled by large reads and used again.

    `source` is PyMySQL's buffered reader and `sequence` the number that the first packet must have.
    """

    def __init__(self, source: BufferedReader, sequence: int, limits: BatchLimits) -> None:
        self._source = source
        self._begun = False
        self._sequence = sequence
        self._most_rows = 0
        self._most_bytes = min(max(1, limits.bytes), _LARGEST_BATCH)
        self.buffer = bytearray(_FIRST_BUFFER)
        self._base = 0  # where the batch begins
        self._scanned = 0  # where the first incomplete row begins
        self._filled = 0  # where the received bytes end
        self._heads: list[int] = []  # headers of the batch's rows
        self._continued: list[int] = []  # headers inside of them
        self.out_of_step = False
        """Whether the server sent something after the end of the result."""

    def rows(self, most: int) -> tuple[Ints, Ints, bytes | None]:
        """Where the next rows begin and end in `buffer`, until the next call; and the packet after the last.

        They are at most `most`, and no more than is worth to decode at once. That packet is None while
        there may be more rows. Raises OperationalError where the connection ends before the result does,
        InternalError where packets are missing.
        """
        self._most_rows = most
        needed = _PIECE + _RECEIVE + SLACK
        if len(self.buffer) > 2 * self._most_bytes + _BUFFER:  # there was a very large row
            self._rebase(max(_BUFFER, self._filled - self._base + needed))
        elif self._begun and len(self.buffer) - self._base < needed:
            self._rebase(max(len(self.buffer), _BUFFER, self._filled - self._base + needed))
        self._scan()
        while not self._heads or not self._enough():
            self._receive()
            self._scan()
        heads = np.array(self._heads, np.int64)
        ends = np.append(heads[1:], self._scanned)
        continued = np.array(self._continued, np.int64)
        self._check_sequence(np.sort(np.append(heads, continued)))
        self._base = self._scanned
        self._heads, self._continued = [], []
        last = None
        others = np.flatnonzero(np.frombuffer(self.buffer, np.uint8)[heads + 4])
        if len(others):
            first = others[0]
            last = bytes(self.buffer[heads[first] + 4 : ends[first]])
            self.out_of_step = bool(ends[first] != self._filled)
            heads, ends = heads[:first], ends[:first]
        if len(continued):
            heads, ends = self._join(heads, ends, continued)
        return heads + 4, ends, last

    def _enough(self) -> bool:
        rows, size = len(self._heads), self._scanned - self._base
        return (
            rows == self._most_rows
            or size >= self._most_bytes
            or (size >= _PIECE and rows >= _PIECE_ROWS)
            or self.buffer[self._heads[-1] + 4] != 0  # rows begin with 0: this is the end of the result
        )

    def _room(self) -> int:
        return len(self.buffer) - SLACK - self._filled

    def _scan(self) -> None:
        """Find the rows that have arrived. Python loops over them, since each length leads to the next."""
        buffer, unpack, add = self.buffer, _HEADER.unpack_from, self._heads.append
        filled, position = self._filled, self._scanned
        last = min(filled - 4, self._base + self._most_bytes - 1)
        for _ in range(self._most_rows - len(self._heads)):
            if position > last:
                break
            size = unpack(buffer, position)[0] & _FULL_PACKET
            after = position + 4 + size
            if size == _FULL_PACKET:
                after = self._scan_continued(after)
            if after > filled:
                break
            add(position)
            position = after
        self._scanned = position

    def _scan_continued(self, position: int) -> int:
        """Where a row that goes on in the packet at this position ends; past what was received if unknown."""
        headers = []
        while position <= self._filled - 4:
            headers.append(position)
            size = _HEADER.unpack_from(self.buffer, position)[0] & _FULL_PACKET
            position += 4 + size
            if size < _FULL_PACKET:
                if position <= self._filled:
                    self._continued += headers
                return position
        return self._filled + 1

    def _check_sequence(self, packets: Ints) -> None:
        numbers = np.frombuffer(self.buffer, np.uint8)[packets + 3]
        expected = (self._sequence + np.arange(len(packets))) & 0xFF
        self._sequence = (self._sequence + len(packets)) & 0xFF
        wrong = np.flatnonzero(numbers != expected)
        if not len(wrong):
            return
        start = int(packets[wrong[0]]) + 4
        size = _HEADER.unpack_from(self.buffer, start - 4)[0] & _FULL_PACKET
        packet = bytes(self.buffer[start : start + size])
        if packet[:1] == b"\xff":  # a server that shuts down says so out of turn
            err.raise_mysql_exception(packet)
        raise err.InternalError(CR.CR_MALFORMED_PACKET, "a packet of the result is missing")

    def _join(self, heads: Ints, ends: Ints, continued: Ints) -> tuple[Ints, Ints]:
        """Take the inner headers out of rows of several packets, by moving the bytes between them."""
        view = memoryview(self.buffer)
        stops = [*continued[1:].tolist(), self._scanned]
        for moved, (header, stop) in enumerate(zip(continued.tolist(), stops, strict=True)):
            target = header - 4 * moved
            view[target : target + stop - header - 4] = view[header + 4 : stop]
        return heads - 4 * np.searchsorted(continued, heads), ends - 4 * np.searchsorted(continued, ends)

    def _receive(self) -> None:
        """One read from the connection, of whatever is there; waits while there is nothing."""
        if self._room() < _RECEIVE:
            self._rebase(2 * len(self.buffer))
        with memoryview(self.buffer) as view:
            room = view[self._filled : len(view) - SLACK]
            try:
                if self._begun:
                    received = self._source.raw.readinto(room)
                else:  # the first rows may be in PyMySQL's read buffer; it stays empty after this
                    early = self._source.read1()
                    received = len(early)
                    room[:received] = early
            except OSError as error:
                raise _lost(str(error)) from error
        self._begun = True
        if not received:
            raise _lost("it was closed before the result ended")
        self._filled += received

    def _rebase(self, size: int) -> None:
        """Bring the batch to the front of a buffer of this size."""
        base = self._base
        batch = memoryview(self.buffer)[base : self._filled]
        if size != len(self.buffer):
            self.buffer = bytearray(size)
        memoryview(self.buffer)[: len(batch)] = batch
        self._heads = [head - base for head in self._heads]
        self._continued = [header - base for header in self._continued]
        self._base, self._scanned, self._filled = 0, self._scanned - base, self._filled - base


def _lost(why: str) -> err.OperationalError:
    return err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({why})")
