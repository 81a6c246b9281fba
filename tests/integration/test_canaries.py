"""No command shows a secret or writes one down, wherever it is kept and however the command fails."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh
import duckdb
import pytest
from pytest_httpserver import HTTPServer
from tests.cage import CLOSED, WAYS, Cage, Parrot, descendants, kept
from tests.due import just_due
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_server
from tests.servers import postgres as postgres_server
from tests.servers.ssh import SshServer
from tests.waiting import PATIENCE_SECONDS
from werkzeug import Request, Response

from atlas_etl.connectors.sql._postgresql.errors import translated
from atlas_etl.errors import AtlasError, DestinationError
from atlas_etl.model import DecidedSchedule
from atlas_etl.state.open import open_state_store


def test_the_search_finds_what_it_should(cage: Cage) -> None:
    import base64

    text = cage.canaries.at("search")
    for leak in (
        text, json.dumps({"a": json.dumps(text)}), quote(text), repr(text), text[:20],
        base64.b64encode(b"u:" + text.encode()).decode(), base64.urlsafe_b64encode(text.encode()).decode(),
    ):  # fmt: skip
        assert cage.canaries.found({"said": f"honest {leak} words".encode()}), leak
    assert not cage.canaries.found({"said": b"caNary of another place"})


KINDS = ("literal", "env", "file", "cmd", "secret", "default")


@pytest.mark.parametrize("kind", KINDS)
def test_databases_that_do_not_let_us_in(
    cage: Cage, kind: str, postgres: ServerAddress, mysql: ServerAddress
) -> None:
    """Ports that nobody listens on, names that nobody has, passwords and certificates that are wrong."""
    streams = [{"table": "t"}]
    wrong = {
        "closed": {"host": "127.0.0.1", "port": CLOSED},
        "nowhere": {"host": "no-such-host.invalid"},
    }
    for protocol, server in (("postgresql", postgres), ("mysql", mysql)):
        there = {"host": server.host, "port": server.port, "database": server.database}
        tls = (
            {"options": {"sslmode": "verify-full"}}
            if protocol == "postgresql"
            else {"ssl_mode": "verify_identity"}
        )
        odd = {"options": {"sslmode": "odd"}} if protocol == "postgresql" else {"ssl_mode": "odd"}
        places = {**wrong, "denied": there, "tls": {**there, **tls}, "odd": {**there, **odd}}
        for how, where in places.items():
            password = kept(cage, kind, f"{protocol} {how}")
            connection = {"username": "etl", "password": password, "connect_timeout": 5, **where}
            cage.define(f"{protocol}-{how}", protocol, connection, streams)
    names = [file.stem for file in sorted((cage.project.folder / "connectors.d").iterdir())]
    cage.atlas("connector", "test", "--all", "-vv")
    cage.atlas("connector", "sync", "--all", "-vv")
    cage.try_everything(names[0], names[-1])
    assert cage.codes >= {0, 2, 3}
    assert cage.leaks() == ""


@pytest.mark.parametrize("kind", ["literal", "env", "cmd"])
def test_apis_that_answer_with_what_they_heard(cage: Cage, kind: str, httpserver: HTTPServer) -> None:
    parrot = Parrot()
    for path in ("/v1/things", "/v1/token", "/token"):
        httpserver.expect_request(path).respond_with_handler(parrot)
    base, token = httpserver.url_for("/v1"), httpserver.url_for("/token")

    def secret(place: str, *, odd: bool = True) -> str:
        return kept(cage, kind, place, odd=odd)

    auths = {
        "bearer": {"type": "bearer", "token": secret("bearer", odd=False)},
        "key": {"type": "api_key", "api_key": secret("key", odd=False), "header": "X-Team"},
        "query": {"type": "api_key", "api_key": secret("query"), "parameter": "who"},
        "basic": {"type": "basic", "username": "etl", "password": secret("basic")},
        "digest": {"type": "digest", "username": "etl", "password": secret("digest")},
        "oauth": {"type": "oauth2", "client_id": "id", "client_secret": secret("oauth"), "token_url": token},
        "session": {"type": "session", "login_path": "/token", "login_token": "t",
                    "login_body": {"pin": secret("session")}},
    }  # fmt: skip
    for name, auth in auths.items():
        connection = {
            "base_url": base,
            "auth": auth,
            "attempts": 1,
            "resources": {"things": {"path": "/things"}},
        }
        cage.define(name, "http", connection, [{"name": "things", "path": "things"}])
    if kind == "cmd":
        # Whoever refers to a store in such a place says that it is a secret.
        sent = {
            "headers": {"X-Team": secret("header", odd=False)},
            "params": {"team": secret("parameter")},
        }
        cage.define("sent", "http", {"base_url": base, "attempts": 1, **sent,
                                     "resources": {"things": {"path": "/things"}}},
                    [{"name": "things", "path": "things"}])  # fmt: skip
        auths["sent"] = {}
    for parrot.how in WAYS:
        cage.atlas("connector", "sync", "--all", "-vv")
    parrot.how = "401"
    cage.try_everything("query", list(auths)[-1])
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""


@pytest.mark.parametrize("kind", ["literal", "env", "file", "cmd"])
def test_a_state_store_and_destinations_that_do_not_let_us_in(
    cage: Cage, kind: str, postgres: ServerAddress, mysql: ServerAddress
) -> None:
    """Passwords in mappings, in URIs and in a driver's own options."""
    cage.write("orders.csv", "id\n1\n")
    cage.define("orders", "csv", {"path": "orders.csv"}, [{"name": "orders"}])
    inside = kept(cage, kind, "state uri", odd=False)
    states = [
        {"protocol": "postgresql", "host": "127.0.0.1", "port": CLOSED, "username": "etl",
         "password": kept(cage, kind, "state closed")},
        {"protocol": "postgresql", "host": postgres.host, "port": postgres.port, "username": "etl",
         "password": kept(cage, kind, "state denied"),
         "options": {"sslpassword": kept(cage, kind, "sslpassword")}},
        f"postgresql://etl:{inside}@{postgres.host}:{postgres.port}/nothing",
        f"postgresql://etl:{inside}@127.0.0.1:{CLOSED}/nothing?sslmode=odd",
        f"postgresql://etl:{inside}@127.0.0.1:none/nothing",
        f"postgresql://etl:{inside}/odd@127.0.0.1/nothing",
        f"odd://etl:{inside}@127.0.0.1/nothing",
    ]  # fmt: skip
    commands = [
        ("connector", "sync", "orders"), ("connector", "history"), ("secret", "list"), ("audit",),
        ("schedule", "status"), ("schedule", "dead", "list"), ("connector", "resume", "orders"),
        ("connector", "disable", "orders"), ("state", "reset", "orders"), ("config", "show", "--origin"),
        ("config", "check"),
    ]  # fmt: skip
    for state in states:
        cage.write("atlas.yaml", {"state": state})
        for command in commands:
            cage.atlas(*command, "-vv")
        cage.atlas("connector", "sync", "orders", "--json", "-vv")
    assert cage.codes >= {2, 4}
    for scheme, server in (("postgresql", postgres), ("mysql", mysql)):
        password = kept(cage, kind, f"destination {scheme}", odd=False)
        for where in (
            f"{server.host}:{server.port}/{server.database}",
            f"127.0.0.1:{CLOSED}/x",
            "127.0.0.1:x/y",
        ):
            cage.write("atlas.yaml", {"destinations": {"warehouse": f"{scheme}://etl:{password}@{where}"}})
            for command in (("connector", "sync", "orders"), ("query", "SELECT 1"), ("config", "check"),
                            ("connector", "plan", "orders"), ("state", "show", "orders"),
                            ("quarantine", "list", "orders"), ("config", "show")):  # fmt: skip
                cage.atlas(*command, "-vv")
    assert cage.leaks() == ""


