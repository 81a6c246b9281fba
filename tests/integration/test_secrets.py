"""Secrets of connectors through the command line: encrypted when given, used where they are needed."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.servers import ServerAddress
from werkzeug import Request, Response

from atlas_etl import Atlas as Opened
from atlas_etl import create_connector, load_connection_config
from atlas_etl import test_connection as can_connect
from atlas_etl.cli.app import run
from atlas_etl.errors import ConfigError
from atlas_etl.secrets.store import SecretStore

CANARY = "caNary/4f+ 9$%&=c1"
FORMS = {
    form.encode()
    for text in (CANARY, CANARY.strip())
    for form in (
        text,
        quote(text),
        quote(text, safe=""),
        text.replace("/", "\\/"),
        json.dumps(text)[1:-1],
        base64.b64encode(text.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
        base64.b64encode(f"etl:{text}".encode()).decode().rstrip("="),
    )
}


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


Atlas = Callable[..., Done]


@pytest.fixture
def atlas(project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Atlas:
    """`atlas` in this process: what it writes, and with which code it ends."""
    monkeypatch.chdir(project.folder)
    for name in [name for name in os.environ if name.startswith("ATLAS_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str, input: str = "", env: dict[str, str] | None = None) -> Done:
        with monkeypatch.context() as changed:
            changed.setattr(sys, "stdin", io.StringIO(input))
            for name, value in (env or {}).items():
                changed.setenv(name, value)
            code = run([*arguments])
        return Done(code, *capfd.readouterr())

    return call


@dataclass
class Guarded:
    """An API that lets in who has the token, by header or by form."""

    server: HTTPServer
    token: str = CANARY

    def serve(self) -> None:
        self.server.expect_request("/v1/things").respond_with_handler(self._things)
        self.server.expect_request("/v1").respond_with_handler(self._things)

    @property
    def url(self) -> str:
        return self.server.url_for("/v1")

    def _things(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return Response(json.dumps({"error": request.headers.get("Authorization")}), status=401)
        return Response('[{"id": 1}]', content_type="application/json")

    def definition(self, token: str) -> str:
        return (
            f"protocol: http\nconnection:\n  base_url: {self.url}\n"
            f"  auth: {{type: bearer, token: {json.dumps(token)}}}\n"
            "  resources:\n    things: {path: /things}\nstreams: [{name: things, path: things}]\n"
        )


@pytest.fixture
def api(httpserver: HTTPServer) -> Guarded:
    made = Guarded(httpserver)
    made.serve()
    return made


def written(project: Project) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}


def leaks(project: Project, *said: Done) -> list[str]:
    everywhere = written(project) | {
        f"{number} {name}": getattr(done, name).encode()
        for number, done in enumerate(said)
        for name in ("stdout", "stderr")
    }
    return [place for place, content in everywhere.items() if any(form in content for form in FORMS)]


def listed(atlas: Atlas) -> list[str]:
    return [line["name"] for line in atlas("secret", "list", "--json").json()["secrets"]]


def add(atlas: Atlas, api: Guarded, *more: str, input: str = f"{CANARY}\n") -> Done:
    return atlas(
        "connector", "add", "api", "--protocol", "http", "--set", f"base_url={api.url}",
        "--set", "auth.type=bearer", "--set", "auth.token=-", *more, input=input,
    )  # fmt: skip


def test_a_token_from_stdin_is_encrypted_tried_and_used(atlas: Atlas, api: Guarded, project: Project) -> None:
    done = add(atlas, api)
    assert done.code == 0, done.stderr
    assert "encrypted api/auth/token" in done.stdout
    text = (project.folder / "connectors.d/api.yaml").read_text()
    assert "token: ${secret:api/auth/token}" in text
    more = "  resources: {things: {path: /things}}\nstreams: [{name: things, path: things}]\n"
    (project.folder / "connectors.d/api.yaml").write_text(text + more)
    synced = atlas("connector", "sync", "api", "--json")
    assert synced.code == 0, synced.stderr
    assert synced.json()["runs"][0]["rows_processed"] == 1
    assert leaks(project, done, synced) == []


@pytest.mark.parametrize("form", ["yaml", "older"])
def test_secrets_of_a_file_are_taken_out_of_it(
    atlas: Atlas, api: Guarded, project: Project, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "given"
    if form == "yaml":
        file.write_text(api.definition(CANARY))
    else:
        config = {"base_url": api.url, "auth_type": "bearer", "auth_token": CANARY}
        file.write_text(json.dumps({"source_name": "api", "source_type": "http", "config": config}))
    done = atlas("connector", "add", "api", "--from-file", str(file), "--json")
    assert done.code == 0, done.stderr
    name = "api/auth/token" if form == "yaml" else "api/auth_token"
    assert done.json()["secrets"] == [name]
    assert f"${{secret:{name}}}" in (project.folder / "connectors.d/api.yaml").read_text()
    shown = [atlas("connector", "show", "api"), atlas("config", "show", "api", "--origin", "--json")]
    assert f"${{secret:{name}}}" in shown[0].stdout
    if form == "yaml":
        assert atlas("connector", "sync", "api").code == 0
    assert leaks(project, done, *shown) == []


def test_what_a_file_refers_to_already_is_left_alone(atlas: Atlas, api: Guarded, project: Project) -> None:
    file = project.write("given", api.definition("${env:TOKEN}"))
    assert atlas("connector", "add", "api", "--from-file", str(file), env={"TOKEN": CANARY}).code == 0
    assert "${env:TOKEN}" in (project.folder / "connectors.d/api.yaml").read_text()
    assert listed(atlas) == []
    synced = atlas("connector", "sync", "api", env={"TOKEN": CANARY})
    assert (synced.code, leaks(project, synced)) == (0, [])


def test_free_mappings_go_by_name_and_models_by_type(atlas: Atlas, api: Guarded, project: Project) -> None:
    done = atlas(
        "connector", "add", "api", "--protocol", "http", "--set", f"base_url={api.url}", "--no-test",
        "--set", "headers.X-Api-Key=-", "--set", "headers.Accept=text/json", "--set", "auth.type=session",
        "--set", "auth.login_path=/in", "--set", "auth.login_token=data.token",
        "--set", "auth.login_body.pin=-",
        input=f"{CANARY}\n{CANARY}\n",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert listed(atlas) == ["api/auth/login_body/pin", "api/headers/X-Api-Key"]
    text = (project.folder / "connectors.d/api.yaml").read_text()
    assert "login_token: data.token" in text
    assert "Accept: text/json" in text
    assert leaks(project, done) == []


def test_what_cannot_be_added_leaves_no_secret(atlas: Atlas, api: Guarded, project: Project) -> None:
    file = project.write("given", api.definition("${env:NONE}"))
    done = [
        add(atlas, api, "--set", "auth.tokne=x"),
        add(atlas, api, "--schedule", "soon"),
        add(atlas, api, "--set", "timeout=soon"),
        add(atlas, api, input=""),
        atlas("connector", "add", "api", "--from-file", str(file)),
        atlas("connector", "add", "bad..name", "--protocol", "http", "--set", "auth.token=-", input=CANARY),
    ]
    assert [each.code for each in done] == [2] * 6
    assert listed(atlas) == []
    assert not list((project.folder / "connectors.d").glob("*"))
    assert leaks(project, *done) == []


def test_a_secret_on_the_command_line_is_taken_and_told(atlas: Atlas, api: Guarded, project: Project) -> None:
    done = atlas(
        "connector", "add", "api", "--protocol", "http", "--set", f"base_url={api.url}",
        "--set", "auth.type=bearer", "--set", f"auth.token={CANARY}", "--no-test",
    )  # fmt: skip
    assert done.code == 0
    assert "next time --set auth.token=-" in done.stderr
    assert leaks(project, done) == []


@pytest.mark.parametrize("value", ["pa${ss", "$${x}", "${env:HOME}", "12345", "true", "- x: 'y'", '"', "ä"])
def test_any_text_may_be_a_secret(atlas: Atlas, project: Project, value: str) -> None:
    done = atlas(
        "connector", "add", "pg", "--protocol", "postgresql", "--set", "password=-", "--no-test",
        "--table", "t", input=f"{value}\n",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "password: ${secret:pg/password}" in (project.folder / "connectors.d/pg.yaml").read_text()
    config = Opened.open(project.folder, {}).connector("pg").config
    assert config.password.get_secret_value() == value  # type: ignore[attr-defined]
    assert value not in repr(config) or value == "t"


def test_update_replaces_a_secret_or_changes_nothing(atlas: Atlas, api: Guarded, project: Project) -> None:
    project.write("connectors.d/api.yaml", "# ours\n" + api.definition("clear-text"))
    refused = atlas(
        "connector", "update", "api", "--set", "auth.token=-", "--set", "auth.tipe=x", input=f"{CANARY}\n"
    )
    assert (refused.code, listed(atlas)) == (2, [])
    assert "clear-text" in (project.folder / "connectors.d/api.yaml").read_text()
    done = atlas("connector", "update", "api", "--set", "auth.token=-", input=f"{CANARY}\n")
    assert done.code == 0, done.stderr
    text = (project.folder / "connectors.d/api.yaml").read_text()
    assert text.startswith("# ours\n")
    assert "clear-text" not in text
    assert atlas("connector", "sync", "api").code == 0
    assert leaks(project, refused, done) == []


def test_a_removed_connector_takes_its_secrets_along_but_for_those_of_others(
    atlas: Atlas, api: Guarded, project: Project
) -> None:
    assert add(atlas, api).code == 0
    assert atlas("secret", "set", "api/other", input=CANARY).code == 0
    assert atlas("secret", "set", "apis/token", input=CANARY).code == 0
    project.write("connectors.d/second.yaml", api.definition("${secret:api/auth/token}"))
    done = atlas("connector", "remove", "api")
    assert (done.code, done.stdout) == (0, "removed api and its secrets api/other\n")
    assert listed(atlas) == ["api/auth/token", "apis/token"]
    assert atlas("connector", "sync", "second").code == 0


def test_secrets_are_set_listed_rotated_and_removed(atlas: Atlas, api: Guarded, project: Project) -> None:
    project.write("connectors.d/api.yaml", api.definition("${secret:shared/token}"))
    missing = atlas("connector", "sync", "api")
    assert missing.code == 2
    assert (
        "connectors.d/api.yaml:4: connection.auth.token: there is no secret 'shared/token'" in missing.stderr
    )
    assert "hint: atlas secret set shared/token" in missing.stderr
    done = atlas("secret", "set", "shared/token", input=CANARY)
    assert done.stdout == "set shared/token; a definition refers to it as ${secret:shared/token}\n"
    document = atlas("secret", "list", "--json").json()
    assert (document["total"], list(document["secrets"][0])) == (1, ["name", "updated_at"])
    assert document["secrets"][0]["updated_at"].endswith("Z")
    assert "yes" in atlas("secret", "list").stdout
    key = (project.folder / ".atlas/secret.key").read_text()
    assert atlas("secret", "rotate", "--json").json() == {"rotated": 1}
    assert (project.folder / ".atlas/secret.key").read_text() != key
    assert atlas("connector", "sync", "api").code == 0
    gone = atlas("secret", "remove", "shared/token")
    assert "still refer to shared/token" in gone.stderr
    assert atlas("connector", "sync", "api").code == 2
    assert leaks(project, missing, done, gone) == []


def test_a_key_of_several_lines_comes_whole_from_stdin(atlas: Atlas, project: Project) -> None:
    pem = "-----BEGIN X-----\nabc\n-----END X-----\n"
    assert atlas("secret", "set", "api/key", input=pem).code == 0
    project.write(
        "connectors.d/api.yaml", "protocol: postgresql\nconnection: {password: '${secret:api/key}'}\n"
    )
    config = Opened.open(project.folder, {}).connector("api").config
    assert config.password.get_secret_value() == pem.rstrip("\n")  # type: ignore[attr-defined]


def test_secrets_have_no_place_outside_of_connections(atlas: Atlas, project: Project) -> None:
    assert atlas("secret", "set", "a/b", input=CANARY).code == 0
    project.write("connectors.d/a.yaml", "protocol: sqlite\ndescription: ${secret:a/b}\n")
    refused = atlas("config", "check", "a")
    assert "a `secret` reference has no place here" in refused.stdout + refused.stderr
    project.write("atlas.yaml", "state: {protocol: sqlite, database_path: '${secret:a/b}'}\n")
    assert atlas("state", "history", "a").code == 2
    assert leaks(project, refused) == []


def test_no_command_that_fails_shows_a_secret(atlas: Atlas, api: Guarded, project: Project) -> None:
    """Each command at -vv, with a server that refuses, one that is gone, and another key."""
    assert add(atlas, api, "--no-test").code == 0
    text = (project.folder / "connectors.d/api.yaml").read_text()
    text += "streams: [{name: things, path: things}]\n"
    (project.folder / "connectors.d/api.yaml").write_text(text)
    project.write(
        "connectors.d/pg.yaml",
        "protocol: postgresql\nconnection: {host: 127.0.0.1, port: 1, username: etl, "
        "password: '${secret:api/auth/token}'}\nstreams: [{table: t}]\n",
    )
    commands = [
        ("connector", "test", "--all"), ("connector", "sync", "--all"), ("connector", "discover", "api"),
        ("connector", "preview", "api"), ("connector", "verify", "api"), ("connector", "show", "api"),
        ("connector", "history"), ("connector", "list"), ("config", "show", "api", "--origin"),
        ("config", "check"),
        ("state", "show", "pg"), ("quarantine", "list", "api"), ("secret", "list"),
        ("connector", "update", "api", "--set", "timeout=soon"), ("secret", "remove", "no/such"),
    ]  # fmt: skip
    api.token = "another"
    said = [atlas(*command, "-vv", *as_json) for command in commands for as_json in ((), ("--json",))]
    (project.folder / ".atlas/secret.key").write_text("A" * 43 + "=\n")
    said += [atlas(*command, "-vv") for command in (*commands, ("secret", "rotate"))]
    assert {done.code for done in said} >= {0, 2, 3}
    assert leaks(project, *said) == []


def test_a_sync_without_stored_secrets_loads_nothing_for_them(project: Project) -> None:
    import sqlite3

    with sqlite3.connect(project.folder / "shop.db") as shop:
        shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: '${env:DB}'}\nstreams: [{table: t}]\n",
    )
    script = (
        "import sys; from atlas_etl.cli.app import run; code = run(['connector', 'sync', 'shop']);"
        "print(code, *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project.folder, env=project.environment({"DB": "shop.db"}),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, *modules = done.stdout.split()
    assert code == "0", done.stderr
    assert not {"cryptography", "keyring", "hvac", "boto3", "google"} & set(modules)


def test_hosts_that_share_the_state_share_the_secrets(
    atlas: Atlas, api: Guarded, project: Project, postgres: ServerAddress
) -> None:
    state = f"state:\n  protocol: postgresql\n  host: {postgres.host}\n  port: {postgres.port}\n"
    state += f"  database: {postgres.database}\n  username: {postgres.username}\n"
    project.write("atlas.yaml", state + "  password: ${env:STATE_PASSWORD}\n")
    env = {"STATE_PASSWORD": postgres.password, "ATLAS_SECRET_KEY": base64.b64encode(b"k" * 32).decode()}
    project.write("connectors.d/api.yaml", api.definition("${secret:api/auth/token}"))
    done = [
        atlas("secret", "set", "api/auth/token", input=CANARY, env=env),
        atlas("connector", "sync", "api", env=env),
        atlas("secret", "list", "--json", env=env),
    ]
    assert [each.code for each in done] == [0, 0, 0], done
    assert done[2].json()["total"] == 1
    assert not (project.folder / ".atlas" / "secrets.json").exists()
    with psycopg.connect(postgres.url("postgresql")) as client:
        rows = client.execute("SELECT * FROM pipeline.secrets").fetchall()
        everything = client.execute(
            "SELECT query_to_xml('TABLE pipeline.scheduled_runs', true, true, '')::text"
        )
        kept = f"{rows}{everything.fetchall()}".encode()
    assert len(rows) == 1
    assert not any(form in kept for form in FORMS)
    other = {**env, "ATLAS_SECRET_KEY": base64.b64encode(b"x" * 32).decode()}
    refused = atlas("connector", "sync", "api", env=other)
    assert "which ATLAS_SECRET_KEY does not hold" in refused.stderr
    project.write("atlas.yaml", state + "  password: ${secret:state/password}\n")
    itself = atlas("secret", "list", env=env)
    assert (itself.code, "a `secret` reference has no place here" in itself.stderr) == (2, True)
    assert leaks(project, *done, refused, itself) == []


def test_a_hundred_secrets_of_a_server_cost_one_login(project: Project, postgres: ServerAddress) -> None:
    project.write("atlas.yaml", f"state: {postgres.url('postgresql')}\n")
    opened = Opened.open(project.folder, {})
    opened.keep({f"c{number}/password": CANARY for number in range(100)})
    for number in range(100):
        project.write(
            f"connectors.d/c{number}.yaml",
            f"protocol: postgresql\nconnection: {{password: '${{secret:c{number}/password}}'}}\n",
        )
        assert opened.connector(f"c{number}").config.password.get_secret_value() == CANARY  # type: ignore[attr-defined]
    with psycopg.connect(postgres.url("postgresql")) as client:
        found = client.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        (sessions,) = found.fetchone() or (0,)
    assert sessions < 10


def test_a_new_credential_takes_the_old_ones_place_once_it_works(
    atlas: Atlas, api: Guarded, project: Project
) -> None:
    assert add(atlas, api).code == 0
    before = written(project)
    refused = atlas("connector", "rotate", "api", input="another\n")
    assert refused.code == 3, refused.stderr
    assert "401" in refused.stderr
    assert written(project) == before
    assert atlas("connector", "test", "api").code == 0
    api.token = "another"
    done = atlas("connector", "rotate", "api", "--json", input="another\n")
    assert done.json() == {"connector": "api", "result": "rotated", "secrets": ["api/auth/token"]}
    assert atlas("connector", "test", "api").code == 0
    api.token = CANARY
    assert "take the old one back" in atlas("connector", "rotate", "api", input=f"{CANARY}\n").stdout
    empty = atlas("connector", "rotate", "api", input="")
    assert empty.code == 2
    assert leaks(project, refused, done, empty) == []


def test_a_credential_that_was_written_out_is_encrypted_by_its_rotation(
    atlas: Atlas, api: Guarded, project: Project
) -> None:
    project.write("connectors.d/api.yaml", "# ours\n" + api.definition("clear-text"))
    before = written(project)
    assert atlas("connector", "rotate", "api", input="wrong\n").code == 3
    assert written(project)[str(project.folder / "connectors.d/api.yaml")] == before.popitem()[1]
    done = atlas("connector", "rotate", "api", input=f"{CANARY}\n")
    assert done.code == 0, done.stderr
    text = (project.folder / "connectors.d/api.yaml").read_text()
    assert "${secret:api/auth/token}" in text
    assert "clear-text" not in text
    assert leaks(project, done) == []


def test_what_is_kept_elsewhere_is_not_rotated_here(atlas: Atlas, api: Guarded, project: Project) -> None:
    project.write("connectors.d/api.yaml", api.definition("${env:TOKEN}"))
    done = atlas("connector", "rotate", "api", input=f"{CANARY}\n", env={"TOKEN": "x"})
    assert (done.code, "update api --set auth.token=-" in done.stderr) == (2, True)
    project.write("connectors.d/api.yaml", api.definition("${secret:api/auth/token}"))
    override = {"ATLAS_CONNECTOR_API__AUTH__TOKEN": "x"}
    done = atlas("connector", "rotate", "api", input=f"{CANARY}\n", env=override)
    assert (done.code, "the variable ATLAS_CONNECTOR_API__AUTH__TOKEN" in done.stderr) == (2, True)
    project.write(
        "connectors.d/two.yaml",
        "protocol: mysql\nconnection: {password: '${secret:a/b}', ssl_key_password: '${secret:a/c}'}\n",
    )
    assert "password, ssl_key_password" in atlas("connector", "rotate", "two").stderr
    assert "did you mean 'password'" in atlas("connector", "rotate", "two", "--field", "pasword").stderr
    project.write("connectors.d/none.yaml", "protocol: sqlite\nconnection: {database_path: x.db}\n")
    assert "has no secrets" in atlas("connector", "rotate", "none").stderr
    assert listed(atlas) == []


@dataclass
class RotatingApi:
    """An API whose refresh token is worth one use: each gives an access token and the next refresh token."""

    server: HTTPServer
    valid: str = CANARY
    used: int = 0
    reachable: bool = True

    def serve(self) -> None:
        self.server.expect_request("/token").respond_with_handler(self._token)
        self.server.expect_request("/v1").respond_with_handler(self._things)
        self.server.expect_request("/v1/things").respond_with_handler(self._things)

    def _token(self, request: Request) -> Response:
        if request.form["refresh_token"] != self.valid:
            return Response('{"error": "invalid_grant"}', status=400)
        self.used += 1
        self.valid = f"{CANARY}{self.used}"
        answer = {"access_token": f"access-{self.used}", "expires_in": 3600, "refresh_token": self.valid}
        return Response(json.dumps(answer), content_type="application/json")

    def _things(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer access-{self.used}" or not self.reachable:
            return Response(status=403)
        return Response('[{"id": 1}]', content_type="application/json")

    def definition(self, token: str) -> str:
        url = self.server.url_for
        return (
            f"protocol: http\nconnection:\n  base_url: {url('/v1')}\n"
            f"  auth: {{type: oauth2, grant: refresh_token, token_url: {url('/token')}, client_id: id, "
            f"refresh_token: {json.dumps(token)}}}\n"
            "  resources:\n    things: {path: /things}\nstreams: [{name: things, path: things}]\n"
        )


@pytest.fixture
def rotating(httpserver: HTTPServer) -> RotatingApi:
    made = RotatingApi(httpserver)
    made.serve()
    return made


def test_a_refresh_token_that_the_api_rotates_is_stored_for_the_next_run(
    atlas: Atlas, rotating: RotatingApi, project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "given"
    file.write_text(rotating.definition(CANARY))
    done = [atlas("connector", "add", "api", "--from-file", str(file))]  # the trial uses the token already
    assert (done[0].code, rotating.used) == (0, 1), done[0].stderr
    for number in (2, 3):
        done.append(atlas("connector", "sync", "api", "--json"))
        assert (done[-1].code, rotating.used) == (0, number), done[-1].stderr
        assert "rotated" not in done[-1].stdout + done[-1].stderr
    done.append(atlas("connector", "test", "api"))
    assert (done[-1].code, rotating.used) == (0, 4)
    rotating.reachable = False  # a run that fails has stored the new token before
    done.append(atlas("connector", "sync", "api", "-vv"))
    assert (done[-1].code, rotating.used) == (3, 5)
    rotating.reachable = True
    done.append(atlas("connector", "sync", "api"))
    assert (done[-1].code, rotating.used) == (0, 6)
    assert leaks(project, *done) == []


def test_a_new_refresh_token_is_tried_and_its_successor_stored(
    atlas: Atlas, rotating: RotatingApi, project: Project
) -> None:
    project.write("connectors.d/api.yaml", rotating.definition("${secret:api/auth/refresh_token}"))
    assert atlas("secret", "set", "api/auth/refresh_token", input="stale").code == 0
    assert atlas("connector", "sync", "api").code == 3
    done = atlas("connector", "rotate", "api", input=f"{CANARY}\n")
    assert (done.code, rotating.used) == (0, 1), done.stderr
    assert atlas("connector", "sync", "api").code == 0
    assert leaks(project, done) == []


def test_a_token_that_was_spent_on_a_trial_that_failed_is_not_lost(
    atlas: Atlas, rotating: RotatingApi, project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "given"
    file.write_text(rotating.definition(CANARY))
    rotating.reachable = False
    failed = atlas("connector", "add", "api", "--from-file", str(file))
    assert (failed.code, rotating.used) == (3, 1), failed.stderr
    assert "the source replaced api/auth/refresh_token while it was tried" in failed.stderr
    assert not (project.folder / "connectors.d/api.yaml").exists()
    rotating.reachable = True
    file.write_text(rotating.definition("${secret:api/auth/refresh_token}"))
    done = atlas("connector", "add", "api", "--from-file", str(file))
    assert (done.code, rotating.used) == (0, 2), done.stderr
    assert atlas("connector", "sync", "api").code == 0
    assert leaks(project, failed, done) == []


def test_a_token_that_was_spent_on_a_rotation_that_failed_is_not_lost(
    atlas: Atlas, rotating: RotatingApi, project: Project
) -> None:
    """Nor is the one before, which may still be worth something."""
    written = rotating.definition("${secret:api/auth/refresh_token}").replace("\n", "\r\n").encode()
    file = project.write("connectors.d/api.yaml", "")
    file.write_bytes(written)
    assert atlas("secret", "set", "api/auth/refresh_token", input="the-old-one").code == 0
    rotating.reachable = False
    failed = atlas("connector", "rotate", "api", input=f"{CANARY}\n")
    assert (failed.code, rotating.used) == (3, 1), failed.stderr
    assert "Give ${secret:api/auth/refresh_token.new} for it" in failed.stderr
    assert file.read_bytes() == written
    opened = Opened.open(project.folder, {}).secrets()
    assert opened.get("api/auth/refresh_token") == "the-old-one"
    assert opened.get("api/auth/refresh_token.new") == rotating.valid
    rotating.reachable = True
    reference = "auth.refresh_token=${secret:api/auth/refresh_token.new}"
    assert atlas("connector", "update", "api", "--set", reference).code == 0
    for used in (2, 3):
        done = atlas("connector", "sync", "api")
        assert (done.code, rotating.used) == (0, used), done.stderr
    assert leaks(project, failed, done) == []


def test_a_rotation_that_is_interrupted_leaves_the_definition(
    atlas: Atlas, api: Guarded, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project.write("connectors.d/api.yaml", api.definition("clear-text"))
    before = file.read_text()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Opened, "adopt", interrupted)
    assert atlas("connector", "rotate", "api", input=f"{CANARY}\n").code == 130
    assert file.read_text() == before


@pytest.mark.parametrize("kept", ["elsewhere", "unwritable"])
def test_a_rotated_token_that_cannot_be_stored_is_warned_of(
    atlas: Atlas, rotating: RotatingApi, project: Project, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    reference = "${env:TOKEN}" if kept == "elsewhere" else "${secret:api/auth/refresh_token}"
    project.write("connectors.d/api.yaml", rotating.definition(reference))
    assert atlas("secret", "set", "api/auth/refresh_token", input=CANARY).code == 0
    if kept == "unwritable":

        def refuse(*_: object) -> None:
            raise ConfigError("the disk is full", code="file_unwritable")

        monkeypatch.setattr(SecretStore, "set", refuse)
    done = atlas("connector", "sync", "api", "--json", env={"TOKEN": CANARY})
    assert done.code == 0, done.stderr
    (warning,) = done.json()["runs"][0]["streams"][0]["warnings"]
    assert ("stored nowhere" if kept == "elsewhere" else "(the disk is full)") in warning
    assert leaks(project, done) == []


@pytest.mark.parametrize("written", ["plain", "encoded", "quoted"])
def test_what_a_server_says_is_shown_without_secrets(
    atlas: Atlas, httpserver: HTTPServer, project: Project, written: str
) -> None:
    """A login that fails is told with the server's own code, in which this one puts what it was sent."""
    echo = {"plain": CANARY, "encoded": base64.b64encode(CANARY.encode()).decode(), "quoted": quote(CANARY)}
    refusal = json.dumps({"error": f"honest {echo[written]}"})
    httpserver.expect_request("/token").respond_with_data(refusal, status=400)
    url = httpserver.url_for
    project.write(
        "connectors.d/api.yaml",
        f"protocol: http\nconnection:\n  base_url: {url('/v1')}\n"
        f"  auth: {{type: oauth2, token_url: {url('/token')}, client_id: id, "
        "client_secret: '${secret:api/secret}'}\n"
        "  resources: {things: {path: /things}}\nstreams: [{name: things, path: things}]\n",
    )
    assert atlas("secret", "set", "api/secret", input=CANARY).code == 0
    commands = [
        ("sync", "api", "-vv"),
        ("sync", "api", "--json"),
        ("sync", "api", "--log-format", "json", "-vv"),
    ]
    commands += [("test", "api", "-vv"), ("history", "--json"), ("preview", "api", "-vv")]
    done = [atlas("connector", *command) for command in commands]
    for each in done:
        assert "honest ********" in each.stdout + each.stderr
    assert leaks(project, *done) == []


