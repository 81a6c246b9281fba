"""What users get wrong: each is a clear error with its exit code, and nothing is changed."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys

import duckdb
import pytest
from tests.project import Finished, Project
from tests.servers import ServerAddress

SERVERS = {"postgresql": "postgres", "mysql": "mysql"}
SECRET = "pa55-w0rd-that-must-not-show"


@pytest.fixture(params=SERVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def address(request: pytest.FixtureRequest, protocol: str) -> ServerAddress:
    found: ServerAddress = request.getfixturevalue(SERVERS[protocol])
    return found


def define(
    project: Project, protocol: str, address: ServerAddress, name: str = "shop", **changes: object
) -> None:
    connection = {
        "host": address.host, "port": address.port, "database": address.database,
        "username": address.username, "password": address.password, **changes,
    }  # fmt: skip
    definition = {"protocol": protocol, "connection": connection, "streams": [{"table": "orders"}]}
    project.write(f"connectors.d/{name}.json", json.dumps(definition))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def refused(done: Finished, code: int) -> dict[str, str]:
    """The error's document, checked for what every error must be."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 8
    assert SECRET not in done.stdout + done.stderr
    document = done.json()
    if "error" in document:
        found = document["error"]
    elif "results" in document:
        found = {**document["results"][0], "code": ""}
    else:
        found = document["runs"][0]["error"]
    assert found["message"]
    return dict(found)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"host": "no-such-host.invalid"}, "host_not_found", "no-such-host.invalid"),
        ({"port": "closed"}, "connection_refused", "127.0.0.1"),
        ({"password": SECRET}, "authentication_failed", ""),
        ({"username": "nobody-here", "password": SECRET}, "authentication_failed", "nobody-here"),
        ({"database": "no_such_database"}, "database_not_found", "no_such_database"),
    ],
)
def test_a_wrong_address_or_login(
    project: Project, protocol: str, address: ServerAddress, changes: dict[str, object], code: str, says: str
) -> None:
    changes = {key: closed_port() if value == "closed" else value for key, value in changes.items()}
    define(project, protocol, address, **changes)
    error = refused(project.atlas("connector", "sync", "shop", "--json"), 3)
    assert error["code"] == code
    assert says in error["message"]
    assert error["hint"]
    assert not (project.folder / "warehouse.duckdb").exists()
    refused(project.atlas("connector", "test", "shop", "--json"), 3)


@pytest.mark.parametrize("key", ["host", "database", "username"])
def test_a_uri_in_the_place_of_a_name_shows_no_password(project: Project, protocol: str, key: str) -> None:
    here = ServerAddress("127.0.0.1", closed_port(), "etl", "", "shop")
    define(project, protocol, here, **{key: f"{protocol}://etl:{SECRET}@db.example.com/shop"})
    for command in (["sync"], ["test"], ["discover"]):
        error = refused(project.atlas("connector", *command, "shop", "--json"), 2)
        assert f"connection.{key}: should be a name" in error["message"]


def test_tls_that_the_server_does_not_offer(project: Project, address: ServerAddress, protocol: str) -> None:
    wanted = {"sslmode": "require"} if protocol == "postgresql" else {"ssl_mode": "required"}
    changes = {"options": wanted} if protocol == "postgresql" else wanted
    define(project, protocol, address, **changes)
    error = refused(project.atlas("connector", "sync", "shop", "--json"), 3)
    assert error["code"] == "tls", error


def test_a_destination_that_cannot_be_reached(
    project: Project, protocol: str, address: ServerAddress
) -> None:
    sqlite3.connect(project.folder / "shop.db").executescript("CREATE TABLE orders (id INTEGER);")
    stream(project, "orders")
    warehouse = {
        "protocol": protocol, "host": address.host, "port": address.port, "database": address.database,
        "username": address.username, "password": SECRET,
    }  # fmt: skip
    project.write("atlas.yaml", json.dumps({"destinations": {"warehouse": warehouse}}))
    error = refused(project.atlas("connector", "sync", "shop", "--json"), 4)
    assert error["code"] == "authentication_failed"


def test_a_state_store_that_cannot_be_reached(project: Project) -> None:
    sqlite3.connect(project.folder / "shop.db").executescript("CREATE TABLE orders (id INTEGER);")
    stream(project, "orders")
    url = f"postgresql://etl:{SECRET}@127.0.0.1:{closed_port()}/state"
    project.write("atlas.yaml", json.dumps({"state": url}))
    refused(project.atlas("connector", "sync", "shop", "--json"), 4)
    assert not (project.folder / "warehouse.duckdb").exists()


@pytest.mark.parametrize("name", ["shop", "state"])
def test_an_unknown_protocol(project: Project, name: str) -> None:
    project.write("connectors.d/shop.yaml", "protocol: postgrsql\nstreams: [orders]\n")
    error = refused(project.atlas("connector", "sync", "shop", "--json"), 2)
    assert error["code"] == "unknown_protocol"
    assert "postgresql" in error["hint"]


@pytest.fixture
def shop(project: Project) -> Project:
    database = sqlite3.connect(project.folder / "shop.db")
    database.executescript(
        """
        CREATE TABLE orders (id INTEGER PRIMARY KEY, flag BLOB, at TIMESTAMP);
        INSERT INTO orders VALUES (1, x'00', '2026-01-01 00:00:00');
        CREATE TABLE "we""ird;--" (id INTEGER, "DROP TABLE orders; --" TEXT);
        INSERT INTO "we""ird;--" VALUES (1, 'x');
        CREATE TABLE empty (id INTEGER, at TIMESTAMP);
        """
    )
    database.close()
    return project