BROKEN = {
    "an open quote": "connection:\n  password: '{0}\n  host: x\n",
    "a tab": "connection:\n\tpassword: {0}\n",
    "a tag": "connection:\n  password: !!python/object:{0} x\n",
    "twice": "connection:\n  password: '{0}'\n  password: '{0}'\n",
    "deeper": "connection:\n  password: {0}\n    host: x\n",
    "an alias": "connection:\n  password: *{0}\n",
    "an anchor": "connection:\n  password: &{0}\n",
    "a directive": "%{0}\nconnection:\n  password: x\n",
    "a list": "connection:\n  password: ['{0}', {{a: '{0}'}}]\n",
    "a mapping": "connection:\n  password: {{'{0}': '{0}'}}\n",
    "a bracket": "connection:\n  password: ['{0}'\n",
    "text": "connection: '{0}'\n",
    "an unknown key": "connection:\n  passwort: '{0}'\n",
    "a port": "connection:\n  port: soon\n  password: '{0}'\n",
    "a reference": "connection:\n  password: '${{odd:{0}}}'\n",
    "an open reference": "connection:\n  password: '${{env:{0}'\n",
    "no key": "connection:\n  password: x\n{0}\n",
    "a NUL": "connection:\n  password: '{0}\0'\n",
    "half a character": "connection:\n  password: '{0}\udcff'\n",
    "a control character": "connection:\n  password: '{0}\x07'\n",
    "a second document": "connection:\n  password: '{0}'\n---\npassword: {0}\n",
    "base 60": "connection:\n  password: 12:30\n  host: '{0}'\n",
    "a complex key": "connection:\n  ? ['{0}']\n  : x\n",
}