def test_a_secret_in_a_file_that_everybody_may_read_is_refused(project: Project) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder, file = Path(name), Path(name) / "password"
        folder.chmod(0o755)
        file.write_text(CANARY)
        file.chmod(0o644)
        project.write(
            "connectors.d/pg.yaml",
            f"protocol: postgresql\nconnection:\n  host: ${{file:{file}}}\n  password: ${{file:{file}}}\n",
        )
        opened = Opened.open(project.folder, {})
        with pytest.raises(ConfigError) as caught:
            opened.connector("pg")
        assert caught.value.code == "exposed_secret"
        assert caught.value.message.startswith("connectors.d/pg.yaml:4: connection.password: ")
        assert f"chmod o-rwx {file}" in str(caught.value.hint)
        for mode, outer in ((0o640, 0o755), (0o644, 0o700)):
            file.chmod(mode)
            folder.chmod(outer)
            assert opened.connector("pg").config.password.get_secret_value() == CANARY  # type: ignore[attr-defined]


def test_clients_of_the_library_take_secrets_as_pydantic_has_them(postgres: ServerAddress) -> None:
    settings = {
        "host": postgres.host, "port": postgres.port, "database": postgres.database,
        "username": postgres.username, "password": SecretStr(postgres.password),
    }  # fmt: skip
    with create_connector({"protocol": "postgresql", **settings}) as connector:
        assert len(connector.fetch_data("SELECT 1 AS a")) == 1
        assert postgres.password not in repr(connector.config)
    assert can_connect("postgresql", **settings)


