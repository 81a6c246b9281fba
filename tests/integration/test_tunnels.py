"""Databases behind an SSH server: OpenSSH's sshd forwards to real PostgreSQL and MariaDB servers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import sqlalchemy
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe
from tests.servers.certified import serve_postgres
from tests.servers.ssh import SshServer, serve

import atlas_etl
from atlas_etl import Atlas
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector
from atlas_etl.contracts import Destination
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, MissingDriverError, SourceError
from atlas_etl.model import Run, RunStatus
from atlas_etl.pipeline.events import RunFinished, WindowCommitted

ROWS = 20_000


def settings(server: ServerAddress, **more: object) -> dict[str, object]:
    return {
        "host": server.host, "port": server.port, "database": server.database,
        "username": server.username, "password": server.password, **more,
    }  # fmt: skip


def connector(protocol: str, server: ServerAddress, **more: object) -> BaseConnector:
    return atlas_etl.create_connector({"protocol": protocol, **settings(server, **more)})


def destination(protocol: str, server: ServerAddress, **more: object) -> Destination:
    adapter = registry.load(protocol)
    assert adapter.destination is not None
    found: Destination = adapter.destination(adapter.connection.model_validate(settings(server, **more)))
    return found


def failure(protocol: str, server: ServerAddress, **tunnel: object) -> AtlasError:
    """What a test through this tunnel says."""
    with connector(protocol, server, tunnel=tunnel) as found, pytest.raises(AtlasError) as caught:
        found.test()
    return caught.value


def listening() -> list[int]:
    """The TCP ports of 127.0.0.1 on which this process listens."""
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:  # the listing's own
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as each:
            if each.family == socket.AF_INET and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(each.getsockname()[1])
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    before = listening()
    yield
    assert listening() == before
    assert [thread.name for thread in threading.enumerate() if thread.name == "atlas-tunnel"] == []
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def fill(protocol: str, server: ServerAddress) -> None:
    series = {
        "postgresql": f"SELECT n, repeat('x', 500) FROM generate_series(1, {ROWS}) n",
        "mysql": f"SELECT seq, REPEAT('x', 500) FROM seq_1_to_{ROWS}",
    }
    recipe = {"postgresql": postgres_recipe, "mysql": mysql_recipe}[protocol]
    with recipe.connect(server) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE events (id int PRIMARY KEY, filler varchar(500))")
        cursor.execute(f"INSERT INTO events {series[protocol]}")
        cursor.execute({"postgresql": "ANALYZE events", "mysql": "ANALYZE TABLE events"}[protocol])


def define(project: Project, protocol: str, server: ServerAddress, ssh: SshServer, **stream: object) -> Atlas:
    definition = {
        "protocol": protocol,
        "connection": settings(server, tunnel=ssh.tunnel()),
        "streams": [{"table": "events", "cursor": "id", **stream}],
        "window": {"rows": 2000},
        "batch_bytes": "1MiB",
        "retry": {"attempts": 1},
    }
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    return Atlas.open(project.folder, {})


def synced(atlas: Atlas) -> Run:
    *_, last = atlas.sync(["shop"])
    assert isinstance(last, RunFinished)
    return last.run


def loaded(project: Project) -> list[tuple[object, ...]]:
    with duckdb.connect(str(project.folder / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute("SELECT count(*), count(DISTINCT id), sum(id) FROM shop.events").fetchall()


ALL = [(ROWS, ROWS, ROWS * (ROWS + 1) // 2)]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize(("protocol", "fixture"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_table_is_synced_through_a_tunnel(
    request: pytest.FixtureRequest,
    project: Project,
    ssh: SshServer,
    protocol: str,
    fixture: str,
    partitions: int,
) -> None:
    server: ServerAddress = request.getfixturevalue(fixture)
    fill(protocol, server)
    atlas = define(project, protocol, server, ssh, partitions=partitions)
    run = synced(atlas)
    assert run.status is RunStatus.COMPLETED, run.error
    assert loaded(project) == ALL


def test_rows_go_into_servers_behind_a_tunnel(
    project: Project, ssh: SshServer, postgres: ServerAddress, mysql: ServerAddress
) -> None:
    fill("postgresql", postgres)
    places = {
        "mart": {"protocol": "mysql", **settings(mysql, tunnel=ssh.tunnel())},
        "copy": {"protocol": "postgresql", **settings(postgres, tunnel=ssh.tunnel())},
    }
    project.write("atlas.yaml", json.dumps({"destinations": places}))
    define(project, "postgresql", postgres, ssh, into="shop_copy.events")
    count = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM shop_copy.events"
    with mysql_recipe.connect(mysql) as client, client.cursor() as cursor:
        try:
            for name in places:
                atlas = Atlas.open(project.folder, {"ATLAS_DESTINATION": name})
                run = synced(atlas)
                assert run.status is RunStatus.COMPLETED, run.error
                assert atlas.query(count).to_pylist() == [{"n": ROWS, "ids": ROWS}]
        finally:
            cursor.execute("DROP DATABASE IF EXISTS shop_copy")


@pytest.mark.parametrize(("protocol", "fixture"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_test_tells_the_way_and_every_session_goes_it(
    request: pytest.FixtureRequest, ssh: SshServer, protocol: str, fixture: str
) -> None:
    server: ServerAddress = request.getfixturevalue(fixture)
    source = connector(protocol, server, tunnel=ssh.tunnel())
    target = destination(protocol, server, tunnel=ssh.tunnel())
    before = len(listening())
    assert source.test().message.endswith(", through SSH host 127.0.0.1")
    assert target.test().message.endswith(", through SSH host 127.0.0.1")
    assert source.fetch_data("SELECT 1 AS n").items[0].data == {"n": 1}
    assert len(listening()) == before + 2
    source.close()
    target.close()


def test_a_tunnel_that_broke_is_opened_again(ssh: SshServer, postgres: ServerAddress) -> None:
    with connector("postgresql", postgres, tunnel=ssh.tunnel()) as source:
        assert len(source.fetch_data("SELECT 1 AS n")) == 1
        ssh.kill()
        with pytest.raises(SourceError) as caught:
            source.fetch_data("SELECT 1 AS n")
        assert caught.value.retryable
        with pytest.raises(SourceError, match="nothing listens on port") as caught:
            source.fetch_data("SELECT 1 AS n")
        assert (caught.value.code, caught.value.retryable) == ("ssh_unreachable", True)
        ssh.start()
        assert len(source.fetch_data("SELECT 1 AS n")) == 1


@pytest.mark.parametrize(("protocol", "fixture"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_server_killed_in_the_middle_of_a_load_costs_and_doubles_no_row(
    request: pytest.FixtureRequest, project: Project, ssh: SshServer, protocol: str, fixture: str
) -> None:
    server: ServerAddress = request.getfixturevalue(fixture)
    fill(protocol, server)
    atlas = define(project, protocol, server, ssh)
    seen: list[object] = []
    for event in atlas.sync(["shop"]):
        if isinstance(event, WindowCommitted) and WindowCommitted not in map(type, seen):
            ssh.kill()
        seen.append(event)
    last = seen[-1]
    assert isinstance(last, RunFinished)
    if protocol == "postgresql":  # MySQL's loads have one window, after which the tunnel is not needed
        assert last.run.status is RunStatus.FAILED
        assert 0 < loaded(project)[0][0] <= ROWS  # type: ignore[operator]  # all may have been on their way
    ssh.start()
    run = synced(atlas)
    assert run.status is RunStatus.COMPLETED, run.error
    assert loaded(project) == ALL


def test_an_unknown_host_key_is_refused_with_what_to_do(
    tmp_path: Path, ssh: SshServer, postgres: ServerAddress
) -> None:
    missing = tmp_path / "nobody_knows"
    refused = failure("postgresql", postgres, **ssh.tunnel(known_hosts=str(missing)))
    assert isinstance(refused, SourceError)
    assert (refused.code, refused.retryable) == ("unknown_host_key", False)
    assert ssh.fingerprint in refused.message
    assert f"ssh-keyscan -p {ssh.port} 127.0.0.1 >> {missing}" in (refused.hint or "")
    assert not missing.exists()
    missing.write_text(ssh.known_hosts.read_text().replace("127.0.0.1", "elsewhere.example.com"))
    assert failure("postgresql", postgres, **ssh.tunnel(known_hosts=str(missing))).code == "unknown_host_key"
    with pytest.raises(DestinationError) as caught:
        destination("mysql", postgres, tunnel=ssh.tunnel(known_hosts=str(missing))).test()
    assert caught.value.code == "unknown_host_key"


def test_a_changed_host_key_is_refused(tmp_path: Path, ssh: SshServer, postgres: ServerAddress) -> None:
    other = subprocess.run(["ssh-keygen", "-y", "-f", ssh.key], capture_output=True, text=True, check=True)
    ssh.known_hosts.write_text(f"[127.0.0.1]:{ssh.port} {other.stdout}")
    refused = failure("postgresql", postgres, **ssh.tunnel())
    assert refused.code == "changed_host_key"
    assert ssh.fingerprint in refused.message


def test_a_pinned_host_key_needs_no_known_hosts(ssh: SshServer, postgres: ServerAddress) -> None:
    pinned = ssh.tunnel(known_hosts=None, host_key=ssh.fingerprint)
    with connector("postgresql", postgres, tunnel=pinned) as source:
        assert source.test().message.endswith("127.0.0.1")
    other = f"SHA256:{'A' * 43}"
    refused = failure("postgresql", postgres, **ssh.tunnel(host_key=other))  # though known_hosts knows it
    assert refused.code == "changed_host_key"
    assert ssh.fingerprint in refused.message


def test_a_wrong_key_is_refused_by_name(tmp_path: Path, ssh: SshServer, postgres: ServerAddress) -> None:
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "s3cret-phrase", "-f", wrong], check=True)
    refused = failure("postgresql", postgres, **ssh.tunnel(key=str(wrong), passphrase="s3cret-phrase"))
    assert refused.code == "authentication_failed"
    assert f"refused the login of {ssh.username}" in refused.message
    for more in ({}, {"passphrase": "n0t-it"}):
        refused = failure("postgresql", postgres, **ssh.tunnel(key=str(wrong), **more))
        assert (type(refused), refused.code) == (ConfigError, "ssh_key")
        assert "n0t-it" not in f"{refused.message}{refused.hint}{refused.__cause__}"
    refused = failure("postgresql", postgres, **ssh.tunnel(key=None, private_key="n0t-a-key"))
    assert (type(refused), refused.code) == (ConfigError, "ssh_key")
    assert "n0t-a-key" not in f"{refused.message}{refused.hint}{refused.__cause__}"
    assert failure("postgresql", postgres, **ssh.tunnel(key=str(tmp_path / "none"))).code == "ssh_key"
    assert failure("postgresql", postgres, **ssh.tunnel(key=None, password="n0t-it")).code == (
        "authentication_failed"
    )
    ssh.key.chmod(0o644)
    assert failure("postgresql", postgres, **ssh.tunnel()).code == "exposed_secret"


def test_a_key_may_be_given_as_text(ssh: SshServer, mysql: ServerAddress) -> None:
    text = ssh.tunnel(key=None, private_key=ssh.key.read_text())
    with connector("mysql", mysql, tunnel=text) as source:
        assert source.test().message.endswith("127.0.0.1")


@pytest.mark.parametrize("protocol", ["postgresql", "mysql"])
def test_a_database_that_the_ssh_host_does_not_reach_is_named(
    tmp_path: Path, ssh: SshServer, protocol: str
) -> None:
    nowhere = ServerAddress("127.0.0.1", 1, "nobody", "s3cret", "none")
    refused = failure(protocol, nowhere, **ssh.tunnel())
    assert (refused.code, refused.retryable) == ("connection_refused", True)
    assert refused.message == "the SSH host 127.0.0.1 does not reach 127.0.0.1 port 1"


@pytest.mark.parametrize("protocol", ["postgresql", "mysql"])
def test_an_ssh_host_that_forwards_nothing_is_named(tmp_path: Path, protocol: str, ssh: SshServer) -> None:
    nowhere = ServerAddress("127.0.0.1", 1, "nobody", "s3cret", "none")
    folder = tmp_path / "strict"
    folder.mkdir()
    with serve(folder, "AllowTcpForwarding no") as strict:
        refused = failure(protocol, nowhere, **strict.tunnel())
    assert (refused.code, refused.retryable) == ("forwarding_refused", False)


def test_engines_go_through_a_tunnel(ssh: SshServer, postgres: ServerAddress, mysql: ServerAddress) -> None:
    for engine in (
        atlas_etl.get_postgres_engine(**settings(postgres, tunnel=ssh.tunnel())),
        atlas_etl.get_mysql_engine(**settings(mysql, tunnel=ssh.tunnel())),
    ):
        before = len(listening())
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
            assert len(listening()) == before + 1
    atlas_etl.close_all_connections()


def test_without_its_package_a_tunnel_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, ssh: SshServer, postgres: ServerAddress
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    refused = failure("postgresql", postgres, **ssh.tunnel())
    assert type(refused) is MissingDriverError
    assert refused.hint == 'pip install "atlas-etl[ssh]"'


@pytest.mark.parametrize(
    ("protocol", "given"),
    [
        ("postgresql", {"host": "/run/postgresql"}),
        ("postgresql", {"host": "one,two"}),
        ("postgresql", {"options": {"hostaddr": "127.0.0.1"}}),
        ("mysql", {"unix_socket": "/run/mysqld.sock"}),
        ("mysql", {"options": {"bind_address": "127.0.0.1"}}),
        ("mysql", {"tunnel": {"host": "h", "username": "u", "key": "k", "private_key": "t"}}),
        ("mysql", {"tunnel": {"host": "h", "username": "u", "host_key": "ab:cd"}}),
        ("mysql", {"tunnel": {"host": "ssh://u@h", "username": "u"}}),
    ],
)
def test_what_a_tunnel_cannot_be_is_refused(protocol: str, given: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        atlas_etl.create_connector({"protocol": protocol, "tunnel": {"host": "h", "username": "u"}, **given})


def test_the_state_store_is_not_reached_through_a_tunnel(project: Project) -> None:
    state = {"protocol": "postgresql", "host": "db", "tunnel": {"host": "h", "username": "u"}}
    project.write("atlas.yaml", json.dumps({"state": state}))
    atlas = Atlas.open(project.folder, {})
    with pytest.raises(ConfigError, match="not reached through a tunnel"), atlas.state():
        pass


def test_a_certificate_is_compared_with_the_databases_name_and_not_with_the_tunnels(
    tmp_path: Path, ssh: SshServer
) -> None:
    with serve_postgres(["DNS:localhost"]) as (address, certificate):
        copy = tmp_path / "ca.pem"
        shutil.copyfile(certificate, copy)
        strict = {"sslmode": "verify-full", "options": {"sslrootcert": str(copy)}, "tunnel": ssh.tunnel()}
        with connector("postgresql", address, **strict) as source, pytest.raises(SourceError) as caught:
            source.test()
        assert caught.value.code == "tls"
        named = {**settings(address), "host": "localhost", **strict}
        with atlas_etl.create_connector({"protocol": "postgresql", **named}) as source:
            (item,) = source.fetch_data("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert item.data == {"ssl": True}