@pytest.mark.parametrize("odd", [False, True])
def test_definitions_that_are_wrong_around_a_secret(cage: Cage, odd: bool) -> None:
    commands = [("connector", "sync", "shop"), ("config", "check"), ("audit",), ("connector", "show", "shop")]
    for how, text in BROKEN.items():
        canary = cage.canaries.at(how, odd=odd)
        written = text.format(canary.replace("'", "''") if odd else canary)
        file = cage.write("connectors.d/shop.yaml", "")
        content = f"protocol: {'http' if odd else 'postgresql'}\n{written}"
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        for command in commands:
            cage.atlas(*command, "-vv")
        cage.atlas("connector", "add", "copy", "--from-file", str(file), "--json", "-vv", "--no-test")
        cage.own += (cage.project.folder / "connectors.d").glob("copy*")
        cage.atlas("connector", "remove", "copy")
        file.unlink(missing_ok=True)
    for how in ("twice", "deeper", "an open quote", "a mapping"):
        canary = cage.canaries.at(how, odd=odd)
        cage.write("atlas.yaml", BROKEN[how].format(canary).replace("connection:", "state:"))
        cage.atlas("connector", "list", "-vv")
    assert cage.leaks() == ""


def test_arguments_that_are_wrong_around_a_secret(cage: Cage) -> None:
    """What was typed on a command line is in its history; it does not have to be in a log."""
    canary = cage.canaries.at("argument", odd=False)
    add = ("connector", "add", "shop", "--protocol", "postgresql", "--set", "host=127.0.0.1")
    for arguments in (
        ("--set", f"password={canary}\udcff"),
        ("--set", f"password={canary}", "--set", "odd=1"),
        ("--set", f"password={canary}", "--set", "password.deeper=1"),
        ("--set", f"password={canary}", "--schedule", "never"),
        ("--set", f"passwort={canary}"),
        ("--set", f"port={canary}"),
        ("--set", f"password={canary}", "--set", f"port={CLOSED}", "--table", "t"),
    ):
        assert cage.atlas(*add, *arguments, "-vv") != 0
    assert cage.leaks() == ""


# What no `except` of ours sees: Python itself writes it to stderr.
CRASH = """
import gc, sys, threading, warnings
from urllib.parse import quote
import psycopg
from atlas_etl.cli.app import main

canary = sys.argv.pop()

class Resource:
    def __del__(self):
        raise RuntimeError(f"in a finalizer: {canary!r}")

def fail():
    raise RuntimeError(f"in a thread: {canary}")

def broken(*_, **__):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    left = Resource()
    del left
    gc.collect()
    warnings.warn(f"honest {canary}")
    raise RuntimeError(f"postgresql://etl:{quote(canary)}@host {canary!r} {canary.encode()!r}")

psycopg.Connection.connect = broken
main()
"""


