"""Rows sent by LOAD DATA LOCAL: as a file of fields that exists on the wire only.

No file is read: the rows follow the statement that asks for them, and whatever else a server asks for is
refused (_mysql.connection). LOCAL makes warnings of what an INSERT would refuse, duplicate keys among it
(https://dev.mysql.com/doc/refman/8.4/en/load-data.html), so whoever sends rows must look at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pymysql
from pymysql import err
from pymysql.constants import COMMAND, CR

from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.prepared import Channel, exchange
from atlas_etl.connectors.sql._mysql.sent import ROWS, is_plain, sent, word

_PACKET = 256 * 1024
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"))


def load_statement(table: str, schema: pa.Schema) -> bytes:
    """The statement after which `field_texts` of rows of this schema are sent."""
    targets, sets = [], []
    for place, field in enumerate(schema):
        is_bytes = pa.types.is_binary(field.type)
        targets.append(f"@c{place}" if is_bytes else quoted(field.name))
        if is_bytes:
            sets.append(f"{quoted(field.name)} = UNHEX(@c{place})")
    text = (
        f"LOAD DATA LOCAL INFILE 'rows of this connection' INTO TABLE {table} CHARACTER SET utf8mb4 "
        f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({', '.join(targets)})"
    )
    return f"{text} SET {', '.join(sets)}".encode() if sets else text.encode()


def field_texts(batch: pa.RecordBatch) -> list[memoryview]:
    """The rows as lines of fields. Raises RefusedRowError for a value that MySQL cannot hold."""
    found = []
    for start in range(0, batch.num_rows, ROWS):
        part = batch.slice(start, ROWS)
        cells = [_fields(column, field.name) for column, field in zip(part.columns, part.schema, strict=True)]
        last = pc.binary_join_element_wise(cells[-1], word("\n"), word(""))
        rows = pc.binary_join_element_wise(*cells[:-1], last, word("\t"))
        _, offsets, data = rows.buffers()
        places = memoryview(offsets).cast("q")
        found.append(memoryview(data)[places[rows.offset] : places[rows.offset + len(rows)]])
    return found


def send_rows(
    connection: pymysql.Connection[Any], statement: bytes, texts: Sequence[memoryview], most: int
) -> tuple[int, int]:
    """How many rows were added, and how many warnings the server has; packets are of at most `most` bytes.

    Raises pymysql.err.MySQLError.
    """
    channel = cast(Channel, connection)
    with exchange(channel):
        channel._execute_command(COMMAND.COM_QUERY, statement)
        if not channel._read_packet().is_load_local_packet():
            raise err.InternalError(CR.CR_MALFORMED_PACKET, "the server does not ask for the rows")
        for piece in _pieces(texts, min(most, _PACKET)):
            channel.write_packet(piece)
        channel.write_packet(b"")
        answer = channel._read_ok_packet()
    return answer.affected_rows, answer.warning_count


def _pieces(texts: Sequence[memoryview], most: int) -> Iterable[bytes]:
    return (bytes(text[at : at + most]) for text in texts for at in range(0, len(text), most))


def _fields(column: pa.Array, name: str) -> pa.Array:
    texts = sent(column, name)
    if not is_plain(column.type):
        for special, escaped in _ESCAPES:
            if pc.any(pc.match_substring(texts, special)).as_py():
                texts = pc.replace_substring(texts, special, escaped)
    return pc.fill_null(texts, word("\\N"))
