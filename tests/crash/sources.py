"""The sources of the harness: two tables each, and writers that commit to them until they are stopped.

What the writers do is what a cursor can see: rows are added, and rows are changed under a cursor that is not
before the instant at which their transaction began. Without a key only rows at the tail are changed,
because an append keeps what a row was before. Several transactions are open at once, are rolled back, commit
in another order than they began in, and share cursor values with each other.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pymysql
from pymysql.cursors import Cursor

from atlas_etl.model import Disposition
from tests.crash.rows import COLUMNS, STREAMS, Row, canonical, some_amount, some_note
from tests.crash.targets import server_keys
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe

_NAMES = ", ".join(COLUMNS)
_KEYS = {
    table: "PRIMARY KEY" if disposition is Disposition.MERGE else "NOT NULL"
    for table, disposition in STREAMS.items()
}


def some_ids(newest: int, dice: random.Random) -> list[int]:
    """Of rows that may be there."""
    return [dice.randint(max(1, newest - 500), newest) for _ in range(5)]


class Source(ABC):
    """The tables of STREAMS; the merged one has the primary key `id`."""

    protocol: str
    writers: int

    def __init__(self) -> None:
        self._ids = iter(range(1, 2**62))
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []

    @abstractmethod
    def connection(self) -> dict[str, object]:
        """The connector's keys in its definition."""

    @abstractmethod
    def add(self, count: int, dice: random.Random) -> None:
        """Commit this many new rows of each table in one transaction."""

    @abstractmethod
    def delete(self, where: str) -> None:
        """Delete rows of the merged table."""

    @abstractmethod
    def rows(self, stream: str) -> list[Row]:
        """Every row of a table that is committed."""

    @abstractmethod
    def _write(self, dice: random.Random, stop: threading.Event) -> None:
        """Commit one transaction after another until told to stop."""

    @contextmanager
    def being_written(self, seed: int) -> Iterator[None]:
        """Writers are at work; they have committed or rolled back when the block is left."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._guarded, args=(random.Random(f"{seed} {number}"), stop))
            for number in range(self.writers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _guarded(self, dice: random.Random, stop: threading.Event) -> None:
        try:
            self._write(dice, stop)
        except BaseException as failure:
            self._failures.append(failure)

    def _new(self, count: int, dice: random.Random) -> list[tuple[int, str, str | None]]:
        with self._lock:
            ids = [next(self._ids) for _ in range(count)]
        return [(row_id, some_amount(dice), some_note(dice)) for row_id in ids]


class PostgresSource(Source):
    """`changed_at timestamptz DEFAULT now()`, which is when the transaction began."""

    protocol = "postgresql"
    writers = 3
    # Later than now, so that transactions share a value and rows of the tail can still be changed.
    _TICK = "to_timestamp(ceil(extract(epoch FROM now()) * 4) / 4)"

    def __init__(self, address: ServerAddress) -> None:
        super().__init__()
        self.address = address
        with postgres_recipe.connect(address) as client:
            for table, key in _KEYS.items():
                client.execute(
                    f"CREATE TABLE {table} (id bigint {key}, changed_at timestamptz NOT NULL DEFAULT now(), "
                    "amount numeric(12,2), note text, version integer NOT NULL DEFAULT 1)"
                )
                client.execute(f"CREATE INDEX ON {table} (changed_at)")

    def connection(self) -> dict[str, object]:
        return server_keys(self.address)

    def add(self, count: int, dice: random.Random) -> None:
        with postgres_recipe.connect(self.address) as client, client.transaction():
            for table in STREAMS:
                self._insert(client, table, count, dice, "now()")

    def delete(self, where: str) -> None:
        with postgres_recipe.connect(self.address) as client, client.transaction():
            client.execute("LOCK TABLE merged IN SHARE ROW EXCLUSIVE MODE")  # no deadlock with writers
            client.execute(f"DELETE FROM merged WHERE {where}")

    def make_older(self) -> None:
        """Put every row an hour back, out of the tail of the syncs that follow."""
        with postgres_recipe.connect(self.address) as client:
            for table in STREAMS:
                client.execute(f"UPDATE {table} SET changed_at = changed_at - interval '1 hour'")

    def rows(self, stream: str) -> list[Row]:
        with postgres_recipe.connect(self.address) as client:
            client.execute("SET TimeZone = 'UTC'")
            return [canonical(row) for row in client.execute(f"SELECT {_NAMES} FROM {stream}").fetchall()]

    def _write(self, dice: random.Random, stop: threading.Event) -> None:
        with postgres_recipe.connect(self.address) as client:
            while not stop.wait(dice.uniform(0, 0.03)):
                table, cursor = dice.choice(list(STREAMS)), dice.choice(["now()", "now()", self._TICK])
                client.execute("BEGIN")
                try:
                    self._insert(client, table, dice.randint(1, 8), dice, cursor)
                    if dice.random() < 0.5:
                        self._change(client, table, dice)
                    stop.wait(dice.uniform(0, 0.05))
                    client.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")
                except psycopg.errors.DeadlockDetected:
                    client.execute("ROLLBACK")

    def _insert(
        self, client: psycopg.Connection, table: str, count: int, dice: random.Random, cursor: str
    ) -> None:
        ids, amounts, notes = zip(*self._new(count, dice), strict=True)
        client.execute(
            f"INSERT INTO {table} (id, changed_at, amount, note) "
            f"SELECT new.id, {cursor}, new.amount, new.note "
            "FROM unnest(%s::bigint[], %s::numeric[], %s::text[]) AS new (id, amount, note)",
            (list(ids), list(amounts), list(notes)),
        )

    def _change(self, client: psycopg.Connection, table: str, dice: random.Random) -> None:
        if STREAMS[table] is Disposition.MERGE:
            newest = client.execute(f"SELECT coalesce(max(id), 1) FROM {table}").fetchall()[0][0]
            client.execute(
                f"UPDATE {table} SET version = version + 1, note = %s, changed_at = {self._TICK} "
                "WHERE id = ANY(%s)",
                (some_note(dice), some_ids(newest, dice)),
            )
        else:
            client.execute(
                f"UPDATE {table} SET version = version + 1 WHERE changed_at >= now() AND id % 2 = 0"
            )


class MySQLSource(Source):
    """`changed_at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6)`, which is when the statement began."""

    protocol = "mysql"
    writers = 3

    def __init__(self, address: ServerAddress) -> None:
        super().__init__()
        self.address = address
        with closing(mysql_recipe.connect(address)) as client, client.cursor() as cursor:
            for table, key in _KEYS.items():
                cursor.execute(
                    f"CREATE TABLE {table} (id bigint {key}, "
                    "changed_at timestamp(6) NOT NULL DEFAULT now(6), amount decimal(12,2), "
                    "note text, version int NOT NULL DEFAULT 1, KEY (changed_at))"
                )

    def connection(self) -> dict[str, object]:
        return server_keys(self.address)

    def add(self, count: int, dice: random.Random) -> None:
        with closing(mysql_recipe.connect(self.address)) as client, client.cursor() as cursor:
            cursor.execute("BEGIN")
            for table in STREAMS:
                self._insert(cursor, table, count, dice)
            cursor.execute("COMMIT")

    def delete(self, where: str) -> None:
        with closing(mysql_recipe.connect(self.address)) as client, client.cursor() as cursor:
            cursor.execute(f"DELETE FROM merged WHERE {where}")

    def rows(self, stream: str) -> list[Row]:
        with closing(mysql_recipe.connect(self.address)) as client, client.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute(f"SELECT {_NAMES} FROM {stream}")
            return [canonical(row) for row in cursor.fetchall()]

    def _write(self, dice: random.Random, stop: threading.Event) -> None:
        with closing(mysql_recipe.connect(self.address)) as client, client.cursor() as cursor:
            while not stop.wait(dice.uniform(0, 0.03)):
                table = dice.choice(list(STREAMS))
                cursor.execute("BEGIN")
                try:
                    self._insert(cursor, table, dice.randint(1, 8), dice)
                    if STREAMS[table] is Disposition.MERGE and dice.random() < 0.5:
                        self._change(cursor, table, dice)
                    stop.wait(dice.uniform(0, 0.05))
                    cursor.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")
                except pymysql.err.OperationalError as failure:
                    if failure.args[0] != 1213:  # ER_LOCK_DEADLOCK
                        raise
                    cursor.execute("ROLLBACK")

    def _insert(self, cursor: Cursor, table: str, count: int, dice: random.Random) -> None:
        rows = self._new(count, dice)
        marks = ", ".join(["(%s, %s, %s)"] * count)
        values = [value for row in rows for value in row]
        cursor.execute(f"INSERT INTO {table} (id, amount, note) VALUES {marks}", values)

    def _change(self, cursor: Cursor, table: str, dice: random.Random) -> None:
        cursor.execute(f"SELECT coalesce(max(id), 1) FROM {table}")
        ((newest,),) = cursor.fetchall()
        cursor.execute(
            f"UPDATE {table} SET version = version + 1, note = %s, changed_at = now(6) WHERE id IN %s",
            (some_note(dice), some_ids(newest, dice)),
        )


class SqliteSource(Source):
    """A whole number for a cursor, which grows or stays: there is one writer at a time."""

    protocol = "sqlite"
    writers = 2

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "source.db"
        with self._opened() as client:
            client.execute("PRAGMA journal_mode = WAL")
            for table, key in _KEYS.items():
                client.execute(
                    f"CREATE TABLE {table} (id INTEGER {key}, changed_at INTEGER NOT NULL, "
                    "amount DECIMAL(12,2), note TEXT, version INTEGER NOT NULL DEFAULT 1)"
                )
                client.execute(f"CREATE INDEX {table}_by_cursor ON {table} (changed_at)")

    def connection(self) -> dict[str, object]:
        return {"database_path": str(self.path)}

    def add(self, count: int, dice: random.Random) -> None:
        with self._opened() as client:
            client.execute("BEGIN IMMEDIATE")
            for table in STREAMS:
                self._insert(client, table, count, dice)
            client.execute("COMMIT")

    def delete(self, where: str) -> None:
        with self._opened() as client:
            client.execute(f"DELETE FROM merged WHERE {where}")

    def rows(self, stream: str) -> list[Row]:
        with self._opened() as client:
            return [canonical(row) for row in client.execute(f"SELECT {_NAMES} FROM {stream}")]

    def change_behind_the_cursor(self) -> None:
        """Change, delete and add rows that no later sync would see."""
        with self._opened() as client:
            for table in STREAMS:
                client.execute(f"UPDATE {table} SET note = 'unseen' WHERE id % 50 = 1 AND changed_at = 0")
                client.execute(f"DELETE FROM {table} WHERE id % 50 = 2 AND changed_at = 0")
                client.execute(
                    f"INSERT INTO {table} (id, changed_at, amount) SELECT id + 1000000, changed_at, amount "
                    f"FROM {table} WHERE id % 50 = 3 AND changed_at = 0"
                )

    def _write(self, dice: random.Random, stop: threading.Event) -> None:
        with self._opened() as client:
            while not stop.wait(dice.uniform(0, 0.03)):
                table = dice.choice(list(STREAMS))
                client.execute("BEGIN IMMEDIATE")
                self._insert(client, table, dice.randint(1, 8), dice)
                if dice.random() < 0.5:
                    self._change(client, table, dice)
                client.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")

    def _insert(self, client: sqlite3.Connection, table: str, count: int, dice: random.Random) -> None:
        ((newest,),) = client.execute(f"SELECT coalesce(max(changed_at), 0) FROM {table}").fetchall()
        client.executemany(
            f"INSERT INTO {table} (id, changed_at, amount, note) VALUES (?, ?, ?, ?)",
            [
                (row_id, newest + dice.choice([0, 0, 1]), amount, note)
                for row_id, amount, note in self._new(count, dice)
            ],
        )

    def _change(self, client: sqlite3.Connection, table: str, dice: random.Random) -> None:
        if STREAMS[table] is Disposition.MERGE:
            ((newest,),) = client.execute(f"SELECT coalesce(max(id), 1) FROM {table}").fetchall()
            ids = ", ".join(map(str, some_ids(newest, dice)))
            client.execute(
                f"UPDATE {table} SET version = version + 1, "
                f"changed_at = (SELECT max(changed_at) FROM {table}) WHERE id IN ({ids})"
            )
        else:
            client.execute(
                f"UPDATE {table} SET version = version + 1 "
                f"WHERE changed_at = (SELECT max(changed_at) FROM {table})"
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as client:
            yield client
