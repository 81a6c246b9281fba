"""Databases that are not on this machine prove who they are, unless the definition says otherwise."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy
from tests.conftest import unavailable
from tests.project import Project
from tests.servers import ServerAddress, Unavailable
from tests.servers.certified import serve_mysql, serve_postgres

import atlas_etl
from atlas_etl import Atlas
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector
from atlas_etl.errors import AtlasError, DestinationError, SourceError, StateError

FAR = "db.example.test"  # resolves to 127.0.0.1 in these tests, which Atlas does not look at
Served = tuple[ServerAddress, Path]


@pytest.fixture(scope="module")
def far_postgres() -> Iterator[Served]:
    try:
        with serve_postgres([f"DNS:{FAR}"]) as served:
            yield served
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable("postgres", reason)


@pytest.fixture(scope="module")
def far_mysql() -> Iterator[Served]:
    try:
        with serve_mysql([f"DNS:{FAR}"]) as served:
            yield served
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable("mysql", reason)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below example.test resolve, for Python; libpq is told by `hostaddr`."""
    ask = socket.getaddrinfo

    def resolve(host: str, *more: object, **named: object) -> object:
        found = "127.0.0.1" if isinstance(host, str) and host.endswith(".example.test") else host
        return ask(found, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def postgresql(server: ServerAddress, host: str = FAR, **options: object) -> dict[str, object]:
    return {
        "host": host, "port": server.port, "database": server.database, "username": server.username,
        "password": server.password, "options": {"hostaddr": "127.0.0.1", **options},
    }  # fmt: skip


def mysql(server: ServerAddress, host: str = FAR, **more: object) -> dict[str, object]:
    return {
        "host": host, "port": server.port, "database": server.database, "username": server.username,
        "password": server.password, **more,
    }  # fmt: skip


def source(protocol: str, connection: dict[str, object]) -> BaseConnector:
    return atlas_etl.create_connector({"protocol": protocol, **connection})


def is_encrypted(protocol: str, connection: dict[str, object]) -> bool:
    query = "SELECT ssl AS v FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    if protocol == "mysql":
        status = "information_schema.session_status"
        query = f"SELECT variable_value AS v FROM {status} WHERE variable_name = 'ssl_cipher'"
    with source(protocol, connection) as opened:
        return bool(opened.fetch_data(query).items[0].data["v"])


def refused(failure: AtlasError) -> None:
    """It says what to do: how to name the authority, and how to opt out."""
    assert failure.code in ("tls", "state_tls")
    assert not failure.retryable
    assert any(way in str(failure.hint) for way in ("sslrootcert", "ssl_ca"))
    assert any(way in str(failure.hint) for way in ("sslmode", "ssl_mode"))


def test_postgresql_elsewhere_is_verified(far_postgres: Served) -> None:
    server, authority = far_postgres
    with pytest.raises(SourceError) as unknown, source("postgresql", postgresql(server)) as opened:
        opened.test()
    refused(unknown.value)
    trusted = postgresql(server, sslrootcert=str(authority))
    assert is_encrypted("postgresql", trusted)
    other = postgresql(server, "other.example.test", sslrootcert=str(authority))
    with pytest.raises(SourceError) as another, source("postgresql", other) as opened:
        opened.test()
    refused(another.value)
    assert "other.example.test" in another.value.message


def test_postgresql_may_be_believed_by_the_definitions_word(far_postgres: Served) -> None:
    server, _ = far_postgres
    assert is_encrypted("postgresql", postgresql(server, sslmode="require"))
    assert not is_encrypted("postgresql", postgresql(server, sslmode="disable"))
    assert is_encrypted(
        "postgresql", postgresql(server, "localhost")
    )  # this machine: preferred, not verified


def test_a_postgresql_without_tls_elsewhere_is_refused(postgres: ServerAddress) -> None:
    with pytest.raises(SourceError) as caught, source("postgresql", postgresql(postgres)) as opened:
        opened.test()
    refused(caught.value)
    assert not is_encrypted("postgresql", postgresql(postgres, sslmode="prefer"))


@pytest.mark.parametrize("protocol", ["postgresql", "mysql"])
def test_destinations_and_engines_elsewhere_are_verified(
    protocol: str, far_postgres: Served, far_mysql: Served
) -> None:
    adapter = registry.load(protocol)
    if protocol == "postgresql":
        given = adapter.connection.model_validate(postgresql(far_postgres[0]))
        trusted = adapter.connection.model_validate(
            postgresql(far_postgres[0], sslrootcert=str(far_postgres[1]))
        )
    else:
        given = adapter.connection.model_validate(mysql(far_mysql[0]))
        trusted = adapter.connection.model_validate(mysql(far_mysql[0], ssl_ca=str(far_mysql[1])))
    assert adapter.destination is not None
    written = adapter.destination(given)
    with pytest.raises(DestinationError) as caught:
        written.test()
    written.close()
    refused(caught.value)
    for config, works in ((trusted, True), (given, False)):
        engine = adapter.client(config)
        assert isinstance(engine, sqlalchemy.Engine)
        try:
            with engine.connect() as client:
                assert client.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
            assert works
        except Exception as failure:
            assert not works, failure
            assert "certificate" in str(failure)
        finally:
            adapter.dispose(engine)


def test_mysql_elsewhere_is_verified(far_mysql: Served) -> None:
    server, authority = far_mysql
    for untrusted in (
        mysql(server),
        mysql(server, "other.example.test", ssl_ca=str(authority)),
    ):
        with pytest.raises(SourceError) as caught, source("mysql", untrusted) as opened:
            opened.test()
        refused(caught.value)
    assert is_encrypted("mysql", mysql(server, ssl_ca=str(authority)))
    assert is_encrypted(
        "mysql", mysql(server, "other.example.test", ssl_ca=str(authority), ssl_mode="verify_ca")
    )
    assert is_encrypted("mysql", mysql(server, ssl_mode="required"))
    assert not is_encrypted("mysql", mysql(server, ssl_mode="disabled"))


def test_a_mysql_without_tls_elsewhere_is_refused(mysql_server: ServerAddress) -> None:
    with pytest.raises(SourceError) as caught, source("mysql", mysql(mysql_server)) as opened:
        opened.test()
    refused(caught.value)


def test_the_state_store_elsewhere_is_verified(
    project: Project, far_postgres: Served, tmp_path: Path
) -> None:
    server, authority = far_postgres
    copy = tmp_path / "ca.pem"
    shutil.copyfile(authority, copy)

    def opened(state: object) -> None:
        project.write("atlas.yaml", json.dumps({"state": state}))
        with Atlas.open(project.folder, {}).state():
            pass

    account = f"{server.username}:{server.password}@{FAR}:{server.port}/{server.database}?hostaddr=127.0.0.1"
    for state in ({"protocol": "postgresql", **postgresql(server)}, f"postgresql://{account}"):
        with pytest.raises(StateError) as caught:
            opened(state)
        refused(caught.value)
        assert server.password not in f"{caught.value.message} {caught.value.hint}"
    opened({"protocol": "postgresql", **postgresql(server, sslrootcert=str(copy))})
    opened(f"postgresql://{account}&sslrootcert={quote(str(copy))}")
    opened(f"postgresql://{account}&sslmode=require")
