"""Bytes that are no whole result: cut short, with a packet missing, or not what their columns say."""

from __future__ import annotations

import io
import struct

import numpy as np
import pyarrow as pa
import pymysql
import pytest
from pymysql.constants import CR, ER, FIELD_TYPE, FLAG

from atlas_etl.connectors.sql._mysql.cells import SLACK
from atlas_etl.connectors.sql._mysql.decode import decode_rows
from atlas_etl.connectors.sql._mysql.packets import Packets
from atlas_etl.connectors.sql._mysql.types import Column, arrow_schema
from atlas_etl.model import BatchLimits


class Dribble(io.RawIOBase):
    """A connection that gives its bytes a few at a time, and then ends."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data = data
        self.step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        taken, self.data = self.data[: self.step], self.data[self.step :]
        buffer[: len(taken)] = taken
        return len(taken)


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload) | (number & 0xFF) << 24) + payload


EOF = b"\xfe\x00\x00\x02\x00"
RECORDED = [b"\x00\x00" + bytes([size]) + b"v" * size for size in (0, 1, 20, 250, 3)]


def spans(data: bytes, step: int, *, first: int = 254) -> tuple[list[bytes], bytes | None, bool]:
    packets = Packets(io.BufferedReader(Dribble(data, step)), first, BatchLimits())
    found: list[bytes] = []
    last = None
    while last is None:
        starts, ends, last = packets.rows(2)
        found += [bytes(packets.buffer[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    return found, last, packets.out_of_step


def stream(payloads: list[bytes]) -> bytes:
    return b"".join(packet(254 + index, payload) for index, payload in enumerate(payloads))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 10_000])
def test_rows_are_the_same_however_they_are_cut_by_the_network(step: int) -> None:
    assert spans(stream([*RECORDED, EOF]), step) == (RECORDED, EOF, False)


def test_a_connection_that_ends_anywhere_before_the_end_is_an_error() -> None:
    whole = stream([*RECORDED, EOF])
    for cut in range(len(whole)):
        with pytest.raises(pymysql.err.OperationalError) as caught:
            spans(whole[:cut], 10_000)
        assert caught.value.args[0] == CR.CR_SERVER_LOST


def test_a_missing_packet_is_an_error() -> None:
    whole = [packet(254 + index, payload) for index, payload in enumerate([*RECORDED, EOF])]
    for missing in range(len(whole) - 1):
        with pytest.raises(pymysql.err.InternalError, match="missing"):
            spans(b"".join(whole[:missing] + whole[missing + 1 :]), 10_000)


def test_a_server_that_shuts_down_says_why_out_of_turn() -> None:
    farewell = packet(
        0, b"\xff" + struct.pack("<H", ER.SERVER_SHUTDOWN) + b"#08S01Server shutdown in progress"
    )
    with pytest.raises(pymysql.err.OperationalError, match="shutdown") as caught:
        spans(stream(RECORDED) + farewell, 10_000)
    assert caught.value.args[0] == ER.SERVER_SHUTDOWN


def test_bytes_after_the_end_are_noticed() -> None:
    assert spans(stream([*RECORDED, EOF]) + b"\x01", 10_000) == (RECORDED, EOF, True)


def _decoded(payloads: list[bytes], *columns: Column) -> pa.RecordBatch:
    ends = np.cumsum([len(payload) for payload in payloads])
    starts = np.concatenate([[0], ends[:-1]])
    buffer = bytearray(b"".join(payloads) + bytes(SLACK))
    return decode_rows(buffer, starts, ends, arrow_schema(columns), columns)[0]


_NUMBER = Column("n", FIELD_TYPE.LONG, 63, 11, 0, 0)
_WORD = Column("w", FIELD_TYPE.VAR_STRING, 45, 80, 0, 0)
_DAY = Column("d", FIELD_TYPE.DATETIME, 63, 26, 0, 6)
_FLAG = Column("b", FIELD_TYPE.BIT, 63, 3, FLAG.UNSIGNED, 0)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (_NUMBER, b"\1\2\3"),
        (_NUMBER, b"\1\2\3\4\5"),
        (_WORD, b""),
        (_WORD, b"\3ab"),
        (_WORD, b"\1ab"),
        (_WORD, b"\xfb" + b"x" * 251),
        (_WORD, b"\xff" + b"x" * 255),
        (_WORD, b"\xfd\xff\xff\xff"),
        (_WORD, b"\xfe" + (2**64 - 1).to_bytes(8, "little")),
        (_WORD, b"\xfe" + (2**62).to_bytes(8, "little")),
        (_WORD, b"\xfe" + (2**63 - 1).to_bytes(8, "little")),
        (_DAY, b"\5\xe8\7\1\1\0"),
        (_DAY, b"\4\xe8\7\1"),
        (_FLAG, b"\2\0\1"),
    ],
)
def test_rows_that_are_not_what_their_columns_say_are_refused(column: Column, cell: bytes) -> None:
    whole = {_NUMBER: b"\0\0\1\0\0\0", _WORD: b"\0\0\2ab", _DAY: b"\0\0\4\xe8\7\1\1", _FLAG: b"\0\0\1\3"}[
        column
    ]
    assert _decoded([whole, whole], column).num_rows == 2
    for payloads in ([b"\0\0" + cell], [whole, b"\0\0" + cell], [b"\0\0" + cell, whole], [whole, b"\0"]):
        with pytest.raises(pymysql.err.InternalError):
            _decoded(payloads, column)
