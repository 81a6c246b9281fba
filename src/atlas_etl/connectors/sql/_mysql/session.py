"""One session on MySQL or MariaDB, its settings pinned; every call translates the driver's errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

import pyarrow as pa
import pymysql

from atlas_etl.connectors.sql._lock_waits import watch
from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.errors import translated
from atlas_etl.connectors.sql._mysql.load_data import send_rows
from atlas_etl.connectors.sql._mysql.parameters import Parameter
from atlas_etl.connectors.sql._mysql.prepared import describe_query, execute_statement, hang_up_client
from atlas_etl.connectors.sql._mysql.types import Column
from atlas_etl.connectors.sql._mysql.waits import Waits
from atlas_etl.connectors.sql._mysql.wire import QueryResult, stream_query
from atlas_etl.model import BatchLimits, HazardCells

Batches = Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]

READING = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
# What is written is kept as it is or refused: no zero in the place of a date, no next number in that of 0.
WRITING = (
    "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_AUTO_VALUE_ON_ZERO"
)
# How values are written and read, and what an administrator's defaults could take away from a result.
_PINNED = {
    "time_zone": "'+00:00'",
    "sql_select_limit": str(2**64 - 1),
    "sql_auto_is_null": "0",
    "sql_safe_updates": "0",
    "sql_big_selects": "1",
    "sql_quote_show_create": "1",  # the catalog's checks name their columns in quotes
    "completion_type": "0",
    "default_storage_engine": "InnoDB",
    "net_read_timeout": "3600",  # the other end of a transfer may be slow
    "net_write_timeout": "3600",
    "wait_timeout": "28800",
}


class Session:
    """A connection to one server, whose failures raise the server's `kind`."""

    def __init__(self, server: Server, *, sql_mode: str) -> None:
        self._kind = server.kind
        self._client = server.open_client()
        self._waits = Waits(server, self._client)
        watch(self._waits)
        waits = str(server.config.lock_timeout)
        settings = {
            **_PINNED,
            "sql_mode": f"'{sql_mode}'",
            "lock_wait_timeout": waits,
            "innodb_lock_wait_timeout": waits,
        }
        try:
            self.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.run("SET SESSION " + ", ".join(f"{name} = {value}" for name, value in settings.items()))
        except BaseException:
            self.close()
            raise

    @cached_property
    def version(self) -> str:
        """`MariaDB 10.11.6` or `MySQL 8.4.3`."""
        ((text,),) = self.rows("SELECT VERSION()")
        return version_of(text)

    @property
    def is_mariadb(self) -> bool:
        return self.version.startswith("MariaDB")

    def run(self, sql: str, parameters: Sequence[Parameter] = ()) -> int:
        """A statement that gives no rows; how many warnings it gave."""
        with self._translated():
            if parameters:
                return execute_statement(self._client, sql, parameters)[1]
            self._client.query(sql)
            return 0

    def insert(self, statement: bytes) -> int:
        """A statement whose values are written in it; how many warnings it gave."""
        with self._translated(), self._client.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.warning_count)

    def load(self, statement: bytes, texts: Sequence[memoryview], most: int) -> tuple[int, int]:
        """LOAD DATA LOCAL of these rows: how many it added, and how many warnings it gave."""
        with self._translated():
            return send_rows(self._client, statement, texts, most)

    def warnings(self) -> list[tuple[int, str]]:
        """Numbers and texts of what the last statement warned of."""
        with self._translated(), self._client.cursor() as cursor:
            cursor.execute("SHOW WARNINGS")
            return [(int(number), str(text)) for _, number, text in cursor.fetchall()]

    def rows(self, sql: str, parameters: Sequence[Parameter] = ()) -> list[tuple[object, ...]]:
        """A query and all its rows."""
        found: list[tuple[object, ...]] = []
        for batch, _ in self.stream(sql, parameters, BatchLimits()):
            found += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return found

    def describe(self, sql: str) -> tuple[Column, ...]:
        """The columns that a query would give."""
        with self._translated():
            return describe_query(self._client, sql)

    def stream(self, sql: str, parameters: Sequence[Parameter], limits: BatchLimits) -> Batches:
        """A query's rows in batches. Giving up before the last closes the session."""
        with self._translated():
            result = stream_query(self._client, sql, parameters, limits)
        with result:
            while (found := self._next(result)) is not None:
                yield found

    @property
    def is_open(self) -> bool:
        """Whether nothing has closed it: giving a result up does."""
        return bool(self._client.open)

    def hang_up(self) -> None:
        """End the connection under another thread that may be waiting for rows."""
        hang_up_client(self._client)

    def close(self) -> None:
        """Give the connection back; whatever was not committed is undone."""
        with suppress(pymysql.err.Error):
            self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self._kind, self._waits), self._waits.told():
            yield

    def _next(self, result: QueryResult) -> tuple[pa.RecordBatch, Sequence[HazardCells]] | None:
        with translated(self._kind):
            return next(result, None)


def version_of(text: object) -> str:
    """What VERSION() gives, as `Session.version` has it."""
    number = str(text).partition("-")[0]
    return f"{'MariaDB' if 'mariadb' in str(text).lower() else 'MySQL'} {number}"
