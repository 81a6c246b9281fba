"""Executes a prepared SELECT on PyMySQL's own connection and reads the answer's bytes, not looked at.

The connection is shut for writing after the command, so that the server closes it behind the last byte: the
end needs no search among the packets.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

import pymysql
from pymysql.constants import COMMAND

_PIECE = 1 << 20
_EOF, _EOF_BYTES = 0xFE, 5


def main() -> None:
    """Raises RuntimeError where the answer ends without an EOF packet: the server's error, or half of it."""
    told = json.loads(os.environ["BENCHMARK"])
    where = told["source"]
    connection: Any = pymysql.connect(
        host=where["host"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
        database=where["database"],
        charset="utf8mb4",
    )
    connection._execute_command(COMMAND.COM_STMT_PREPARE, f"SELECT * FROM {told['table']}")
    (statement, columns) = struct.unpack_from("<IH", connection._read_packet().get_all_data(), 1)
    for _ in range(columns + 1):  # definitions, and their end
        connection._read_packet()
    connection._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1))
    connection._sock.shutdown(socket.SHUT_WR)
    buffer = bytearray(_PIECE)
    last = b""
    while size := connection._sock.recv_into(buffer):
        last = (last + buffer[max(0, size - 16) : size])[-16:]
    if last[-_EOF_BYTES] != _EOF:
        raise RuntimeError("the answer does not end as one should")


main()