@pytest.mark.parametrize("options", [("-vv",), ("--json",), ("-vv", "--log-format", "json")])
def test_bugs_in_any_thread(cage: Cage, options: tuple[str, ...]) -> None:
    """Tracebacks of a driver, or of our own, with the secret in the message."""
    canary = cage.canaries.at("bug")
    cage.define("shop", "postgresql", {"host": "127.0.0.1", "password": "${env:BUG}"}, [{"table": "t"}])
    environ = cage.project.environment({"BUG": canary})
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", CRASH, "connector", "sync", "shop", *options, canary],
        cwd=cage.project.folder, env=environ, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    for said in (b"in a thread: ", b"in a finalizer: ", b"honest "):
        assert said in done.stderr
    cage.said = {"stdout": done.stdout, "stderr": done.stderr}
    assert cage.leaks() == ""


RULES = {
    "duplicate": "v VARCHAR(200) UNIQUE",
    "checked": "v VARCHAR(200) CHECK (v = 'x')",
    "missing": "v VARCHAR(200), w INTEGER NOT NULL",
}


@contextmanager
def tables_with_rules(protocol: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[object]:
    """Empty tables that refuse rows, in the schema `canary`; gives the destination that they are in."""
    file = folder / f"strict.{protocol}"
    place: dict[str, object] = {"path": str(file)}
    is_server = protocol in ("postgresql", "mysql")
    if protocol == "duckdb":
        client: Any = duckdb.connect(file)
    elif protocol == "sqlite":
        client, place = sqlite3.connect(file), {"database_path": str(file)}
    else:
        server = request.getfixturevalue("postgres" if protocol == "postgresql" else "mysql")
        client = (postgres_server if protocol == "postgresql" else mysql_server).connect(server)
        place = {name: getattr(server, name) for name in ("host", "port", "database", "username", "password")}
    cursor = client.cursor()
    schema = "canary__" if protocol == "sqlite" else "canary."
    if protocol != "sqlite":
        cursor.execute("CREATE SCHEMA canary")
    for rule, columns in RULES.items():
        cursor.execute(f"CREATE TABLE {schema}{rule} (id BIGINT, {columns})")
    client.commit()
    if not is_server:
        client.close()  # the file is one process's, as one of its own
    yield {"protocol": protocol, **place}
    if is_server:
        cursor.execute("DROP SCHEMA canary" + (" CASCADE" if protocol == "postgresql" else ""))
        client.commit()
        client.close()


@pytest.mark.parametrize("protocol", ["postgresql", "mysql", "duckdb", "sqlite"])
def test_rows_that_a_table_refuses(cage: Cage, protocol: str, request: pytest.FixtureRequest) -> None:
    """A row's values are no secrets of ours, and no part of a message: only the rule that they broke."""
    canary = cage.canaries.at("row", odd=False)
    cage.write("rows.csv", f"id,v\n1,{canary}\n2,{canary}\n")
    streams = [{"name": rule, "path": "rows.csv", "disposition": "append"} for rule in RULES]
    cage.define("canary", "csv", {"path": "rows.csv"}, streams)
    with tables_with_rules(protocol, request, cage.project.folder) as destination:
        cage.write("atlas.yaml", {"destinations": {"warehouse": destination}})
        for options in (("--json", "-vv"), ("-vv",)):
            assert cage.atlas("connector", "sync", "canary", *options) == 7
        cage.atlas("connector", "history", "--json")
    said = json.loads(cage.said["0 stdout of connector sync canary"])
    assert [stream["error"] is None for stream in said["runs"][0]["streams"]] == [False] * len(RULES)
    assert cage.leaks() == ""


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO row_rules VALUES ({row}), ({row})",
        "INSERT INTO row_rules VALUES (NULL)",
        "SELECT {row}::text::integer",
        "DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = {row}; END $$",
    ],
)
def test_the_cause_of_a_refused_row_tells_no_value(
    cage: Cage, postgres: ServerAddress, statement: str
) -> None:
    """`verify --repair` and `quarantine replay` raise such failures, which -vv shows with their causes."""
    row = cage.canaries.at("row", odd=False)
    with postgres_server.connect(postgres) as client:
        client.execute("CREATE TEMPORARY TABLE row_rules (v text PRIMARY KEY)")
        with pytest.raises(AtlasError) as caught, translated(DestinationError, client):
            client.execute(statement.format(row=f"'{row}'"))
    said = "".join(traceback.format_exception(caught.value))
    assert cage.canaries.found({"traceback": said.replace(statement, "").encode()}) == []