def stream(project: Project, text: str) -> None:
    sqlite_file = "protocol: sqlite\nconnection: {database_path: shop.db}\n"
    project.write("connectors.d/shop.yaml", f"{sqlite_file}streams: [{text}]\n")


@pytest.mark.parametrize(
    ("text", "exit_code", "code", "says"),
    [
        ("{table: ordrs}", 3, "table_not_found", "ordrs"),
        ("{table: orders, cursor: att}", 3, "column_not_found", "att"),
        ("{table: orders, cursor: flag}", 2, "cursor_type", "flag"),
        ("{table: orders, primary_key: [idd], cursor: at}", 3, "column_not_found", "idd"),
        ("{table: empty, disposition: merge}", 2, "no_primary_key", "primary key"),
        ("{name: q, query: SELEC 1}", 3, "sql", ""),
        ("{table: orders, cursors: at}", 2, "", "cursor"),
        ("{table: orders, into: warehouse}, {table: empty, into: warehouse}", 2, "", "same table"),
    ],
)
def test_a_stream_that_cannot_be_read(shop: Project, text: str, exit_code: int, code: str, says: str) -> None:
    stream(shop, text)
    error = refused(shop.atlas("connector", "sync", "shop", "--json"), exit_code)
    assert says in error["message"] + str(error["hint"])
    if code:
        assert error["code"] == code
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'shop'"
    assert shop.atlas("query", tables, "--json").json()["rows"] == [[0]]


def test_odd_names_are_moved_exactly(shop: Project) -> None:
    stream(shop, """'we"ird;--', {table: empty, cursor: at}""")
    done = shop.atlas("connector", "sync", "shop", "--json")
    assert done.returncode == 0, done.stderr
    answer = shop.atlas("query", 'SELECT * FROM shop."we""ird;--"', "--json").json()
    assert answer == {"columns": ["id", "DROP TABLE orders; --"], "rows": [[1, "x"]]}
    assert shop.atlas("query", "SELECT count(*) FROM shop.empty", "--json").json()["rows"] == [[0]]


def test_rows_of_somebody_else_are_not_replaced(shop: Project) -> None:
    stream(shop, "{table: orders, disposition: replace}")
    with duckdb.connect(str(shop.folder / "warehouse.duckdb")) as warehouse:
        warehouse.execute("CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT 'precious' AS x")
    error = refused(shop.atlas("connector", "sync", "shop", "--json"), 4)
    assert error["code"] == "table_not_ours"
    assert shop.atlas("query", "SELECT x FROM shop.orders", "--json").json()["rows"] == [["precious"]]


def test_a_source_that_is_no_database(shop: Project) -> None:
    shop.write("not.db", "this is text\n" * 500)
    shop.write(
        "connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: not.db}\nstreams: [orders]\n"
    )
    error = refused(shop.atlas("connector", "sync", "shop", "--json"), 3)
    assert error["code"] == "not_a_database"
    shop.write("atlas.yaml", "destinations: {warehouse: {protocol: duckdb, path: not.db}}\n")
    stream(shop, "orders")
    error = refused(shop.atlas("connector", "sync", "shop", "--json"), 4)
    assert error["code"] == "not_a_database"


def test_a_folder_that_cannot_be_written(shop: Project) -> None:
    stream(shop, "orders")
    for protocol, key in (("duckdb", "path"), ("sqlite", "database_path"), ("parquet", "path")):
        shop.write("plain", "a file, not a folder")
        shop.write(
            "atlas.yaml", json.dumps({"destinations": {"w": {"protocol": protocol, key: "plain/inside/w"}}})
        )
        refused(shop.atlas("connector", "sync", "shop", "--json"), 4)


def test_yaml_that_means_harm_or_nothing(shop: Project) -> None:
    for text in (
        "protocol: sqlite\nprotocol: duckdb\n",
        "protocol: sqlite\nconnection: {connect_timeout: 12:30:45}\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nprotocol: [*e, *e, *e, *e, *e, *e]\n",
        "protocol: !!python/object/apply:os.system [id]\n",
        "- a list\n",
        "protocol: [unclosed\n",
    ):
        shop.write("connectors.d/shop.yaml", text)
        error = refused(shop.atlas("connector", "sync", "shop", "--json"), 2)
        assert "connectors.d/shop.yaml" in error["message"]


def test_a_folder_that_was_deleted_meanwhile(project: Project) -> None:
    gone = project.folder / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m atlas_etl connector list'
    done = subprocess.run(
        ["sh", "-c", script, "-", gone, sys.executable],
        env=project.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "the folder that this command was started in is there no longer" in done.stderr


@pytest.mark.parametrize("protocol", ["duckdb", "sqlite", "csv"])
def test_a_path_does_not_end_at_a_nul(project: Project, protocol: str) -> None:
    project.write("rows.csv", "id\n1\n")
    done = project.atlas("copy", "rows.csv", f"{protocol}:///{project.folder}/a%00b", "--table", "t")
    assert (done.returncode, "has a NUL character" in done.stderr) == (2, True), done.stderr
    assert not (project.folder / "a").exists()
