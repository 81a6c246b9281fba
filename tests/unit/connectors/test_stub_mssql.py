"""SQL Server as far as a stand-in tells: the real driver's sessions, snapshots, late rows, errors and TLS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.contracts import Extract
from atlas_etl.errors import ConfigError, HazardError, SourceError
from atlas_etl.model import CursorKind, CursorValue, Hazard, HazardPolicy, ReadRequest, Stream
from tests.project import Project
from tests.servers import Unavailable
from tests.servers.certified import signed
from tests.servers.stub_mssql import StubServer, execute, serve


class Stub:
    """One database of the stand-in, and what a test does with it."""

    def __init__(self, server: StubServer, allows: str) -> None:
        self.path = server.fresh_database(allows)
        self.settings = server.connection(self.path)

    def execute(self, *statements: str) -> None:
        for sql in statements:
            execute(self.path, sql)

    def connector(self, **more: object) -> BaseConnector[ConnectionConfig]:
        adapter = registry.load("mssql")
        assert adapter.connector is not None
        made = adapter.connector(adapter.connection.model_validate({**self.settings, **more}))
        assert isinstance(made, BaseConnector)
        return made


@pytest.fixture
def stub(stub_mssql_server: StubServer) -> Stub:
    return Stub(stub_mssql_server, "snapshot")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StubServer, Path]]:
    """A stand-in that has a certificate for the name localhost."""
    try:
        with (
            signed(["DNS:localhost"]) as (certificate, key),
            serve(tmp_path_factory.mktemp("stub tls"), certificate, key) as server,
        ):
            yield server, certificate
    except Unavailable as missing:
        pytest.skip(str(missing))


def rows(extract: Extract) -> list[dict[str, object]]:
    return [row for batch in extract.batches() for row in batch.to_pylist()]


NOON = "2026-03-01 12:00:00.000000"


# Snapshots


@pytest.mark.parametrize(("allows", "says"), [("statement", "a moment of its own"), ("locks", "read twice")])
def test_a_database_without_snapshots_is_told_of_by_the_plan_and_the_test(
    stub_mssql_server: StubServer, allows: str, says: str
) -> None:
    weaker = Stub(stub_mssql_server, allows)
    weaker.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    connector = weaker.connector()
    with connector.open(ReadRequest(Stream("t", table="t"))) as extract:
        assert [says in caveat for caveat in extract.outline().caveats] == [True]
    (warning,) = connector.test().warnings
    assert says in warning
    assert "SET ALLOW_SNAPSHOT_ISOLATION ON" in warning


def test_with_a_snapshot_nothing_is_weaker(stub: Stub) -> None:
    stub.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME2(6))")
    with stub.connector().open(ReadRequest(Stream("t", table="t", cursor="at"))) as extract:
        assert extract.outline().caveats == ()
    assert stub.connector().test().warnings == ()


def test_a_cursor_that_needs_two_statements_needs_a_snapshot(stub_mssql_server: StubServer) -> None:
    weaker = Stub(stub_mssql_server, "statement")
    weaker.execute("CREATE TABLE t (name NVARCHAR(20))")
    with (
        pytest.raises(ConfigError) as caught,
        weaker.connector().open(ReadRequest(Stream("t", table="t", cursor="name"))),
    ):
        pass
    assert (caught.value.code, caught.value.column) == ("cursor_type", "name")
    assert "ALLOW_SNAPSHOT_ISOLATION" in (caught.value.hint or "")


def test_a_uniqueidentifier_is_no_cursor(stub: Stub) -> None:
    stub.execute("CREATE TABLE t (id UNIQUEIDENTIFIER)")
    with (
        pytest.raises(ConfigError) as caught,
        stub.connector().open(ReadRequest(Stream("t", table="t", cursor="id"))),
    ):
        pass
    assert caught.value.code == "cursor_type"


# Late rows


def tail_of(stub: Stub) -> datetime:
    now = datetime.now(UTC).replace(tzinfo=None)
    stub.execute(
        "CREATE TABLE t (id INT, at DATETIME2(6))", f"INSERT INTO t VALUES (1, '{now:%Y-%m-%d %H:%M:%S.%f}')"
    )
    stream = Stream("t", table="t", cursor="at", timezone="UTC")
    with stub.connector().open(ReadRequest(stream)) as extract:
        assert len(rows(extract)) == 1
        checkpoint = extract.checkpoint()
    assert checkpoint is not None
    return datetime.fromisoformat(checkpoint.tail_from.text)


def ago(moment: datetime) -> timedelta:
    return datetime.now(UTC).replace(tzinfo=None) - moment


def test_the_tail_begins_at_the_oldest_transaction_that_is_open(stub_mssql_server: StubServer) -> None:
    assert ago(tail_of(Stub(stub_mssql_server, "snapshot"))) < timedelta(minutes=3)
    hours = ago(tail_of(Stub(stub_mssql_server, "snapshot_busy")))  # one more, as summer time may have ended
    assert timedelta(hours=2) <= hours < timedelta(hours=2, minutes=3)


def test_a_login_that_does_not_see_others_has_a_bound_and_is_told_the_grant(
    stub_mssql_server: StubServer,
) -> None:
    blind = Stub(stub_mssql_server, "snapshot_blind")
    assert timedelta(minutes=5) <= ago(tail_of(blind)) < timedelta(minutes=8)
    (warning,) = blind.connector().test().warnings
    assert "GRANT VIEW SERVER STATE TO [etl]" in warning
    with blind.connector().open(ReadRequest(Stream("t", table="t", cursor="at"))) as extract:
        (caveat,) = extract.outline().caveats
    assert "5 minutes late are missed" in caveat


# Values and statements


def test_bounds_are_literals_of_the_columns_own_type(stub: Stub) -> None:
    stub.execute("CREATE TABLE t (id BIGINT, version TIMESTAMP, name NVARCHAR(20), at DATETIME2(6))")

    def where(cursor: str, kind: CursorKind, text: str) -> str:
        request = ReadRequest(Stream("t", table="t", cursor=cursor), since=CursorValue(kind, text))
        with stub.connector().open(request) as extract:
            (statement,) = extract.outline().statements
        return statement.partition(" WHERE ")[2].partition(" -- ")[0]

    assert where("id", CursorKind.INTEGER, "7") == "[id] >= CAST(N'7' AS bigint)"
    at = where("at", CursorKind.TIMESTAMP, "2026-03-01T12:00:00.000009")
    assert at == "[at] >= CAST(N'2026-03-01T12:00:00.000009' AS datetime2(6))"
    name = where("name", CursorKind.TEXT, "O'Hara\\\n")
    collated = "COLLATE Latin1_General_100_BIN2"
    assert name == f"[name] >= CAST((N'O''Hara\\' + N'\n') {collated} AS nvarchar(max))"
    low = where("version", CursorKind.INTEGER, "-9223372036854775808")
    assert low == "[version] >= CAST(CAST(0 AS bigint) AS binary(8))"


def test_a_query_is_one_select(stub: Stub) -> None:
    stub.execute("CREATE TABLE t (id INT)")
    for query in ("SELECT 1 AS a) AS x; DROP TABLE t; SELECT * FROM (SELECT 1 AS a", "SELECT 1 FROM nowhere"):
        with (
            pytest.raises(SourceError) as caught,
            stub.connector().open(ReadRequest(Stream("q", query=query))),
        ):
            pass
        assert caught.value.code == "sql"
    assert [found.name for found in stub.connector().discover()] == ["t"]


def test_a_time_past_nanoseconds_is_a_hazard(stub: Stub) -> None:
    stub.execute(
        "CREATE TABLE t (id INT, until DATETIME2(7))",
        "INSERT INTO t VALUES (1, '2026-03-01 12:00:00.1234567'), (2, '9999-12-31 23:59:59.9999999'), "
        "(3, NULL)",
    )
    stream = Stream("t", table="t")
    with stub.connector().open(ReadRequest(stream)) as extract, pytest.raises(HazardError) as caught:
        rows(extract)
    assert "9999-12-31T23:59:59.9999999" in caught.value.message
    assert "datetime2(6)" in (caught.value.hint or "")
    nulled = Stream("t", table="t", hazards={Hazard.OUT_OF_RANGE: HazardPolicy.NULL})
    with stub.connector().open(ReadRequest(nulled)) as extract:
        found = [cell.value for batch in extract.batches() for cell in batch.column("until")]
    assert found == [1772366400123456700, None, None]
    texts = Stream("t", table="t", hazards={Hazard.OUT_OF_RANGE: HazardPolicy.TEXT})
    with stub.connector().open(ReadRequest(texts)) as extract:
        assert rows(extract)[1] == {"id": 2, "until": "9999-12-31T23:59:59.9999999"}


def test_text_that_is_no_unicode_is_a_hazard_and_no_question_mark(stub: Stub) -> None:
    stub.execute(
        "CREATE TABLE t (name NVARCHAR(20))",
        "INSERT INTO t VALUES ('half of a pair'), ('😀'), ('')",
    )
    stream = Stream("t", table="t", hazards={Hazard.INVALID_TEXT: HazardPolicy.NULL})
    with stub.connector().open(ReadRequest(stream)) as extract:
        assert [row["name"] for row in rows(extract)] == [None, "😀", ""]


# Errors


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"password": "wrong"}, "authentication_failed"),
        ({"port": 1}, "connection_refused"),
        ({"host": "no.such.host.invalid", "trust_server_certificate": True}, "host_not_found"),
    ],
)
def test_a_failing_login_says_why(stub: Stub, wrong: dict[str, object], code: str) -> None:
    with pytest.raises(SourceError) as caught:
        stub.connector(**wrong).test()
    assert caught.value.code == code
    assert caught.value.hint
    assert "wrong" not in caught.value.message
    assert stub.connector().test().message


def test_a_table_that_is_not_there(stub: Stub) -> None:
    stub.execute("CREATE TABLE orders (id INT)")
    with pytest.raises(SourceError) as caught, stub.connector().open(ReadRequest(Stream("t", table="order"))):
        pass
    assert caught.value.code == "table_not_found"
    assert "orders" in (caught.value.hint or "")


def test_a_read_that_waits_is_interrupted_from_another_thread(stub: Stub) -> None:
    stub.execute("CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    slow = f"SELECT count(*) AS n FROM t, ({endless})"
    with stub.connector().open(ReadRequest(Stream("q", query=slow))) as extract:
        timer = threading.Timer(0.3, extract.interrupt)
        timer.start()
        with pytest.raises(SourceError) as caught:
            rows(extract)
        timer.join()
    assert caught.value.retryable


# TLS


def test_a_server_that_is_to_prove_itself_does(encrypted: tuple[StubServer, Path]) -> None:
    server, certificate = encrypted
    stub = Stub(server, "snapshot")
    assert stub.connector(host="localhost", ssl_ca=certificate).test().message
    assert stub.connector(ssl_ca=certificate, certificate_host="localhost").test().message
    assert stub.connector(encrypt="mandatory").test().message
    for refused in ({"ssl_ca": certificate}, {"trust_server_certificate": False}):
        with pytest.raises(SourceError) as caught:
            stub.connector(**refused).test()
        assert caught.value.code == "tls"


def test_a_server_without_encryption_is_not_talked_to_where_that_is_wanted(stub: Stub) -> None:
    with pytest.raises(SourceError) as caught:
        stub.connector(encrypt="mandatory").test()
    assert caught.value.code == "connection_failed"


def test_servers_elsewhere_are_verified_by_default() -> None:
    model = registry.load("mssql").connection
    elsewhere = model.model_validate({"host": "db.example.com"})
    section = elsewhere.section("db.example.com", 1433)
    assert (section["encryption"], section["check certificate hostname"]) == ("require", "yes")
    assert section["certificate hostname"] == "db.example.com"
    trusting = model.model_validate({"host": "db.example.com", "options": {"TrustServerCertificate": "yes"}})
    assert "ca file" not in trusting.section("db.example.com", 1433)
    assert trusting.section("db.example.com", 1433)["encryption"] == "require"
    here = model.model_validate({})
    assert here.section("localhost", 1433)["encryption"] == "request"
    with pytest.raises(ValueError, match="verifies nobody"):
        model.model_validate({"host": "db.example.com", "encrypt": "optional"})


# A sync


def test_a_table_is_synced_whole_and_then_what_is_new(stub: Stub, project: Project) -> None:
    stub.execute(
        "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY, name NVARCHAR(20), updated_at DATETIME2(6))",
        f"INSERT INTO orders VALUES (1, 'Ada', '{NOON}'), (2, 'Łukasz 😀', '{NOON}')",
    )
    lines = "".join(f"  {key}: {value!r}\n" for key, value in stub.settings.items() if key != "password")
    project.write(
        "connectors.d/shop.yaml",
        f"protocol: mssql\nconnection:\n{lines}  password: ${{env:STUB_PASSWORD}}\n"
        "streams:\n  - {table: orders, cursor: updated_at}\n",
    )
    env = {"STUB_PASSWORD": str(stub.settings["password"])}
    assert project.atlas("connector", "sync", "shop", env=env).returncode == 0
    stub.execute(
        f"UPDATE orders SET name = 'Bob', updated_at = '{NOON}' WHERE id = 1",
        "INSERT INTO orders VALUES (3, 'Zoë', '2026-03-01 12:00:01.000000')",
    )
    done = project.atlas("connector", "sync", "shop", env=env)
    assert done.returncode == 0, done.stderr
    found = project.atlas("query", "SELECT id, name FROM shop.orders ORDER BY id", "--json", env=env)
    assert [tuple(row) for row in found.json()["rows"]] == [(1, "Bob"), (2, "Łukasz 😀"), (3, "Zoë")], (
        found.stdout
    )
    assert project.atlas("connector", "verify", "shop", env=env).returncode == 0
