"""A load never writes to what it reads: where source and destination are one, nothing is changed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.table_history import INTEGER
from tests.integration.table_systems import (
    DuckDBFile,
    MySQLDatabase,
    PostgresDatabase,
    SqliteFile,
    System,
    system_of,
)
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

from atlas_etl.connectors import registry
from atlas_etl.contracts import Destination
from atlas_etl.errors import ConfigError
from atlas_etl.model import Disposition, Stream, StreamRun, TableName
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer

SCHEMAS = {"postgresql": "public", "duckdb": "main"}


@pytest.fixture(params=["postgresql", "mysql", "duckdb", "sqlite"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    found = system_of(request.param, tmp_path / "db", request)
    found.write("t", INTEGER, [(1, 1, 1), (2, 2, 2)], key=True)
    found.run(
        ["CREATE TABLE nobodys (k INT PRIMARY KEY, c INT, v INT)", "INSERT INTO nobodys VALUES (9, 9, 9)"]
    )
    found.run(["CREATE TABLE blank (k INT PRIMARY KEY, c INT, v INT)"])
    return found


def into(system: System, name: str) -> TableName:
    return TableName(name, SCHEMAS.get(system.protocol, system.schema))


def sync(source: System, destination: Destination, stream: Stream) -> StreamRun:
    job = Job("run", "c", stream, datetime.now(UTC))
    with closing(source.connector()) as connector, closing(destination):
        *_, last = transfer(connector, destination, job)
    assert isinstance(last, StreamFinished)
    return last.outcome


@pytest.mark.parametrize("disposition", Disposition)
def test_the_table_that_is_read(system: System, disposition: Disposition) -> None:
    stream = Stream("s", table="t", cursor="c", disposition=disposition, into=into(system, "t"))
    with pytest.raises(ConfigError, match="read by this stream") as raised:
        sync(system, system.destination(), stream)
    assert raised.value.code == "own_source"


def test_an_empty_table_that_is_read(system: System) -> None:
    stream = Stream("s", table="blank", cursor="c", into=into(system, "blank"))
    with pytest.raises(ConfigError, match="read by this stream"):
        sync(system, system.destination(), stream)


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("reading", ["table", "query"])
def test_a_table_of_others_beside_it(system: System, disposition: Disposition, reading: str) -> None:
    read = {"table": "t"} if reading == "table" else {"query": "SELECT * FROM t"}
    stream = Stream(
        "s", **read, cursor="c", primary_key=("k",), disposition=disposition, into=into(system, "nobodys")
    )
    with pytest.raises(ConfigError, match="rows that it did not load") as raised:
        sync(system, system.destination(), stream)
    assert raised.value.code == "own_source"


@pytest.mark.parametrize("name", ["blank", "new"])
def test_another_table_beside_it_is_loaded_again_and_again(system: System, name: str) -> None:
    if system.protocol == "sqlite":
        system.run(["PRAGMA journal_mode = wal"])
    stream = Stream("s", table="t", cursor="c", primary_key=("k",), into=into(system, name))
    assert sync(system, system.destination(), stream).rows_loaded == 2
    system.run(["INSERT INTO t VALUES (3, 3, 3)"])
    assert sync(system, system.destination(), stream).rows_loaded == 1


def test_sqlite_ignores_the_case_of_names(tmp_path: Path) -> None:
    system = SqliteFile(tmp_path, "t")
    system.write("t", INTEGER, [], key=True)
    with pytest.raises(ConfigError, match="read by this stream"):
        sync(system, system.destination(), Stream("s", table="t", cursor="c", into=TableName("T")))


@pytest.mark.parametrize("protocol", ["duckdb", "sqlite"])
def test_another_file_may_have_a_table_of_that_name(
    protocol: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    system, other = (system_of(protocol, tmp_path / name, request) for name in ("one", "other"))
    system.write("t", INTEGER, [(1, 1, 1)], key=True)
    for _ in range(2):
        sync(system, other.destination(), Stream("s", table="t", cursor="c", into=into(system, "t")))


def test_another_postgresql_database_of_the_server(postgres: ServerAddress) -> None:
    ours, others = PostgresDatabase(postgres), PostgresDatabase(replace(postgres, database="postgres"))
    assert ours.destination().place() == ours.destination().place() != others.destination().place()


def test_a_postgresql_server_that_keeps_its_identifier_to_itself(postgres: ServerAddress) -> None:
    role = f"plain_{uuid4().hex}"
    owner = PostgresDatabase(postgres)
    owner.write("t", INTEGER, [(1, 1, 1)], key=True)
    owner.run(
        [
            f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
            f"GRANT ALL ON SCHEMA public TO {role}",
            f"ALTER TABLE t OWNER TO {role}",
            "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        ]
    )
    plain = PostgresDatabase(replace(postgres, username=role, password=role))
    try:
        with pytest.raises(ConfigError, match="read by this stream"):
            sync(plain, plain.destination(), Stream("s", table="t", cursor="c", into=into(plain, "t")))
    finally:
        owner.run([f"DROP OWNED BY {role}", f"DROP ROLE {role}"])


@pytest.mark.parametrize("protocol", ["parquet", "jsonl", "csv"])
def test_a_glob_that_finds_what_the_stream_wrote(protocol: str, tmp_path: Path) -> None:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    assert adapter.destination is not None
    config = adapter.connection.model_validate({"path": str(tmp_path / "lake")})

    def load(stream: Stream) -> None:
        assert adapter.connector is not None
        assert adapter.destination is not None
        with closing(adapter.connector(config)) as source, closing(adapter.destination(config)) as target:
            list(transfer(source, target, Job("run", "c", stream, datetime.now(UTC))))

    (tmp_path / "lake").mkdir()
    seed = DuckDBFile(tmp_path, "seed")
    seed.run(
        [f"COPY (SELECT 1 AS id) TO '{tmp_path}/lake/in.{protocol}' (FORMAT {protocol.replace('l', '')})"]
    )
    stream = Stream("all", path=f"**/*.{protocol}")
    load(stream)
    with pytest.raises(ConfigError, match="read by this stream"):
        load(stream)
    with pytest.raises(ConfigError, match="read by this stream"):
        load(Stream("all", path="c/all"))
    load(Stream("again", path="c/all"))  # another stream may read it


@pytest.fixture
def mysql_database(tmp_path: Path, request: pytest.FixtureRequest) -> System:
    return system_of("mysql", tmp_path / "db", request)


@pytest.mark.parametrize("name", ["mysql", "MySQL", "sys"])
def test_the_servers_own_databases_are_never_written_to(mysql_database: System, name: str) -> None:
    with pytest.raises(ConfigError, match="the server's own"):
        mysql_database.destination().table_name(name, Stream("t", table="t"))
    with pytest.raises(ConfigError, match="the server's own"):
        mysql_database.destination().table_name("c", Stream("t", table="t", into=TableName("t", name)))


def test_another_mysql_server_may_have_a_table_of_that_name(mysql_database: System) -> None:
    with mysql_recipe.private_server() as (_, address):
        assert MySQLDatabase(address).destination().place() != mysql_database.destination().place()
