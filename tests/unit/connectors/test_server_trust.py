"""Which database servers are believed without a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_etl.connectors.sql._mysql.connection import MySQLConnection
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._server_trust import on_this_machine, system_authorities

TUNNEL = {"host": "bastion.example.com", "username": "etl"}


@pytest.fixture(autouse=True)
def _no_settings_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "db.localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1",
     "/var/run/postgresql", "@abstract", "", "localhost,127.0.0.1"],
)  # fmt: skip
def test_this_machine(host: str) -> None:
    assert on_this_machine(host)


@pytest.mark.parametrize(
    "host",
    ["db.example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "0.0.0.0", "::",
     "fe80::1", "localhost,db.example.com", "mylocalhost", "2130706433", "host.docker.internal"],
)  # fmt: skip
def test_elsewhere(host: str) -> None:
    assert not on_this_machine(host)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "prefer"),
        ({"host": "/run/postgresql"}, "prefer"),
        ({"host": "db.example.com"}, "verify-full"),
        ({"host": "db.example.com", "sslmode": "disable"}, "disable"),
        ({"host": "db.example.com", "options": {"sslmode": "require"}}, "require"),
        ({"options": {"hostaddr": "10.0.0.1"}}, "verify-full"),
        ({"host": "db.example.com", "options": {"hostaddr": "127.0.0.1"}}, "verify-full"),
        ({"options": {"service": "shop"}}, "verify-full"),
        ({"tunnel": TUNNEL}, "prefer"),  # the SSH host's own database: SSH encrypts
        ({"host": "db.internal", "tunnel": TUNNEL}, "verify-full"),
    ],
)
def test_how_postgresql_is_trusted(given: dict[str, object], mode: str) -> None:
    assert PostgresConnection.model_validate(given).libpq_parameters()["sslmode"] == mode


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "preferred"),
        ({"ssl_ca": "ca.pem"}, "verify_ca"),
        ({"host": "db.example.com"}, "verify_identity"),
        ({"host": "db.example.com", "ssl_ca": "ca.pem"}, "verify_identity"),
        ({"host": "db.example.com", "unix_socket": "/run/mysqld.sock"}, "preferred"),
        ({"host": "db.example.com", "ssl_mode": "disabled"}, "disabled"),
        ({"host": "db.example.com", "options": {"ssl-mode": "REQUIRED"}}, "required"),
        ({"tunnel": TUNNEL}, "preferred"),
        ({"host": "db.internal", "tunnel": TUNNEL}, "verify_identity"),
    ],
)
def test_how_mysql_is_trusted(given: dict[str, object], mode: str) -> None:
    assert MySQLConnection.model_validate(given).effective_ssl_mode == mode


def test_the_accounts_own_libpq_settings_are_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = PostgresConnection(host="db.example.com")
    assert server.tls_parameters() == {"sslmode": "verify-full", "sslrootcert": system_authorities()}
    assert Path(system_authorities()).stat().st_size
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "ca.pem"))
    assert server.tls_parameters() == {"sslmode": "verify-full"}
    monkeypatch.setenv("PGSSLMODE", "require")
    assert server.tls_parameters() == {"sslmode": "require"}
    monkeypatch.setenv("PGSSLMODE", "")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    assert PostgresConnection().tls_parameters() == {"sslmode": "verify-full"}