def test_scripts_read_stored_secrets_from_a_file_of_settings(project: Project) -> None:
    Opened.open(project.folder, {}).keep({"shop/password": CANARY})
    file = project.write("conf/shop.yaml", "password: ${secret:shop/password}\npin: ${cmd:printf 1234}\n")
    project.write("atlas.yaml", "timezone: UTC\n")
    assert load_connection_config(file_path=file) == {"password": CANARY, "pin": "1234"}


def test_a_terminal_shows_nothing_of_what_is_typed(project: Project) -> None:
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "atlas_etl", "secret", "set", "shop/password"]
    process = subprocess.Popen(
        command, cwd=project.folder, env=project.environment(), start_new_session=True,
        stdin=inside, stdout=inside, stderr=inside,
    )  # fmt: skip
    os.close(inside)
    shown = b""
    try:
        while b"shop/password:" not in shown:
            shown += os.read(terminal, 1000)
        while termios.tcgetattr(terminal)[3] & termios.ECHO:  # what is typed before that is lost
            assert process.poll() is None
        os.write(terminal, f"{CANARY}\n".encode())
        with suppress(OSError):  # the other end is closed
            while more := os.read(terminal, 1000):
                shown += more
        assert process.wait(30) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert not any(form in shown for form in FORMS)
    assert Opened.open(project.folder, {}).secrets().get("shop/password") == CANARY
