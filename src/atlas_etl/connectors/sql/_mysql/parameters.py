"""Values bound to a prepared statement of MySQL or MariaDB, each in the wire type that keeps it exact.

Layout: MySQL source documentation, "COM_STMT_EXECUTE"
(https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_execute.html).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from pymysql.constants import FIELD_TYPE

Parameter = int | float | str | bytes | Decimal | None


def encode_parameters(parameters: Sequence[Parameter], encoding: str) -> bytes:
    """NULL bitmap, types and values, as COM_STMT_EXECUTE ends. Raises TypeError for other values."""
    if not parameters:
        return b""
    nulls = np.packbits([value is None for value in parameters], bitorder="little").tobytes()
    bound = [_bind(value, encoding) for value in parameters]
    kinds = b"".join(struct.pack("<H", kind) for kind, _ in bound)
    return nulls + b"\1" + kinds + b"".join(value for _, value in bound)


def _bind(value: Parameter, encoding: str) -> tuple[int, bytes]:
    """A parameter's wire type (0x8000: unsigned) and bytes."""
    match value:
        case None:
            return FIELD_TYPE.NULL, b""
        case int() if -(2**63) <= value < 2**63:
            return FIELD_TYPE.LONGLONG, struct.pack("<q", value)
        case int() if 0 <= value < 2**64:
            return FIELD_TYPE.LONGLONG | 0x8000, struct.pack("<Q", value)
        case int() | Decimal():
            return FIELD_TYPE.NEWDECIMAL, _length_encoded(format(Decimal(value), "f").encode())
        case float():
            return FIELD_TYPE.DOUBLE, struct.pack("<d", value)
        case str():
            return FIELD_TYPE.VAR_STRING, _length_encoded(value.encode(encoding))
        case bytes():
            return FIELD_TYPE.BLOB, _length_encoded(value)
    raise TypeError(f"a parameter cannot be a {type(value).__name__}")


def _length_encoded(data: bytes) -> bytes:
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    if size < 2**16:
        return b"\xfc" + struct.pack("<H", size) + data
    if size < 2**24:
        return b"\xfd" + struct.pack("<I", size)[:3] + data
    return b"\xfe" + struct.pack("<Q", size) + data
