"""Loads into SQL Server as far as a stand-in tells: commands, what comes between, and what doctor says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pyarrow as pa
import pytest

from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._mssql.writer import MSSQLDestination
from atlas_etl.errors import ConfigError, DestinationError, RefusedRowError, UsageError
from atlas_etl.model import CreateTable, Disposition, Examination, LoadPlan, Severity, Stream, TableName
from atlas_etl.pipeline.schema import evolve
from tests.project import Project
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_tds import PASSWORD

SCHEMA = pa.schema([("id", pa.int32()), ("code", pa.uuid()), ("name", pa.string())])
CODE = b"\xab" * 16


@contextmanager
def destination(server: StubServer, allows: str = "snapshot") -> Iterator[MSSQLDestination]:
    adapter = registry.load("mssql")
    assert adapter.destination is not None
    path = server.fresh_database(allows)
    made = adapter.destination(adapter.connection.model_validate(server.connection(path)))
    assert isinstance(made, MSSQLDestination)
    yield made
    made.close()


def plan(to: MSSQLDestination, schema: pa.Schema = SCHEMA, **more: object) -> LoadPlan:
    table = to.table_name("shop", Stream("orders"))
    there = to.inspect("shop", "orders", table).schema
    target, changes = evolve(there, schema, to.storable)
    settings: dict[str, object] = {"primary_key": ("id",), "cursor": None, "keyed": True, **more}
    return LoadPlan("run-1", "shop", "orders", table, Disposition.MERGE, target, changes=changes, **settings)


def load(to: MSSQLDestination, rows: list[dict[str, object]], schema: pa.Schema = SCHEMA) -> None:
    found = plan(to, schema)
    with to.begin(found) as session:
        session.write(pa.RecordBatch.from_pylist(rows, schema=schema).cast(found.schema))
        session.commit(None)


# Commands


def test_a_copy_is_incremental_compared_and_queried(stub_mssql_server: StubServer, project: Project) -> None:
    database = stub_mssql_server.fresh_database()
    uri = f"mssql://etl:${{env:STUB_PASSWORD}}@127.0.0.1:{stub_mssql_server.port}/{quote(database, safe='')}"
    env = {"STUB_PASSWORD": PASSWORD}
    project.write("people.csv", "id,name,at\n1,Łukasz 😀,2026-01-01\n2,O'Hara,2026-01-02\n")

    def copy() -> list[int]:
        done = project.atlas(
            "copy", "people.csv", uri, "--cursor", "at", "--primary-key", "id", "--json", env=env
        )
        assert done.returncode == 0, done.stderr
        return [run["rows_processed"] for run in done.json()["runs"]]

    assert copy() == [2]
    project.write("people.csv", "id,name,at\n1,Łukasz 😀,2026-01-01\n2,Zoë,2026-01-02\n3,],2026-01-03\n")
    copy()
    destination = {
        "protocol": "mssql",
        **stub_mssql_server.connection(database),
        "password": "${env:STUB_PASSWORD}",
    }
    project.write("atlas.yaml", json.dumps({"destinations": {"d": destination}, "destination": "d"}))
    found = project.atlas("query", "SELECT id, name FROM dbo.people", "--json", env=env)
    assert found.returncode == 0, found.stderr
    assert sorted(map(tuple, found.json()["rows"])) == [(1, "Łukasz 😀"), (2, "Zoë"), (3, "]")]


def test_a_connector_is_planned_synced_verified_and_looked_at(
    stub_mssql_server: StubServer, project: Project
) -> None:
    database = stub_mssql_server.fresh_database()
    env = {"STUB_PASSWORD": PASSWORD}
    given = {**stub_mssql_server.connection(database), "password": "${env:STUB_PASSWORD}"}
    project.write("atlas.yaml", json.dumps({"destinations": {"d": {"protocol": "mssql", **given}}}))
    project.write("drop/people.csv", "id,name\n1,Ada\n2,\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: csv\nconnection: {path: drop}\ndestination: d\n"
        "streams: [{name: people, path: people.csv, disposition: replace}]\n",
    )
    shown = project.atlas("connector", "plan", "shop", "--json", env=env)
    assert shown.returncode == 0, shown.stderr
    (planned,) = shown.json()["streams"]
    assert "no SQL Server has run its loads yet" in planned["promise"]
    assert planned["ddl"][-1].startswith(
        "CREATE TABLE [shop].[people] ([id] bigint NULL, [name] nvarchar(max)"
    )
    for _ in range(2):
        done = project.atlas("connector", "sync", "shop", env=env)
        assert done.returncode == 0, done.stderr
    verified = project.atlas("connector", "verify", "shop", env=env)
    assert verified.returncode == 0, verified.stdout
    examined = project.atlas("connector", "doctor", "shop", env=env)
    assert "the login may make and write it" in examined.stdout, examined.stdout
    assert "PASSWORD" not in examined.stdout


def test_rows_from_standard_input_are_added_once(stub_mssql_server: StubServer, project: Project) -> None:
    database = stub_mssql_server.fresh_database()
    uri = f"mssql://etl:${{env:STUB_PASSWORD}}@127.0.0.1:{stub_mssql_server.port}/{quote(database, safe='')}"
    project.write("rows.csv", "id,name\n1,a\n2,b\n")
    env = {"STUB_PASSWORD": PASSWORD}
    for table, added in (("t", 2), ("t", 0), ("T", 0)):
        done = project.atlas("load", uri, "rows.csv", "--table", table, "--json", env=env)
        assert done.returncode == 0, done.stderr
        assert done.json()["runs"][0]["rows_processed"] == added


# Tables that change


def test_a_key_that_grows_keeps_its_rows_and_its_key(stub_mssql_server: StubServer) -> None:
    wide = pa.schema([("id", pa.int64()), ("code", pa.uuid()), ("name", pa.string())])
    with destination(stub_mssql_server) as to:
        load(to, [{"id": 1, "code": CODE, "name": "a"}])
        widening = plan(to, wide)
        alter = "ALTER TABLE [shop].[orders]"
        dropped, altered, made = to.changes(widening)
        assert dropped.startswith(f"{alter} DROP CONSTRAINT [")
        assert altered == f"{alter} ALTER COLUMN [id] bigint NOT NULL"
        assert made == f"{alter} ADD CONSTRAINT {dropped.rpartition(' ')[2]} PRIMARY KEY ([id])"
        load(to, [{"id": 1, "code": CODE, "name": "b"}, {"id": 2**40, "code": None, "name": ""}], wide)
        rows = to.query("SELECT id, name FROM shop.orders").to_pylist()
        assert sorted((row["id"], row["name"]) for row in rows) == [(1, "b"), (2**40, "")]
        with to.connect() as connection, pytest.raises(RefusedRowError) as caught:
            connection.execute("INSERT INTO [shop].[orders] ([id]) VALUES (1)")
        assert caught.value.code == "duplicate_key"


def test_a_column_of_ones_own_that_grows_stays_not_null(stub_mssql_server: StubServer) -> None:
    grown = pa.schema([("id", pa.int32()), ("n", pa.int64())])
    with destination(stub_mssql_server) as to:
        with to.connect() as connection:
            connection.execute("CREATE SCHEMA [shop]")
            connection.execute("CREATE TABLE [shop].[orders] ([id] int NOT NULL, [n] int NOT NULL)")
        load(to, [{"id": 1, "n": 2**40}], grown)
        with to.connect() as connection, pytest.raises(RefusedRowError):
            connection.execute("INSERT INTO [shop].[orders] ([id]) VALUES (1)")


def test_a_uuid_that_becomes_text_is_spelled_as_everywhere(stub_mssql_server: StubServer) -> None:
    texts = pa.schema([("id", pa.int32()), ("code", pa.string()), ("name", pa.string())])
    with destination(stub_mssql_server) as to:
        load(to, [{"id": 1, "code": CODE, "name": "a"}])
        load(to, [{"id": 2, "code": "x", "name": "b"}], texts)
        codes = to.query("SELECT code FROM shop.orders").column("code").to_pylist()
    assert sorted(codes) == ["abababab-abab-abab-abab-abababababab", "x"]


# What cannot be


@pytest.mark.parametrize(
    ("allows", "code"), [("old", "server_too_old"), ("denied", "permission_denied"), ("replica", "read_only")]
)
def test_where_no_load_can_succeed_the_test_and_doctor_say_why(
    stub_mssql_server: StubServer, allows: str, code: str
) -> None:
    with destination(stub_mssql_server, f"snapshot_{allows}") as to:
        with pytest.raises(DestinationError) as caught:
            to.test()
        assert caught.value.code == code
        assert caught.value.hint
        found = plan(to)
        with pytest.raises(DestinationError) as refused, to.begin(found):
            pass
        assert refused.value.code == code
        findings = list(to.examine(Examination("shop", (Stream("orders"),))))
        assert Severity.PROBLEM in {each.severity for each in findings}


@pytest.mark.parametrize(
    ("connector", "stream"),
    [
        ("sys", Stream("t")),
        ("shop", Stream("#t")),
        ("shop", Stream("t ")),
        ("shop", Stream("t", into=TableName("#t", "s"))),
    ],
)
def test_names_that_are_not_a_tables_own(
    stub_mssql_server: StubServer, connector: str, stream: Stream
) -> None:
    with destination(stub_mssql_server) as to, pytest.raises(ConfigError) as caught:
        to.table_name(connector, stream)
    assert caught.value.code == "table_name"


def test_the_stand_in_refuses_what_it_does_not_know(stub_mssql_server: StubServer) -> None:
    with destination(stub_mssql_server) as to, to.connect() as connection:
        for sql in (
            "MERGE INTO t USING s ON 1 = 1",
            "CREATE TABLE IF NOT EXISTS [dbo].[t] ([a] int)",
            "TRUNCATE TABLE t",
        ):
            with pytest.raises(DestinationError):
                connection.execute(sql)
        with pytest.raises(UsageError):
            to.query("SELECT id FROM dbo.nowhere")


def test_an_error_undoes_the_whole_transaction(stub_mssql_server: StubServer) -> None:
    with destination(stub_mssql_server) as to, to.connect() as connection:
        connection.execute("CREATE TABLE [dbo].[t] ([a] int NOT NULL)")
        connection.begin()
        connection.execute("INSERT INTO [dbo].[t] ([a]) VALUES (1)")
        with pytest.raises(DestinationError):
            connection.execute("SELECT a FROM [dbo].[nowhere]")
        with pytest.raises(DestinationError) as caught:
            connection.commit()
        assert caught.value.retryable
        assert connection.execute("SELECT [a] FROM [dbo].[t]") == []
        assert CreateTable() in plan(to).changes
