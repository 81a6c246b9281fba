"""No row is lost or doubled at the cursor, whatever its type and however its system orders it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from tests.integration.cursor_kinds import (
    DUCKDB_KINDS,
    MYSQL_KINDS,
    PARQUET_KINDS,
    POSTGRES_KINDS,
    SQLITE_KINDS,
    CursorKind,
)
from tests.integration.pipe import Pipe, Text
from tests.integration.table_systems import DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE, System, system_of

from atlas_etl.model import Disposition, Stream, TableName

ALL_KINDS = (*POSTGRES_KINDS, *MYSQL_KINDS, *SQLITE_KINDS, *DUCKDB_KINDS, *PARQUET_KINDS)
OTHERS = {POSTGRESQL: SQLITE, MYSQL: POSTGRESQL, SQLITE: PARQUET, DUCKDB: SQLITE, PARQUET: "jsonl"}


class Table:
    """A table of a source, and a model of what is in it."""

    def __init__(self, source: System, kind: CursorKind) -> None:
        self._source = source
        self._statements = [*kind.before, f"CREATE TABLE t (k INT PRIMARY KEY, c {kind.sql}, v INT)"]
        self.rows: dict[int, int] = {}

    def insert(self, literal: str) -> int:
        key = len(self.rows) + 1
        self.rows[key] = 0
        self._statements.append(f"INSERT INTO t VALUES ({key}, {literal}, 0)")
        return key

    def change(self, key: int, literal: str) -> None:
        self.rows[key] += 1
        self._statements.append(f"UPDATE t SET c = {literal}, v = v + 1 WHERE k = {key}")

    def write(self) -> Counter[Text]:
        """Commit the changes; gives back the rows that are there then."""
        self._source.run(self._statements)
        self._statements = []
        return Counter((str(k), str(v)) for k, v in self.rows.items())


@contextmanager
def pipes(
    kind: CursorKind, source: System, others: Sequence[tuple[System, Disposition]]
) -> Iterator[list[Pipe]]:
    """From one table into several."""
    with ExitStack() as stack:
        connector = stack.enter_context(closing(source.connector()))
        made = []
        for into, disposition in others:
            destination = stack.enter_context(closing(into.destination()))
            stream = Stream(
                disposition, table="t", cursor="c", disposition=disposition, primary_key=("k",),
                into=TableName(f"copy_{disposition}", into.schema), timezone=kind.timezone,
            )  # fmt: skip
            made.append(Pipe(connector, destination, stream, "c"))
        yield made


@pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
def test_rows_at_the_cursor(kind: CursorKind, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = system_of(kind.system, tmp_path / "from", request)
    other = system_of(OTHERS[kind.system], tmp_path / "into", request)
    warehouse = system_of(DUCKDB, tmp_path / "into", request)
    table = Table(source, kind)
    targets = [(warehouse, Disposition.MERGE), (other, Disposition.APPEND)]
    if not kind.is_wide:
        targets.append((warehouse, Disposition.APPEND))
    with pipes(kind, source, targets) as found:
        newest = None
        for group in kind.groups:
            if newest is not None:
                table.change(newest, group[-1])
            newest = [table.insert(literal) for literal in group][-1]
            expected = table.write()
            for pipe in found:
                assert pipe.synced().rows_read
                assert Counter(pipe.rows("k", "v")) == expected
        table.insert(group[0])
        expected = table.write()
        for pipe in found:
            read = pipe.synced().rows_read
            # MariaDB tells in whole seconds when transactions began, so a tail reaches further back there.
            assert read <= len(group) + 2 or kind.system == MYSQL
            assert Counter(pipe.rows("k", "v")) == expected
