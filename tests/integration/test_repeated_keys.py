"""Primary keys that a catalog calls unique, and that come twice as they are read: one row is kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.pipe import Pipe
from tests.integration.table_systems import DuckDBFile, PostgresDatabase, SqliteFile, System
from tests.servers import ServerAddress

from atlas_etl.model import Disposition, Stream

SPELLED = {
    "TIMESTAMP": "'2024-01-01 00:00:00', '2024-01-01T00:00:00'",
    "": "1, '1'",
}


def merged(source: System, folder: Path) -> list[int]:
    """How many rows two syncs of the table `t` leave, after each."""
    target = DuckDBFile(folder, "into")
    with closing(source.connector()) as connector, closing(target.destination()) as destination:
        stream = Stream("t", table="t", disposition=Disposition.MERGE)
        pipe = Pipe(connector, destination, stream, "c")
        return [len(pipe.rows("k")) for _ in range(2) if pipe.synced()]


def test_rows_that_inherit_a_table_may_repeat_its_keys(postgres: ServerAddress, tmp_path: Path) -> None:
    source = PostgresDatabase(postgres)
    source.run(
        [
            "CREATE TABLE t (k INT PRIMARY KEY, v INT)",
            "CREATE TABLE heir () INHERITS (t)",
            "INSERT INTO t VALUES (1, 1), (2, 1)",
            "INSERT INTO heir VALUES (1, 2)",
        ]
    )
    try:
        assert merged(source, tmp_path) == [2, 2]
    finally:
        source.run(["DROP TABLE t CASCADE"])


@pytest.mark.parametrize("declared", SPELLED)
def test_sqlite_keys_may_be_one_value_in_two_spellings(declared: str, tmp_path: Path) -> None:
    first, second = SPELLED[declared].split(", ")
    source = SqliteFile(tmp_path, "from")
    source.run([f"CREATE TABLE t (k {declared} PRIMARY KEY)", f"INSERT INTO t VALUES ({first}), ({second})"])
    assert merged(source, tmp_path) == [1, 1]
