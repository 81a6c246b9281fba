"""Loads into Oracle as far as a stand-in tells: commands, tables made anew, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa
import pytest

from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._oracle.load import LoadConnection
from atlas_etl.connectors.sql._oracle.writer import OracleDestination
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, RefusedRowError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Disposition,
    Examination,
    LoadPlan,
    Severity,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import evolve
from tests.project import Project
from tests.servers.stub_oracle import PASSWORD, StubOracle

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
TEXTS = pa.schema([("id", pa.string()), ("name", pa.string())])


@contextmanager
def destination(stub: StubOracle, allows: str = "plain", **more: object) -> Iterator[OracleDestination]:
    adapter = registry.load("oracle")
    assert adapter.destination is not None
    made = adapter.destination(adapter.connection.model_validate({**stub.fresh_database(allows), **more}))
    assert isinstance(made, OracleDestination)
    with closing(made):
        yield made


def plan(
    to: OracleDestination,
    schema: pa.Schema = SCHEMA,
    disposition: Disposition = Disposition.MERGE,
    **more: object,
) -> LoadPlan:
    table = to.table_name("shop", Stream("orders"))
    there = to.inspect("shop", "orders", table)
    target, changes = evolve(there.schema, schema, to.storable)
    settings: dict[str, object] = {"primary_key": ("id",), "cursor": None, "keyed": True, **more}
    return LoadPlan(
        "run-1",
        "shop",
        "orders",
        table,
        disposition,
        target,
        changes=changes,
        version=there.version,
        **settings,
    )


def load(
    to: OracleDestination, found: LoadPlan, rows: list[dict[str, object]], at: str | None = None
) -> None:
    value = CursorValue(CursorKind.TEXT, at or "")
    with to.begin(found) as session:
        session.write(pa.RecordBatch.from_pylist(rows, schema=found.schema))
        session.commit(None if at is None else Checkpoint("id", value, value, (at,)))


def rows_of(to: OracleDestination) -> list[tuple[object, ...]]:
    found = to.query('SELECT "id", "name" FROM "ETL"."shop__orders"')
    return sorted((str(row["id"]), row["name"]) for row in found.to_pylist())


# Commands


def test_a_copy_is_incremental_compared_and_queried(stub_oracle: StubOracle, project: Project) -> None:
    given = {**stub_oracle.fresh_database(), "password": "${env:STUB_PASSWORD}"}
    env = {"STUB_PASSWORD": PASSWORD, **stub_oracle.environment}
    project.write("atlas.yaml", json.dumps({"destinations": {"d": {"protocol": "oracle", **given}}}))
    project.write("drop/people.csv", "id,name,at\n1,Łukasz 😀,2026-01-01\n2,O'Hara,2026-01-02\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: csv\nconnection: {path: drop}\ndestination: d\n"
        "streams: [{name: people, path: people.csv, cursor: at, primary_key: [id]}]\n",
    )
    shown = project.atlas("connector", "plan", "shop", "--json", env=env)
    assert shown.returncode == 0, shown.stderr
    (planned,) = shown.json()["streams"]
    assert "no Oracle Database has run its loads yet" in planned["promise"]
    assert planned["ddl"][-1] == (
        'CREATE TABLE "ETL"."shop__people" ("id" NUMBER(19,0), "name" CLOB, "at" TIMESTAMP(6), '
        'PRIMARY KEY ("id"))'
    )
    assert project.atlas("connector", "sync", "shop", env=env).returncode == 0
    project.write("drop/people.csv", "id,name,at\n1,Łukasz 😀,2026-01-01\n2,Zoë,2026-01-02\n3,],2026-01-03\n")
    done = project.atlas("connector", "sync", "shop", env=env)
    assert done.returncode == 0, done.stderr
    found = project.atlas("query", 'SELECT "id", "name" FROM "shop__people"', "--json", env=env)
    assert sorted(map(tuple, found.json()["rows"]), key=str) == [("1", "Łukasz 😀"), ("2", "Zoë"), ("3", "]")]
    verified = project.atlas("connector", "verify", "shop", env=env)
    assert verified.returncode == 0, verified.stdout
    examined = project.atlas("connector", "doctor", "shop", env=env)
    assert "the user may make and write it" in examined.stdout, examined.stdout
    assert PASSWORD not in examined.stdout


# Empty texts


def test_an_empty_text_refuses_the_load_unless_it_may_be_null(stub_oracle: StubOracle) -> None:
    empty: list[dict[str, object]] = [{"id": 1, "name": ""}]
    with destination(stub_oracle) as to:
        with pytest.raises(RefusedRowError) as caught:
            load(to, plan(to), empty)
        assert (caught.value.code, caught.value.column) == ("empty_text", "name")
        assert not any("empty" in caveat for caveat in to.caveats())
    with destination(stub_oracle, empty_text_is_null=True) as to:
        load(to, plan(to), empty)
        assert rows_of(to) == [("1", None)]
        assert any("empty" in caveat for caveat in to.caveats())


def test_in_a_key_or_a_cursor_an_empty_text_is_never_null(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle, empty_text_is_null=True) as to:
        for more in ({}, {"primary_key": (), "cursor": "id"}):
            with pytest.raises(RefusedRowError) as caught:
                load(to, plan(to, TEXTS, Disposition.APPEND, **more), [{"id": "", "name": "a"}])
            assert caught.value.code == "empty_text"


def test_one_row_with_an_empty_text_is_told_from_the_others(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle) as to:
        found = plan(to, careful=True)
        with to.begin(found) as session:
            rows = [{"id": n, "name": "" if n == 7 else str(n)} for n in range(20)]
            refused = session.write(pa.RecordBatch.from_pylist(rows, schema=found.schema))
            session.commit(None)
        assert list(refused) == [7]
        assert len(rows_of(to)) == 19


# Tables that change


def test_a_number_becomes_no_text_but_by_a_table_made_anew(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle) as to:
        load(to, plan(to), [{"id": 1, "name": "a"}])
        with pytest.raises(DestinationError) as caught:
            load(to, plan(to, TEXTS), [{"id": "x", "name": "b"}])
        assert caught.value.code == "cannot_widen"
        assert rows_of(to) == [("1", "a")]
        whole = plan(to, TEXTS, Disposition.REPLACE)
        assert [statement.partition(" (")[0] for statement in to.changes(whole)] == [
            'DROP TABLE "ETL"."shop__orders"',
            'CREATE TABLE "ETL"."shop__orders"',
        ]
        load(to, whole, [{"id": "x", "name": "b"}], at="x")
        assert rows_of(to) == [("x", "b")]
        state = to.inspect("shop", "orders", to.table_name("shop", Stream("orders")))
        assert state.checkpoint is not None
        assert state.checkpoint.high.text == "x"


@pytest.mark.parametrize("fails_at", ["DROP TABLE", "ALTER TABLE", "MERGE", "INSERT INTO"])
def test_a_table_made_anew_is_whole_or_read_again(
    stub_oracle: StubOracle, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    class Killed(Exception):
        pass

    with destination(stub_oracle) as to:
        load(to, plan(to), [{"id": 1, "name": "a"}], at="1")
        table = to.table_name("shop", Stream("orders"))
        whole, execute = plan(to, TEXTS, Disposition.REPLACE), LoadConnection.execute
        swapping = False

        def failing(self: LoadConnection, sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
            nonlocal swapping
            if swapping and sql.startswith(fails_at):
                raise Killed
            return execute(self, sql, parameters)

        def committed(self: LoadConnection) -> None:
            nonlocal swapping
            commit(self)
            swapping = True

        commit = LoadConnection.commit
        with monkeypatch.context() as patched:
            patched.setattr(LoadConnection, "execute", failing)
            patched.setattr(LoadConnection, "commit", committed)
            try:
                load(to, whole, [{"id": "x", "name": "b"}], at="x")
            except Killed:
                assert to.inspect("shop", "orders", table).checkpoint is None
        again = plan(to, TEXTS, Disposition.REPLACE)
        load(to, again, [{"id": "x", "name": "b"}], at="x")
        assert rows_of(to) == [("x", "b")]


# What cannot be


@pytest.mark.parametrize(
    ("allows", "code"),
    [
        ("old", "server_too_old"),
        ("denied", "permission_denied"),
        ("standby", "read_only"),
        ("latin", "character_set"),
    ],
)
def test_where_no_load_can_succeed_the_test_and_doctor_say_why(
    stub_oracle: StubOracle, allows: str, code: str
) -> None:
    with destination(stub_oracle, allows) as to:
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


def test_who_sees_no_other_sessions_can_be_asked(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle, "blind") as to:
        load(to, plan(to), [{"id": 1, "name": "a"}])
        assert rows_of(to) == [("1", "a")]


def test_a_table_is_in_the_users_own_schema_or_where_it_is_told(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle) as to:
        assert to.table_name("shop", Stream("orders")) == TableName("shop__orders", "ETL")
        into = Stream("orders", into=TableName("o", "SALES"))
        assert to.table_name("shop", into) == TableName("o", "SALES")
    with destination(stub_oracle, default_schema="SALES") as to:
        assert to.table_name("shop", Stream("orders")).schema == "SALES"
    with destination(stub_oracle, username=None) as to, pytest.raises(ConfigError) as caught:
        to.table_name("shop", Stream("orders"))
    assert caught.value.code == "table_name"


def test_the_stand_in_refuses_what_it_does_not_know(stub_oracle: StubOracle) -> None:
    with destination(stub_oracle) as to, to.connect() as connection:
        for sql in (
            'CREATE TABLE IF NOT EXISTS "ETL"."t" ("a" NUMBER(19,0))',
            'DELETE FROM "ETL"."t" AS x',
            "TRUNCATE TABLE t",
            'SELECT "connector" FROM "ETL"."t" FETCH FIRST 1 ROWS ONLY FOR UPDATE WAIT 60',
        ):
            with pytest.raises(AtlasError):
                connection.execute(sql)


def test_a_second_load_that_makes_the_same_line_finds_it(
    stub_oracle: StubOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = LoadConnection.execute
    lost = 0

    def racing(self: LoadConnection, sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        nonlocal lost
        if sql.startswith("MERGE INTO") and not lost:
            lost += 1
            raise RefusedRowError("another run made the line", code="duplicate_key")
        return execute(self, sql, parameters)

    monkeypatch.setattr(LoadConnection, "execute", racing)
    with destination(stub_oracle) as to:
        load(to, plan(to), [{"id": 1, "name": "a"}])
        assert (lost, rows_of(to)) == (1, [("1", "a")])
