"""The public library: connectors and native clients from a few settings, as scripts and notebooks use it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from pydantic import Field, SecretBytes, SecretStr
from tests.contract.connector_cases import CONNECTORS, ConnectorCase
from tests.servers import ServerAddress

import atlas_etl
from atlas_etl.connectors.base import Adapter, ConnectionConfig
from atlas_etl.connectors.cache import ClientCache, fingerprint
from atlas_etl.errors import ConfigError, MissingDriverError, SourceError, UnknownProtocolError
from atlas_etl.testing import Person, Source

PEOPLE: list[Person] = [
    (1, "Ada", "10.50", "2026-01-01T09:00:00.000000"),
    (2, "Łukasz 😀", None, "2026-01-01T10:00:00.000000"),
]
HEAVY = (
    "adbc_driver_sqlite", "duckdb", "numpy", "psycopg", "pyarrow", "pydantic", "pymysql", "requests", "rich",
    "sqlalchemy", "typer", "yaml",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache() -> Iterator[None]:
    atlas_etl.close_all_connections()
    yield
    atlas_etl.close_all_connections()


@pytest.fixture(params=CONNECTORS, ids=lambda case: case.protocol)
def people(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ConnectorCase, Source]:
    """Each protocol with two people in it."""
    case: ConnectorCase = request.param
    source = case.open(request, tmp_path)
    source.create(PEOPLE)
    return case, source


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A SQLite file with one table."""
    path = tmp_path / "shop.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(sa.text("INSERT INTO orders VALUES (1, 'one'), (2, 'two')"))
    engine.dispose()
    return path


def settings(address: ServerAddress, **more: object) -> dict[str, object]:
    return {
        "host": address.host, "port": address.port, "database": address.database,
        "username": address.username, "password": address.password, **more,
    }  # fmt: skip


