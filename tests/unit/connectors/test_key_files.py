"""Private keys in files that everybody may read are refused before anything is connected to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atlas_etl.connectors.sql._mysql.connection import MySQLConnection
from atlas_etl.connectors.sql._oracle.connection import OracleConnection
from atlas_etl.errors import ConfigError
from tests.servers.certified import signed


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Path, Path]]:
    """A certificate and its key, in a folder that everybody may enter."""
    with signed(["DNS:db.example.test"]) as found:
        yield found


def is_refused(log_in: Callable[[], object], key: Path, mode: int) -> bool:
    key.chmod(mode)
    try:
        log_in()
    except ConfigError as refusal:
        assert (refusal.code, f"chmod o-rwx {key}" in str(refusal.hint)) == ("exposed_secret", True)
        return True
    return False


def test_mysql(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    apart = MySQLConnection(ssl_mode="required", ssl_cert=certificate, ssl_key=key)
    assert is_refused(apart.parameters, key, 0o644)
    assert not is_refused(apart.parameters, key, 0o640)
    both = certificate.with_name("both.pem")
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert is_refused(MySQLConnection(ssl_mode="required", ssl_cert=both).parameters, both, 0o644)


def test_an_oracle_wallet(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    wallet = certificate.with_name("wallet")
    wallet.mkdir()
    wallet.chmod(0o755)
    connection = OracleConnection(host="db.example.test", service_name="shop", wallet_location=wallet)

    def log_in() -> object:
        return connection.params(None)

    log_in()  # the driver says what is missing
    file = wallet / "ewallet.pem"
    shutil.copy(certificate, file)
    assert not is_refused(log_in, file, 0o644), "authorities are no secret"
    file.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert is_refused(log_in, file, 0o644)
    assert not is_refused(log_in, file, 0o600)
