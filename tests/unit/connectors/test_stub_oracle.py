"""Oracle as far as a stand-in for its driver tells: late rows, names, statements and what is refused."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atlas_etl import Atlas
from atlas_etl.api.ends import end_of, reference_context
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.connectors.sql._oracle.connection import OracleConnection
from atlas_etl.contracts import Extract
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CursorKind, CursorValue, ReadRequest, Stream
from atlas_etl.pipeline.events import RunFinished
from tests.project import Project
from tests.servers.stub_oracle import StubCursor, StubOracle, execute

NOON = "2026-03-01 12:00:00.000000"


class Stub:
    """One database of the stand-in, and what a test does with it."""

    def __init__(self, stub: StubOracle, allows: str = "plain") -> None:
        self.settings = stub.fresh_database(allows)

    def execute(self, *statements: str) -> None:
        for sql in statements:
            execute(str(self.settings["service_name"]), sql)

    def connector(self, **more: object) -> BaseConnector[ConnectionConfig]:
        adapter = registry.load("oracle")
        assert adapter.connector is not None
        made = adapter.connector(adapter.connection.model_validate({**self.settings, **more}))
        assert isinstance(made, BaseConnector)
        return made


@pytest.fixture
def stub(stub_oracle: StubOracle) -> Stub:
    return Stub(stub_oracle)


def rows(extract: Extract) -> list[dict[str, object]]:
    return [row for batch in extract.batches() for row in batch.to_pylist()]


# Late rows


def tail_of(stub: Stub) -> datetime:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    stub.execute("CREATE TABLE T (AT TIMESTAMP(6))", f"INSERT INTO T VALUES ('{now}')")
    stream = Stream("t", table="T", cursor="AT", timezone="UTC")
    with stub.connector().open(ReadRequest(stream)) as extract:
        assert len(rows(extract)) == 1
        checkpoint = extract.checkpoint()
    assert checkpoint is not None
    return datetime.fromisoformat(checkpoint.tail_from.text)


def ago(moment: datetime) -> timedelta:
    return datetime.now(UTC).replace(tzinfo=None) - moment


def test_the_tail_begins_at_the_oldest_transaction_that_is_open(stub_oracle: StubOracle) -> None:
    assert ago(tail_of(Stub(stub_oracle))) < timedelta(minutes=3)
    # By a local clock, which summer time may have set back meanwhile.
    assert timedelta(hours=2) <= ago(tail_of(Stub(stub_oracle, "busy"))) < timedelta(hours=2, minutes=3)


@pytest.mark.parametrize(
    ("allows", "says"), [("blind", "GRANT SELECT ON SYS.GV_$TRANSACTION"), ("standby", "`lag`")]
)
def test_without_sight_of_others_there_is_a_bound_and_a_remedy(
    stub_oracle: StubOracle, allows: str, says: str
) -> None:
    weaker = Stub(stub_oracle, allows)
    assert timedelta(minutes=5) <= ago(tail_of(weaker)) < timedelta(minutes=8)
    (warning,) = weaker.connector().test().warnings
    assert says in warning
    with weaker.connector().open(ReadRequest(Stream("t", table="T", cursor="AT"))) as extract:
        (caveat,) = extract.outline().caveats
    assert "5 minutes late are missed" in caveat


# Names


def test_a_name_is_taken_as_written_and_else_as_oracle_folds_it(stub: Stub) -> None:
    stub.execute("CREATE TABLE ORDERS (ID NUMBER(9,0))", "CREATE TABLE Items (ID NUMBER(9,0))")

    def statement(table: str) -> str:
        with stub.connector().open(ReadRequest(Stream("t", table=table))) as extract:
            (found,) = extract.outline().statements
        return found

    for name in ("orders", "Orders", "etl.orders", "ETL.ORDERS"):
        assert statement(name).endswith('FROM "ETL"."ORDERS" atlas_query')
    assert statement("Items").endswith('FROM "ETL"."Items" atlas_query')
    for name, hint in (("items", "'Items'"), ("order", "'ORDERS'")):
        with pytest.raises(SourceError) as caught:
            statement(name)
        assert caught.value.code == "table_not_found"
        assert hint in (caught.value.hint or "")


def test_a_column_of_another_case_is_named(stub: Stub) -> None:
    stub.execute("CREATE TABLE ORDERS (ID NUMBER(9,0), UPDATED_AT DATE)")
    with (
        pytest.raises(SourceError) as caught,
        stub.connector().open(ReadRequest(Stream("o", table="orders", cursor="updated_at"))),
    ):
        pass
    assert "'UPDATED_AT'" in (caught.value.hint or "")


# Statements


def test_the_statements_of_a_read(stub: Stub) -> None:
    stub.execute("CREATE TABLE ORDERS (ID NUMBER PRIMARY KEY, NAME VARCHAR2(20), AT DATE, NOTE NUMBER)")
    since = CursorValue(CursorKind.TIMESTAMP, "2026-03-01T12:00:00")
    request = ReadRequest(Stream("o", table="orders", cursor="AT"), since=since, limit=7)
    with stub.connector().open(request) as extract:
        (statement,) = extract.outline().statements
        assert [str(field.type) for field in extract.schema] == ["int64", "string", "timestamp[us]", "string"]
    assert statement.partition(" -- ")[0] == (
        'SELECT "ID" AS "ID", "NAME" AS "NAME", TO_CHAR("AT", \'SYYYY-MM-DD"T"HH24:MI:SS\') AS "AT", '
        '"NOTE" AS "NOTE" FROM "ETL"."ORDERS" atlas_query '
        "WHERE \"AT\" >= TO_DATE('2026-03-01T12:00:00', 'YYYY-MM-DD\"T\"HH24:MI:SS') FETCH FIRST 7 ROWS ONLY"
    )


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE T", "/* SELECT */ -- WITH\n DROP TABLE T", "-- SELECT 1", "BEGIN NULL; END;", "SELECTS"],
)
def test_what_is_no_query_is_not_even_parsed(stub: Stub, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    """Parsing runs DDL."""
    parsed: list[str] = []
    monkeypatch.setattr(StubCursor, "parse", lambda _, sql: parsed.append(sql))
    with pytest.raises(SourceError) as caught, stub.connector().open(ReadRequest(Stream("q", query=query))):
        pass
    assert caught.value.code == "sql"
    assert parsed == []


def test_a_query_is_one_select(stub: Stub) -> None:
    stub.execute("CREATE TABLE T (ID NUMBER(9,0))")
    for query in (
        "SELECT 1 AS a) x, (SELECT 1 AS b",
        "SELECT 1 FROM nowhere",
        "",
    ):
        with (
            pytest.raises((SourceError, ConfigError)) as caught,
            stub.connector().open(ReadRequest(Stream("q", query=query))),
        ):
            pass
        assert caught.value.code in {"sql", "table_not_found"}
    assert [found.name for found in stub.connector().discover()] == ["T"]
    with stub.connector().open(ReadRequest(Stream("q", query="-- why\nSELECT 7 AS N -- this"))) as extract:
        assert rows(extract) == [{"N": "7"}]


def test_cursors_of_which_no_literal_is_exact_are_refused(stub: Stub) -> None:
    stub.execute("CREATE TABLE T (D BINARY_DOUBLE)")
    with (
        pytest.raises(ConfigError) as caught,
        stub.connector().open(ReadRequest(Stream("t", table="T", cursor="D"))),
    ):
        pass
    assert caught.value.code == "cursor_type"


def test_a_column_that_cannot_be_read_is_refused_unless_it_is_left_out(stub: Stub) -> None:
    stub.execute("CREATE TABLE T (ID NUMBER(9,0), F BFILE)", "INSERT INTO T VALUES (1, NULL)")
    with pytest.raises(SourceError) as caught, stub.connector().open(ReadRequest(Stream("t", table="T"))):
        pass
    assert caught.value.code == "unsupported_type"
    with stub.connector().open(ReadRequest(Stream("t", table="T", exclude=("F",)))) as extract:
        assert rows(extract) == [{"ID": 1}]


def test_discovery_proposes_keys_and_cursors(stub: Stub) -> None:
    stub.execute(
        "CREATE TABLE ORDERS (ID NUMBER(9,0) PRIMARY KEY, "
        "UPDATED_AT TIMESTAMP(6) NOT NULL, NAME VARCHAR2(9))",
        "CREATE INDEX BY_TIME ON ORDERS (UPDATED_AT)",
    )
    (found,) = stub.connector().discover()
    assert found.primary_key == ("ID",)
    assert found.cursor_candidates == ("UPDATED_AT", "ID")
    assert [(each.name, each.type, each.nullable) for each in found.columns] == [
        ("ID", "NUMBER(9,0)", False),
        ("UPDATED_AT", "TIMESTAMP(6)", False),
        ("NAME", "VARCHAR2(9)", True),
    ]


def test_a_wrong_password(stub: Stub) -> None:
    with pytest.raises(SourceError) as caught:
        stub.connector(password="wrong").test()
    assert caught.value.code == "authentication_failed"


def test_a_read_that_waits_is_interrupted_from_another_thread(stub: Stub) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    query = f"SELECT count(*) AS n FROM ({endless})"
    with stub.connector().open(ReadRequest(Stream("q", query=query))) as extract:
        timer = threading.Timer(0.3, extract.interrupt)
        timer.start()
        with pytest.raises(SourceError):
            rows(extract)
        timer.join()


# A copy and a sync


@pytest.mark.parametrize(
    "uri",
    [
        "oracle+oracledb://etl:secret@db.example.com:1522/?service_name=SHOP",
        "oracle://etl:secret@db.example.com:1522/SHOP",
        "oracledb://etl:secret@db.example.com:1522/SHOP?tls=false",
    ],
)
def test_uris_are_those_of_sqlalchemy(uri: str, tmp_path: Path) -> None:
    end = end_of(uri, "SOURCE", reference_context(tmp_path, {}, lambda: tmp_path))
    config = end.config
    assert isinstance(config, OracleConnection)
    assert (end.protocol, config.host, config.port, config.service_name) == (
        "oracle",
        "db.example.com",
        1522,
        "SHOP",
    )
    assert (end.home(), config.speaks_tls) == ("ETL", "tls=false" not in uri)
    assert end.name.startswith("SHOP-")
    other = end_of(uri.replace("SHOP", "SHOP2"), "SOURCE", reference_context(tmp_path, {}, lambda: tmp_path))
    assert other.name != end.name


def sync(atlas: Atlas) -> str:
    (ended,) = (event for event in atlas.sync() if isinstance(event, RunFinished))
    return ended.run.status


def test_a_table_is_synced_whole_and_then_what_is_new(stub: Stub, project: Project) -> None:
    stub.execute(
        "CREATE TABLE ORDERS (ID NUMBER PRIMARY KEY, NAME VARCHAR2(20), UPDATED_AT DATE)",
        f"INSERT INTO ORDERS VALUES (1, 'Ada', '{NOON}'), (2, 'Łukasz 😀', '{NOON}')",
    )
    lines = "".join(f"  {key}: {value!r}\n" for key, value in stub.settings.items())
    project.write(
        "connectors.d/shop.yaml",
        f"protocol: oracle\nconnection:\n{lines}streams:\n  - {{table: orders, cursor: UPDATED_AT}}\n",
    )
    atlas = Atlas.open(project.folder, {})
    assert sync(atlas) == "completed"
    stub.execute(
        f"UPDATE ORDERS SET NAME = 'Bob', UPDATED_AT = '{NOON}' WHERE ID = 1",
        "INSERT INTO ORDERS VALUES (3, 'Zoë', '2026-03-01 12:00:01')",
    )
    assert sync(atlas) == "completed"
    answer = project.atlas("query", 'SELECT "ID", "NAME" FROM shop.orders ORDER BY 1', "--json").json()
    assert [tuple(row) for row in answer["rows"]] == [(1, "Bob"), (2, "Łukasz 😀"), (3, "Zoë")]
