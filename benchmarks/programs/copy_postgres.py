"""PostgreSQL to PostgreSQL as a page of psycopg: the blocks of one COPY are written into another."""

from __future__ import annotations

import json
import os

import psycopg

_BLOCK = 1 << 18


def main() -> None:
    told = json.loads(os.environ["BENCHMARK"])
    table = told["table"]
    with _connect(told["source"]) as source, _connect(told["destination"]) as destination:
        destination.execute(f"CREATE TABLE {table} ({told['columns']})")
        with (
            source.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)") as rows,
            destination.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as written,
        ):
            block = bytearray()
            while piece := rows.read():
                block += piece
                if len(block) > _BLOCK:
                    written.write(bytes(block))
                    block.clear()
            written.write(bytes(block))


def _connect(where: dict[str, str]) -> psycopg.Connection:
    return psycopg.connect(
        host=where["host"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
        dbname=where["database"],
    )


main()