def run_python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, atlas_etl; dir(atlas_etl); print([m for m in {HEAVY} if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in atlas_etl.__all__:
        assert getattr(atlas_etl, name).__name__ == name
        assert name in dir(atlas_etl)
    with pytest.raises(AttributeError, match="create_conector"):
        atlas_etl.create_conector  # noqa: B018
    everything: dict[str, object] = {}
    exec("from atlas_etl import *", everything)
    assert set(atlas_etl.__all__) <= set(everything)


def test_fetch_data_gives_rows_and_their_schema(people: tuple[ConnectorCase, Source]) -> None:
    case, source = people
    with atlas_etl.create_connector({"protocol": case.protocol, **source.config}) as connector:
        assert isinstance(connector, atlas_etl.BaseConnector)
        assert connector.connect() is connector
        everything = (
            "SELECT * FROM people ORDER BY id" if case.is_sql else source.config.get("path", "people")
        )
        result = connector.fetch_data(str(everything))
    assert isinstance(result, atlas_etl.IngestionResult)
    assert len(result) == 2
    first, second = result
    assert isinstance(first, atlas_etl.IngestedItem)
    assert (first.source, first.data["id"], first.data["name"]) == (case.protocol, 1, "Ada")
    assert Decimal(str(first.data["amount"])) == Decimal("10.50")
    assert (second.data["name"], second.data["amount"]) == ("Łukasz 😀", None)
    assert result.schema.names == ["id", "name", "amount", "updated_at"]
    connector.close()  # a second time


def test_an_answer_without_rows_has_its_columns(shop: Path) -> None:
    with atlas_etl.create_connector({"protocol": "sqlite3", "database_path": str(shop)}) as connector:
        result = connector.fetch_data("SELECT * FROM orders WHERE id > 5")
    assert (len(result), list(result), result.schema.names) == (0, [], ["id", "name"])


def test_values_are_pythons_own_and_nothing_is_rounded() -> None:
    query = """
        SELECT TIMESTAMP_NS '2026-01-01 10:00:00.000001' AS whole, t, 12.50::DECIMAL(9,2) AS amount,
               '12345678-1234-4234-8234-123456789abc'::UUID AS id, [1, NULL] AS list, 'ab'::BLOB AS bytes,
               TIMESTAMPTZ '2026-01-01 10:00:00+02' AS zoned, 2::UBIGINT ** 63 + 1 > 0 AS yes
        FROM (VALUES (TIMESTAMP_NS '2026-01-01 10:00:00'), ('2026-01-01 10:00:00.000000001')) AS v(t)
    """
    with atlas_etl.create_connector({"protocol": "duckdb", "path": None}) as connector:
        result = connector.fetch_data(query)
    assert result.schema.field("t").type == pa.timestamp("ns")
    assert [item.data["t"] for item in result] == [
        "2026-01-01T10:00:00.000000000", "2026-01-01T10:00:00.000000001",
    ]  # fmt: skip
    first = result.items[0].data
    assert first["whole"] == datetime(2026, 1, 1, 10, 0, 0, 1)
    assert (first["amount"], str(first["amount"])) == (Decimal("12.50"), "12.50")
    assert first["id"] == UUID("12345678-1234-4234-8234-123456789abc")
    assert (first["list"], first["bytes"], first["yes"]) == ([1, None], b"ab", True)
    assert first["zoned"] == datetime(2026, 1, 1, 8, tzinfo=UTC)


def test_settings_that_are_wrong_are_named(shop: Path) -> None:
    with pytest.raises(ConfigError, match="protocol") as caught:
        atlas_etl.create_connector({"database_path": str(shop)})
    assert caught.value.code == "no_protocol"
    with pytest.raises(UnknownProtocolError) as caught:
        atlas_etl.create_connector({"protocol": "postgrsql"})
    assert "'postgresql'" in str(caught.value.hint)
    for call in (atlas_etl.get_connection, atlas_etl.test_connection):
        with pytest.raises(ConfigError, match="databse_path") as caught:
            call("sqlite", databse_path="secret-path")
        assert "secret-path" not in f"{caught.value.message}{caught.value.hint}"
        assert "database_path" in f"{caught.value.message}{caught.value.hint}"


def test_a_connector_of_something_that_is_not_there(tmp_path: Path) -> None:
    missing = {"protocol": "sqlite", "database_path": str(tmp_path / "none.db")}
    with atlas_etl.create_connector(missing) as connector, pytest.raises(SourceError, match=r"none\.db"):
        connector.connect()
    assert not (tmp_path / "none.db").exists()


def test_test_connection_says_whether_it_can_be_read(people: tuple[ConnectorCase, Source]) -> None:
    case, source = people
    assert atlas_etl.test_connection(case.protocol, **source.config) is True
    assert atlas_etl.test_connection(case.protocol, **{**source.config, **source.nowhere()}) is False


def test_a_wrong_password_is_false_and_wrong_settings_are_an_error(postgres: ServerAddress) -> None:
    assert atlas_etl.test_postgres_connection(**settings(postgres)) is True
    assert atlas_etl.test_postgres_connection(**settings(postgres, password="wrong")) is False
    with pytest.raises(ConfigError, match="pasword"):
        atlas_etl.test_postgres_connection(**settings(postgres, pasword="x"))


def test_mysql_refuses_a_wrong_password(mysql: ServerAddress) -> None:
    assert atlas_etl.test_mysql_connection(**settings(mysql)) is True
    assert atlas_etl.test_mysql_connection(**settings(mysql, password="wrong")) is False
    assert atlas_etl.test_mysql_connection(**settings(mysql, port=1)) is False


def test_a_postgres_engine(postgres: ServerAddress) -> None:
    engine = atlas_etl.get_postgres_engine(**settings(postgres))
    assert isinstance(engine, sa.Engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (n int)"))
        connection.execute(sa.text("INSERT INTO t VALUES (:n)"), [{"n": 1}, {"n": 2}])
        assert connection.execute(sa.text("SELECT sum(n) FROM t")).scalar_one() == 3
    assert postgres.password not in f"{engine!r}{engine.url!r}" or not postgres.password
    assert engine is atlas_etl.get_connection("postgres", **settings(postgres))


def test_a_mysql_engine(mysql: ServerAddress) -> None:
    engine = atlas_etl.get_mysql_engine(**settings(mysql))
    assert isinstance(engine, sa.Engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (n int)"))
        connection.execute(sa.text("INSERT INTO t VALUES (:n)"), [{"n": 1}, {"n": 2}])
        assert int(connection.execute(sa.text("SELECT sum(n) FROM t")).scalar_one()) == 3
        assert connection.execute(sa.text("SELECT '😀'")).scalar_one() == "😀"
    assert engine is atlas_etl.get_connection("mariadb", **settings(mysql))


def test_a_sqlite_engine_and_its_pair(shop: Path) -> None:
    engine = atlas_etl.get_sqlite_engine(database_path=str(shop))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM orders")).scalar_one() == 2
    assert atlas_etl.test_sqlite_connection(database_path=str(shop)) is True
    assert atlas_etl.test_sqlite_connection(database_path=str(shop.parent / "none.db")) is False


def test_a_duckdb_connection_and_its_pair(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    assert atlas_etl.test_duckdb_connection(path=str(path)) is False
    client = atlas_etl.get_duckdb_connection(path=str(path))
    client.execute("CREATE TABLE t AS SELECT 42 AS n")
    assert atlas_etl.test_duckdb_connection(path=str(path)) is True
    with atlas_etl.create_connector({"protocol": "duckdb", "path": str(path)}) as connector:
        assert [item.data for item in connector.fetch_data("SELECT n FROM t")] == [{"n": 42}]


def test_files_give_a_filesystem(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "n.parquet")
    client = atlas_etl.get_connection("parquet", path=str(tmp_path))
    assert pq.read_table("n.parquet", filesystem=client).num_rows == 3


def test_the_same_settings_give_the_same_client_and_others_another(shop: Path) -> None:
    first = atlas_etl.get_connection("sqlite", database_path=str(shop))
    assert atlas_etl.get_connection("sqlite", database_path=str(shop)) is first
    assert atlas_etl.get_connection(" SQLite3 ", database_path=str(shop)) is first
    assert atlas_etl.get_connection("sqlite", database_path=shop) is first
    other = atlas_etl.get_connection("sqlite", database_path=str(shop), options={"timeout": 7})
    assert other is not first
    assert atlas_etl.get_connection("sqlite", database_path=str(shop.parent / "other.db")) is not first


def test_a_relative_path_means_the_file_it_meant(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.parent)
    first = atlas_etl.get_connection("sqlite", database_path="shop.db")
    connector = atlas_etl.create_connector({"protocol": "sqlite", "database_path": "shop.db"})
    (shop.parent / "elsewhere").mkdir()
    monkeypatch.chdir(shop.parent / "elsewhere")
    assert atlas_etl.get_connection("sqlite", database_path="shop.db") is not first
    assert atlas_etl.get_connection("sqlite", database_path=str(shop)) is first
    assert len(connector.fetch_data("SELECT * FROM orders")) == 2


def test_reuse_false_gives_a_client_of_ones_own(shop: Path) -> None:
    shared = atlas_etl.get_connection("sqlite", database_path=str(shop))
    own = atlas_etl.get_connection("sqlite", reuse=False, database_path=str(shop))
    assert isinstance(own, sa.Engine)
    assert own is not shared
    assert atlas_etl.get_connection("sqlite", database_path=str(shop)) is shared
    own.dispose()


def test_reuse_false_bypasses_the_cache_of_servers_too(postgres: ServerAddress, mysql: ServerAddress) -> None:
    for get, address in (
        (atlas_etl.get_postgres_engine, postgres),
        (atlas_etl.get_mysql_engine, mysql),
    ):
        shared = get(**settings(address))
        own = get(**settings(address), reuse=False)
        assert own is not shared
        assert get(**settings(address)) is shared
        with own.connect() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
        own.dispose()


def test_a_session_is_of_its_thread() -> None:
    here = atlas_etl.get_connection("http", base_url="http://127.0.0.1:9")
    assert atlas_etl.get_connection("http", base_url="http://127.0.0.1:9") is here
    with ThreadPoolExecutor(1) as pool:
        assert (
            pool.submit(atlas_etl.get_connection, "http", base_url="http://127.0.0.1:9").result() is not here
        )


def test_a_client_that_is_bound_to_its_thread_is_one_per_thread(tmp_path: Path) -> None:
    path = str(tmp_path / "w.duckdb")
    here = atlas_etl.get_duckdb_connection(path=path)
    assert atlas_etl.get_duckdb_connection(path=path) is here
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(atlas_etl.get_duckdb_connection, path=path).result()
        assert there is not here
        assert pool.submit(atlas_etl.get_duckdb_connection, path=path).result() is there
    # Its thread has ended: the client is closed at the next call, and no later thread is given it.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(atlas_etl.get_duckdb_connection, path=path).result() is not there
    with pytest.raises(duckdb.ConnectionException):
        there.execute("SELECT 1")
    here.execute("SELECT 1")


def test_twenty_threads_get_one_client(shop: Path) -> None:
    together = threading.Barrier(20)

    def ask(_: int) -> object:
        together.wait()
        return atlas_etl.get_connection("sqlite", database_path=str(shop))

    with ThreadPoolExecutor(20) as pool:
        assert len({id(client) for client in pool.map(ask, range(20))}) == 1


def test_twenty_threads_make_one_client() -> None:
    made: list[object] = []
    beginning = threading.Event()

    def slow_client(_: ConnectionConfig) -> object:
        made.append(object())
        beginning.wait(0.05)  # never set: gives the others time to come
        return made[-1]

    adapter = Adapter(ConnectionConfig, client=slow_client, dispose=lambda _: None)
    cache = ClientCache()
    with ThreadPoolExecutor(20) as pool:
        clients = list(pool.map(lambda _: cache.get("x", adapter, ConnectionConfig()), range(20)))
    assert (len(made), set(map(id, clients))) == (1, {id(made[0])})


def test_closing_disposes_of_every_client_even_if_one_refuses(shop: Path) -> None:
    engine = atlas_etl.get_sqlite_engine(database_path=str(shop))
    with engine.connect():
        pass
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    client = atlas_etl.get_duckdb_connection()
    atlas_etl.close_all_connections()
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    with pytest.raises(duckdb.ConnectionException):
        client.execute("SELECT 1")
    assert atlas_etl.get_sqlite_engine(database_path=str(shop)) is not engine

    disposed: list[object] = []

    def dispose(client: object) -> None:
        disposed.append(client)
        raise OSError("gone already")

    cache = ClientCache()
    for name in "abc":
        adapter = Adapter(ConnectionConfig, client=lambda _, name=name: name, dispose=dispose)
        cache.get(name, adapter, ConnectionConfig())
    with pytest.raises(OSError, match="gone already"):
        cache.close()
    assert sorted(map(str, disposed)) == ["a", "b", "c"]


class _Secretive(ConnectionConfig):
    password: SecretStr | None = None
    key: SecretBytes | None = None
    options: dict[str, object] = Field(default_factory=dict)


def test_configurations_that_differ_have_fingerprints_that_differ() -> None:
    configs = [
        _Secretive(),
        _Secretive(password=SecretStr("a")),
        _Secretive(password=SecretStr("b")),
        _Secretive(key=SecretBytes(b"a")),
        _Secretive(key=SecretBytes(b"b")),
        _Secretive(options={"a": 1}),
        _Secretive(options={"a": "1"}),
        _Secretive(options={"a": True}),
    ]
    prints = [fingerprint(config) for config in configs]
    assert len(set(prints)) == len(configs)
    ordered = _Secretive(options={"a": 1, "b": 2}), _Secretive(options={"b": 2, "a": 1})
    assert fingerprint(ordered[0]) == fingerprint(ordered[1])


def test_a_connection_from_layers(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shop.parent / "shop.yaml"
    file.write_text("database_path: ${env:SHOP_FOLDER}/none.db\noptions: {timeout: 1}\n")
    monkeypatch.setenv("SHOP_FOLDER", str(shop.parent))
    monkeypatch.setenv("SHOP_OPTIONS__TIMEOUT", "5")
    found = atlas_etl.load_connection_config(
        {"protocol": "sqlite", "options": {"cache_size": 64}}, file, "SHOP",
        overrides={"database_path": str(shop)}, required=("database_path", "options.timeout"),
    )  # fmt: skip
    assert found["options"] == {"cache_size": 64, "timeout": "5"}
    found.pop("folder")
    with atlas_etl.create_connector(found) as connector:
        assert len(connector.fetch_data("SELECT * FROM orders")) == 2
    with pytest.raises(ConfigError, match="username") as caught:
        atlas_etl.load_connection_config({"host": "h"}, required=("host", "username"))
    assert caught.value.code == "missing_settings"
    (shop.parent / "shop.json").write_text(json.dumps({"database_path": str(shop)}))
    assert atlas_etl.load_connection_config(file_path=shop.parent / "shop.json") == {
        "database_path": str(shop)
    }


def test_a_missing_driver_is_named_with_the_line_that_installs_it() -> None:
    code = """
import sys
sys.modules["psycopg"] = sys.modules["pymysql"] = sys.modules["adbc_driver_sqlite"] = None
import atlas_etl
from atlas_etl.connectors import registry
for protocol in ("postgresql", "mysql", "sqlite"):
    try:
        atlas_etl.create_connector({"protocol": protocol})
    except atlas_etl.AtlasError as error:
        print(error.code, error.hint, registry.info(protocol).installed, registry.info(protocol).install_hint)
print(atlas_etl.test_duckdb_connection(), registry.info("duckdb").installed)
"""
    assert run_python(code).stdout.splitlines() == [
        f"missing_driver {line} False {line}"
        for line in (
            'pip install "psycopg[binary]"', "pip install pymysql", "pip install adbc-driver-sqlite"
        )
    ] + ["True True"]  # fmt: skip
    assert issubclass(MissingDriverError, atlas_etl.AtlasError)
