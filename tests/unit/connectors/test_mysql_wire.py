"""A binary result on the wire: whole, broken, ended early, encrypted; never short and never another's."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pymysql
import pytest
from pymysql.constants import CR, ER

from atlas_etl.connectors.sql._mysql.parameters import Parameter
from atlas_etl.connectors.sql._mysql.prepared import describe_query
from atlas_etl.connectors.sql._mysql.wire import stream_query
from atlas_etl.model import BatchLimits
from tests.conftest import unavailable
from tests.servers import ServerAddress, Unavailable
from tests.servers import mysql as mysql_recipe
from tests.servers.process import own, private_folder

Client = "Connection[Cursor]"
DEFAULT = BatchLimits()
SMALL = BatchLimits(rows=100)
MIB = 1024 * 1024
FULL = 2**24 - 1
ENDLESS = "SELECT seq, REPEAT('x', 1000) FROM seq_1_to_100000000"


@pytest.fixture
def client(mysql: ServerAddress) -> Iterator[Client]:
    connection = mysql_recipe.connect(mysql)
    yield connection
    if connection.open:
        connection.close()


def rows(
    client: Client, sql: str, *parameters: Parameter, limits: BatchLimits = DEFAULT
) -> list[tuple[object, ...]]:
    with stream_query(client, sql, parameters, limits) as result:
        batches = [batch for batch, _ in result]
    return [
        tuple(cells)
        for batch in batches
        for cells in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    ]


def session_count(client: Client, variable: str) -> int:
    with client.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE %s", [variable])
        return int(cursor.fetchone()[1])


def assert_in_step(client: Client) -> None:
    """The connection answers the next commands, each with its own result."""
    assert rows(client, "SELECT 'mine' FROM seq_1_to_3") == [("mine",)] * 3
    with client.cursor() as cursor:
        cursor.execute("SELECT 'plain'")
        assert cursor.fetchall() == (("plain",),)


@pytest.mark.parametrize("limits", [DEFAULT, SMALL, BatchLimits(bytes=1), BatchLimits(rows=1)])
def test_rows_arrive_in_order_and_within_the_limits(client: Client, limits: BatchLimits) -> None:
    count = 20_000 if limits in (DEFAULT, SMALL) else 300
    with stream_query(
        client, f"SELECT seq, REPEAT('y', seq % 400) FROM seq_1_to_{count}", (), limits
    ) as result:
        batches = [batch for batch, _ in result]
    assert [n for batch in batches for n in batch.column(0).to_pylist()] == list(range(1, count + 1))
    assert all(batch.num_rows <= limits.rows for batch in batches)
    assert_in_step(client)


def test_batches_of_large_cells_and_of_nulls_are_bounded_by_what_they_take_in_arrow(client: Client) -> None:
    limits = BatchLimits(bytes=1_000_000)
    with stream_query(client, "SELECT REPEAT('x', 50000) FROM seq_1_to_1000", (), limits) as result:
        sizes = [batch.nbytes for batch, _ in result]
    assert sum(sizes) > 50_000_000
    assert max(sizes) < 1.2 * limits.bytes
    nulls = ", ".join(["IF(seq, NULL, 1.5)"] * 200)
    with stream_query(client, f"SELECT {nulls} FROM seq_1_to_5000", (), limits) as result:
        sizes = [batch.nbytes for batch, _ in result]
    assert len(sizes) > 10
    assert max(sizes) < 1.2 * limits.bytes


def test_an_empty_result_has_columns_and_no_batch(client: Client) -> None:
    with stream_query(
        client, "SELECT seq AS n, 'x' AS t FROM seq_1_to_3 WHERE seq > 9", (), DEFAULT
    ) as result:
        assert result.schema.names == ["n", "t"]
        assert list(result) == []
        assert list(result) == []
    assert_in_step(client)


def test_parameters_are_bound_and_come_back_as_they_were(client: Client) -> None:
    values: list[Parameter] = [
        *(-(2**63), 2**63 - 1, 2**63, 2**64 - 1, 10**40, 0.1, None),
        *("'; DROP TABLE t -- \\ \" ?", "😀" * 100, "x" * 70_000, b"\x00\xff'", b"z" * 300),
        *(Decimal("-1234567890123456789012345678901.5"), Decimal("1E-7"), Decimal("1E+5")),
    ]
    assert rows(client, f"SELECT {', '.join('?' * len(values))}", *values) == [tuple(values)]
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (d DECIMAL(30,10), b BIGINT UNSIGNED)")
        cursor.execute("INSERT INTO t VALUES (12345678901234567890.0000000001, 18446744073709551615)")
    # Compared as doubles, as they would be if they were sent as text, these would be equal.
    assert rows(client, "SELECT 1 FROM t WHERE d > ?", Decimal("12345678901234567890")) == [(1,)]
    assert rows(client, "SELECT 1 FROM t WHERE b > ?", 2**64 - 2) == [(1,)]


def test_parameters_that_do_not_fit_the_query_send_nothing(client: Client) -> None:
    with pytest.raises(pymysql.err.ProgrammingError, match="2 parameters, 1"):
        stream_query(client, "SELECT ?, ?", (1,), DEFAULT)
    with pytest.raises(TypeError, match="list"):
        stream_query(client, "SELECT ?", ([1],), DEFAULT)  # type: ignore[arg-type]
    assert_in_step(client)


def test_a_statement_that_gives_no_rows_is_refused_before_it_runs(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n INT)")
    with pytest.raises(pymysql.err.ProgrammingError, match="gives no rows"):
        stream_query(client, "INSERT INTO t VALUES (1)", (), DEFAULT)
    assert rows(client, "SELECT COUNT(*) FROM t") == [(0,)]


def test_a_query_is_described_without_being_run(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n INT UNSIGNED NOT NULL, d DECIMAL(12,2), v VARCHAR(10))")
    columns = describe_query(client, "SELECT n, d, v, SLEEP(100) FROM t WHERE n > ?")
    assert [(column.name, column.nullable) for column in columns[:3]] == [
        ("n", False),
        ("d", True),
        ("v", True),
    ]
    assert columns[0].unsigned
    assert columns[2].is_text
    assert_in_step(client)


def test_server_errors_keep_their_class_and_every_statement_is_closed(client: Client) -> None:
    with pytest.raises(pymysql.err.ProgrammingError) as caught:
        rows(client, "SELECT * FROM nowhere")
    assert caught.value.args[0] == ER.NO_SUCH_TABLE
    with pytest.raises(pymysql.err.OperationalError):
        rows(client, "SELECT (SELECT seq FROM seq_1_to_2)")
    with pytest.raises(pymysql.err.ProgrammingError):
        rows(client, "SELECT ?")
    assert_in_step(client)
    describe_query(client, "SELECT 1")
    prepared, closed = session_count(client, "Com_stmt_prepare"), session_count(client, "Com_stmt_close")
    assert (prepared, closed) == (5, 4)  # the one that could not be prepared has nothing to close


def test_a_query_that_fails_after_rows_raises_and_leaves_the_connection(client: Client) -> None:
    failing = (
        "SELECT seq, (SELECT 1 FROM seq_1_to_2 b WHERE b.seq = 1 OR a.seq = 90000) FROM seq_1_to_100000 a"
    )
    given = []
    with (
        stream_query(client, failing, (), SMALL) as result,
        pytest.raises(pymysql.err.OperationalError) as caught,
    ):
        given += [batch.num_rows for batch, _ in result]
    assert caught.value.args[0] == ER.SUBQUERY_NO_1_ROW
    with pytest.raises(pymysql.err.OperationalError):
        for batch, _ in stream_query(client, failing, (), SMALL):
            given.append(batch.num_rows)
    assert given[:2] == [100, 100]
    assert_in_step(client)


def test_a_killed_query_raises_and_leaves_the_connection(client: Client, mysql: ServerAddress) -> None:
    with stream_query(client, ENDLESS, (), SMALL) as result:
        next(result)
        with mysql_recipe.connect(mysql) as other, other.cursor() as cursor:
            cursor.execute(f"KILL QUERY {client.thread_id()}")
        with pytest.raises(pymysql.err.OperationalError) as caught:
            list(result)
    assert caught.value.args[0] == ER.QUERY_INTERRUPTED
    assert_in_step(client)


def test_a_killed_connection_raises(client: Client, mysql: ServerAddress) -> None:
    with stream_query(client, ENDLESS, (), SMALL) as result:
        next(result)
        with mysql_recipe.connect(mysql) as other, other.cursor() as cursor:
            cursor.execute(f"KILL {client.thread_id()}")
        with pytest.raises(pymysql.err.OperationalError):
            list(result)
    assert not client.open


def test_a_server_that_dies_under_a_result_is_an_error_and_no_short_result() -> None:
    try:
        with mysql_recipe.private_server() as (server, address):
            client = mysql_recipe.connect(address)
            with stream_query(client, ENDLESS, (), SMALL) as result:
                next(result)
                server.kill()
                with pytest.raises(pymysql.err.OperationalError) as caught:
                    list(result)
    except Unavailable as reason:
        unavailable("mysql", reason)
    assert caught.value.args[0] == CR.CR_SERVER_LOST
    assert not client.open
    with pytest.raises(pymysql.err.InterfaceError):
        stream_query(client, "SELECT 1", (), DEFAULT)


def test_a_silent_server_runs_into_the_read_timeout(client: Client) -> None:
    client._read_timeout = 0.2
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(client, "SELECT seq, SLEEP(seq = 5000) FROM seq_1_to_5000")
    assert caught.value.args[0] == CR.CR_SERVER_LOST
    assert not client.open


def test_the_connection_refuses_commands_while_a_result_is_unread(client: Client) -> None:
    with stream_query(client, "SELECT seq FROM seq_1_to_5000", (), SMALL) as result:
        first, _ = next(result)
        for command in (
            lambda: client.ping(reconnect=False),
            client.commit,
            lambda: rows(client, "SELECT 1"),
            lambda: client.query("SELECT 1"),
        ):
            with pytest.raises(pymysql.err.InterfaceError, match="not been read"):
                command()
        rest = [batch for batch, _ in result]
        client.ping(reconnect=False)
    assert pa.Table.from_batches([first, *rest]).column(0).to_pylist() == list(range(1, 5001))
    assert_in_step(client)


def test_closing_early_closes_the_connection(client: Client, mysql: ServerAddress) -> None:
    with stream_query(client, ENDLESS, (), SMALL) as result:
        next(result)
    assert not client.open
    assert list(result) == []
    with pytest.raises(pymysql.err.InterfaceError):
        rows(client, "SELECT 1")
    with mysql_recipe.connect(mysql) as fresh:
        assert_in_step(fresh)


def test_what_would_not_arrive_as_utf8_is_refused(mysql: ServerAddress) -> None:
    with mysql_recipe.connect(mysql) as client:
        client.set_character_set("latin1")
        with pytest.raises(pymysql.err.NotSupportedError, match="'t' would arrive as latin1"):
            rows(client, "SELECT 'x' AS t")
        assert not client.open


@pytest.fixture
def large(mysql_server: ServerAddress) -> Iterator[Client]:
    """A session that may have rows larger than one packet."""
    with mysql_recipe.connect(mysql_server) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        before = cursor.fetchone()[0]
        cursor.execute("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
        with mysql_recipe.connect(mysql_server) as client:
            yield client
        cursor.execute("SET GLOBAL max_allowed_packet = %s", [before])


@pytest.mark.parametrize("limits", [DEFAULT, BatchLimits(bytes=1000), BatchLimits(bytes=64 * MIB, rows=2)])
@pytest.mark.parametrize(
    "sizes",
    [
        [1, 2, 20 * MIB, 4, 5],
        *([1, 2, 3, FULL - 47 + more, 5] for more in (-1, 0, 1)),
        [1, 2 * FULL - 52, 3],
        [40 * MIB, 2, 17 * MIB, 17 * MIB, 5],
    ],
)
def test_rows_of_several_packets(large: Client, sizes: list[int], limits: BatchLimits) -> None:
    """Also those that fill their packets to the last byte, so that an empty one follows.

    A row has 2 bytes of its own, 8 for `seq`, 33 for the hash, and 4 or 9 for the length of `s`.
    """
    marks = ", ".join("?" * len(sizes))
    sql = f"""SELECT seq, s, MD5(s) FROM (
                SELECT seq, CONCAT(REPEAT('0123456', n DIV 7), REPEAT('z', n MOD 7)) AS s
                FROM (SELECT seq, ELT(seq, {marks}) AS n FROM seq_1_to_{len(sizes)}) a) b"""
    found = []
    with stream_query(large, sql, sizes, limits) as result:
        for batch, _ in result:
            found += batch.to_pylist()
    assert [row["seq"] for row in found] == list(range(1, len(sizes) + 1))
    assert [len(row["s"]) for row in found] == sizes
    for row in found:
        assert hashlib.md5(row["s"].encode()).hexdigest() == row["MD5(s)"]
    assert_in_step(large)


def test_parameters_larger_than_a_packet(large: Client) -> None:
    value = "0123456789" * 1_700_000
    expected = (len(value), hashlib.md5(value.encode()).hexdigest())
    assert rows(large, "SELECT LENGTH(?), MD5(?)", value, value.encode()) == [expected]
    assert_in_step(large)


def test_an_encrypted_connection() -> None:
    with private_folder("atlas-tls-") as folder:
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        own(key)
        own(certificate)
        try:
            with mysql_recipe.private_server(f"--ssl-cert={certificate}", f"--ssl-key={key}") as (_, address):
                client = pymysql.connect(
                    host=address.host,
                    port=address.port,
                    user=address.username,
                    password=address.password,
                    database=address.database,
                    ssl_ca=str(certificate),
                    ssl_verify_cert=True,
                    ssl_verify_identity=True,
                )
                with client:
                    assert rows(client, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1] != ""
                    sent = rows(client, "SELECT seq, REPEAT('x', 1000) FROM seq_1_to_20000")
                    assert sent == [(number, "x" * 1000) for number in range(1, 20_001)]
                    assert_in_step(client)
        except Unavailable as reason:
            unavailable("mysql", reason)