def test_a_value_that_a_query_cannot_convert(cage: Cage) -> None:
    row = cage.canaries.at("row", odd=False)
    with duckdb.connect(cage.project.folder / "shop.duckdb") as client:
        client.execute(f"CREATE TABLE orders AS SELECT '{row}' AS v")
    cage.own.append(cage.project.folder / "shop.duckdb")
    streams = [{"name": "orders", "query": "SELECT v::INTEGER AS v FROM orders"}]
    cage.define("shop", "duckdb", {"path": "shop.duckdb"}, streams)
    cage.try_everything("shop")
    assert 3 in cage.codes
    assert any(b"Could not convert string '...'" in said for said in cage.said.values())
    assert cage.leaks() == ""


def test_tunnels_that_lead_nowhere(cage: Cage, ssh: SshServer, postgres: ServerAddress) -> None:
    """Passwords, passphrases and keys of SSH, wrong or refused, for an SSH host that is there or not."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    passphrase = cage.canaries.at("passphrase")
    file = cage.project.folder / "id_encrypted"
    file.touch(mode=0o600)
    file.write_bytes(key.export_private_key("openssh", passphrase=passphrase, rounds=1))
    cage.own.append(file)
    body = key.export_private_key("openssh").decode()
    cage.canaries.texts["private key"] = body.splitlines()[2]
    tunnels = {
        "password": ssh.tunnel(key=None, password=kept(cage, "env", "ssh password")),
        "passphrase": ssh.tunnel(key=str(file), passphrase=kept(cage, "literal", "passphrase wrong")),
        "refused": ssh.tunnel(key=str(file), passphrase=passphrase),
        "closed": ssh.tunnel(port=CLOSED, key=None, password=kept(cage, "cmd", "ssh closed")),
        "unknown": ssh.tunnel(known_hosts="/dev/null", key=None, password=kept(cage, "file", "ssh unknown")),
        "no key": ssh.tunnel(key=body),
        "beyond": ssh.tunnel(),
    }
    for name, tunnel in tunnels.items():
        connection = {
            "host": "127.0.0.1", "port": CLOSED if name == "beyond" else postgres.port, "tunnel": tunnel,
            "username": "etl", "password": kept(cage, "literal", f"behind {name}"),
        }  # fmt: skip
        cage.define(name.replace(" ", "-"), "postgresql", connection, [{"table": "t"}])
    cage.atlas("connector", "test", "--all", "-vv")
    for name in ("password", "no-key", "beyond"):
        cage.atlas("connector", "sync", name, "-vv", "--json")
        cage.atlas("connector", "show", name)
    cage.atlas("audit", "--json")
    assert cage.codes >= {2, 3}
    assert cage.leaks() == ""


def test_the_scheduler_its_processes_and_its_notices(cage: Cage, httpserver: HTTPServer) -> None:
    """What `ps` shows while a run waits, what is left of one that is killed, and what becomes of a notice."""
    asked, answer, hooked = threading.Event(), threading.Event(), threading.Event()
    parrot = Parrot("401")

    def things(request: Request) -> Response:
        asked.set()
        answer.wait(50)
        return parrot(request)

    def hook(request: Request) -> Response:
        cage.said["what a webhook was told"] = request.get_data()
        hooked.set()
        return Response(request.url, status=400)

    path = cage.canaries.at("webhook", odd=False)
    httpserver.expect_request("/v1/things").respond_with_handler(things)
    httpserver.expect_request(f"/{path}").respond_with_handler(hook)
    cage.write(
        "atlas.yaml",
        {
            "schedule": {"retries": 0},
            "notices": {
                "ops": {"url": httpserver.url_for(f"/{path}")},
                "gone": {"url": f"http://127.0.0.1:{CLOSED}/{kept(cage, 'env', 'webhook gone', odd=False)}"},
            },
        },
    )
    cron, slot = just_due()
    decided = DecidedSchedule(cron, "UTC", slot - timedelta(hours=2))
    for kind in ("env", "cmd"):
        definition = {
            "protocol": "http",
            "connection": {
                "base_url": httpserver.url_for("/v1"),
                "auth": {"type": "bearer", "token": kept(cage, kind, "scheduled", odd=False)},
            },
            "streams": [{"name": "things", "path": "things"}],
            "schedule": cron,
        }
        cage.write(f"connectors.d/{kind}.yaml", definition)
    with closing(open_state_store(cage.project.folder / ".atlas" / "state.db")) as store:
        store.schedule.decide({"env": decided, "cmd": decided})
    daemon = cage.project.start("schedule", "-vv", "--jobs", "2", env=cage.environ)
    try:
        assert asked.wait(PATIENCE_SECONDS)
        for process in descendants(daemon.pid):
            with suppress(OSError):
                cage.said[f"command line of {process}"] = Path(f"/proc/{process}/cmdline").read_bytes()
        assert sum(b"--slot" in found for found in cage.said.values()) >= 1
        answer.set()
        assert hooked.wait(PATIENCE_SECONDS)
    finally:
        answer.set()
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=60)
    cage.said |= {"stdout of the daemon": out.encode(), "stderr of the daemon": err.encode()}
    assert "was answered with 401" in err
    for command in (("schedule", "dead", "list"), ("connector", "history"), ("schedule", "status")):
        cage.atlas(*command, "--json", "-vv")
    assert cage.leaks() == ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_a_sync_that_is_killed(cage: Cage, httpserver: HTTPServer, how: signal.Signals) -> None:
    asked, answer = threading.Event(), threading.Event()

    def things(request: Request) -> Response:
        asked.set()
        answer.wait(50)
        return Parrot("500")(request)

    httpserver.expect_request("/v1/things").respond_with_handler(things)
    auth = {"type": "basic", "username": "etl", "password": kept(cage, "env", "killed")}
    connection = {"base_url": httpserver.url_for("/v1"), "auth": auth, "attempts": 1}
    cage.define("api", "http", connection, [{"name": "things", "path": "things"}])
    sync = cage.project.start("connector", "sync", "api", "-vv", env=cage.environ)
    try:
        assert asked.wait(PATIENCE_SECONDS)
        sync.send_signal(how)
    finally:
        answer.set()
        out, err = sync.communicate(timeout=60)
    assert sync.returncode != 0
    cage.said = {"stdout": out.encode(), "stderr": err.encode()}
    cage.atlas("connector", "history", "api", "-vv")
    assert cage.leaks() == ""


@pytest.mark.parametrize("kind", ["literal", "env"])
def test_uris_on_the_command_line(
    cage: Cage, kind: str, postgres: ServerAddress, mysql: ServerAddress
) -> None:
    """`atlas copy` and `atlas load`, with a password in a URI or a reference to it."""
    rows = cage.write("rows.csv", "id\n1\n")
    for scheme, server in {"postgresql": postgres, "mysql": mysql}.items():
        password = kept(cage, kind, f"uri {scheme}", odd=False)
        option = kept(cage, kind, f"option {scheme}", odd=False)
        denied = f"{scheme}://etl:{password}@{server.host}:{server.port}/{server.database}"
        cage.atlas("load", denied, str(rows), "--table", "t", "-vv")
        cage.atlas("copy", denied, "duckdb:///copied.duckdb", "--table", "t", "--json", "-vv")
        for where in ("127.0.0.1:x/y", f"127.0.0.1/x?password={option}&token={option}", "h/a/b c", "[::1"):
            uri = f"{scheme}://etl:{password}@{where}"
            cage.atlas("load", uri, str(rows), "--table", "t", "--json", "-vv")
            cage.atlas("copy", uri, "duckdb:///copied.duckdb", "--table", "t", "-vv")
        cage.atlas("load", f"odd://etl:{password}@host/x", str(rows), "--table", "t", "-vv")
        cage.atlas("load", denied, str(rows), "-vv")
    cage.atlas("audit", "--json")
    assert cage.codes >= {2}
    assert cage.leaks() == ""
