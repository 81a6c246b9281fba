"""Columns of a source that get other names, and what becomes of the rows that were loaded by the old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.integration.pipe import STARTED, Pipe
from tests.integration.table_systems import DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE, SqliteFile, system_of

from atlas_etl.model import Deletes, Disposition, Stream, TableName
from atlas_etl.pipeline.events import StreamReconciled
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.reconcile import reconcile
from atlas_etl.pipeline.repair import repair
from atlas_etl.pipeline.verify import StreamVerified, VerifyJob, verify


@pytest.fixture
def source(tmp_path: Path) -> SqliteFile:
    """A table `t` of two rows: a key `k`, a cursor `c` and a value `v`."""
    made = SqliteFile(tmp_path, "source")
    made.run(
        (
            "CREATE TABLE t (k INTEGER PRIMARY KEY, c INTEGER, v TEXT)",
            "INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')",
        )
    )
    return made


Piped = Callable[..., Pipe]


@pytest.fixture
def piped(source: SqliteFile, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Piped]:
    """A pipe from that table into a system, by its protocol."""
    with ExitStack() as stack:

        def make(protocol: str, **stream: object) -> Pipe:
            into = system_of(protocol, tmp_path / "into", request)
            connector = stack.enter_context(closing(source.connector()))
            destination = stack.enter_context(closing(into.destination()))
            name = TableName("copy", into.schema)
            return Pipe(connector, destination, Stream("t", table="t", into=name, **stream), "shop")

        yield make


def is_equal(pipe: Pipe) -> bool:
    """Whether the copy is what the source has."""
    *_, found = verify(pipe.connector, pipe.destination, VerifyJob(pipe.name, pipe.stream))
    assert isinstance(found, StreamVerified)
    return found.comparison.is_equal


@pytest.mark.parametrize("disposition", Disposition)
@pytest.mark.parametrize("protocol", [DUCKDB, MYSQL, PARQUET, SQLITE])
def test_a_name_that_changes_in_case_is_the_same_column_where_a_table_cannot_have_both(
    source: SqliteFile, piped: Piped, protocol: str, disposition: Disposition
) -> None:
    pipe = piped(protocol, cursor="c", disposition=disposition)
    pipe.synced()
    source.run(
        ("ALTER TABLE t RENAME v TO V", "ALTER TABLE t RENAME k TO K", "INSERT INTO t VALUES (3, 3, 'c')")
    )
    for full_refresh in (False, False, True):
        assert pipe.sync(full_refresh=full_refresh).schema_changes == ()
        assert sorted(pipe.rows("k", "c", "v")) == [("1", "1", "a"), ("2", "2", "b"), ("3", "3", "c")]
        assert is_equal(pipe)
    assert pipe.state().schema.names == ["k", "c", "v"]


def test_a_name_that_changes_in_case_is_another_column_where_a_table_may_have_both(
    source: SqliteFile, piped: Piped
) -> None:
    pipe = piped(POSTGRESQL, disposition=Disposition.REPLACE)
    pipe.synced()
    source.run(("ALTER TABLE t RENAME v TO V",))
    pipe.synced()
    assert pipe.state().schema.names == ["k", "c", "v", "V"]
    assert sorted(pipe.rows("k", "c", "v", '"V"')) == [("1", "1", None, "a"), ("2", "2", None, "b")]
    assert is_equal(pipe)


def test_deletes_are_found_by_a_key_whose_name_changed_in_case(source: SqliteFile, piped: Piped) -> None:
    pipe = piped(DUCKDB, cursor="c", deletes=Deletes(max_share=1))
    pipe.synced()
    source.run(("ALTER TABLE t RENAME k TO K", "DELETE FROM t WHERE k = 1"))
    pipe.synced()
    job = Job("run", pipe.name, pipe.stream, STARTED)
    assert [
        e.deleted for e in reconcile(pipe.connector, pipe.destination, job) if isinstance(e, StreamReconciled)
    ] == [1]
    assert sorted(pipe.rows("k")) == [("2",)]


def test_a_name_that_changes_in_case_is_mended_in_its_old_column(source: SqliteFile, piped: Piped) -> None:
    pipe = piped(SQLITE, cursor="c")
    pipe.synced()
    source.run(("ALTER TABLE t RENAME v TO V", "UPDATE t SET v = 'z' WHERE k = 1"))
    list(repair(pipe.connector, pipe.destination, Job("run", pipe.name, pipe.stream, STARTED)))
    assert sorted(pipe.rows("k", "c", "v")) == [("1", "1", "z"), ("2", "2", "b")]


KEY_CHANGES = {
    "renamed": ("ALTER TABLE t RENAME k TO n",),
    "dropped": (
        "DROP TABLE t", "CREATE TABLE t (c INTEGER, v TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    ),
    "longer": (
        "DROP TABLE t", "CREATE TABLE t (k INTEGER, u INTEGER, c INTEGER, v TEXT, PRIMARY KEY (k, u))",
        "INSERT INTO t VALUES (1, 1, 1, 'a'), (1, 2, 2, 'b')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", KEY_CHANGES)
@pytest.mark.parametrize("protocol", [DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE])
def test_a_full_refresh_takes_another_key(
    source: SqliteFile, piped: Piped, protocol: str, change: str
) -> None:
    pipe = piped(protocol, cursor="c")
    pipe.synced()
    source.run(KEY_CHANGES[change])
    for _ in range(2):
        pipe.sync(full_refresh=True)
        assert sorted(pipe.rows("c", "v")) == [("1", "a"), ("2", "b")]
        assert pipe.state().checkpoint is not None
        assert is_equal(pipe)
    source.run(("UPDATE t SET c = 3, v = 'z' WHERE c = 2",))
    if change != "dropped":  # by the new key, so that no row stays
        pipe.synced()
        assert sorted(pipe.rows("c", "v")) == [("1", "a"), ("3", "z")]


@pytest.mark.parametrize("change", ["renamed", "dropped"])
@pytest.mark.parametrize("protocol", [DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE])
def test_a_replace_takes_rows_that_lack_the_key_that_they_had(
    source: SqliteFile, piped: Piped, protocol: str, change: str
) -> None:
    pipe = piped(protocol, disposition=Disposition.REPLACE)
    pipe.synced()
    source.run(KEY_CHANGES[change])
    for _ in range(2):
        pipe.synced()
        assert sorted(pipe.rows("c", "v")) == [("1", "a"), ("2", "b")]
        assert is_equal(pipe)


@pytest.mark.parametrize(
    ("protocol", "key"),
    [
        (MYSQL, "BIGINT AUTO_INCREMENT PRIMARY KEY"),
        (POSTGRESQL, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
        (POSTGRESQL, "uuid DEFAULT gen_random_uuid() PRIMARY KEY"),
        (SQLITE, "INTEGER PRIMARY KEY"),
    ],
)
def test_a_table_that_numbers_its_rows_itself_is_not_made_again(
    piped: Piped, tmp_path: Path, request: pytest.FixtureRequest, protocol: str, key: str
) -> None:
    into = system_of(protocol, tmp_path / "into", request)
    pipe = piped(protocol, cursor="c")
    schema = f"{into.schema or 'shop'}." if into.schema or protocol == POSTGRESQL else ""
    makes_schema = ("CREATE SCHEMA shop",) if protocol == POSTGRESQL else ()
    into.run((*makes_schema, f"CREATE TABLE {schema}copy (own {key}, k BIGINT, c BIGINT, v VARCHAR(9))"))
    for _ in range(2):
        pipe.sync(full_refresh=True)
        assert pipe.state().schema.names[0] == "own"
        assert sorted(pipe.rows("k", "c", "v")) == [("1", "1", "a"), ("2", "2", "b")]
        assert None not in {own for (own,) in pipe.rows("own")}
