"""Documents of an API without a bottom, and numbers without an end: refused, or kept as their text."""

from __future__ import annotations

import json

import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project

DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize("options", [(), ("--record", "tape.yaml")], ids=["plain", "recorded"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_login_without_a_bottom_is_refused_once(
    project: Project, httpserver: HTTPServer, status: int, options: tuple[str, ...]
) -> None:
    given = f'{{"access_token": "hush-hush-token", "deep": {DEEP}}}'
    httpserver.expect_ordered_request("/token").respond_with_data(given, status=status)
    auth = {"type": "oauth2", "client_id": "id", "client_secret": "hush-hush-secret",
            "token_url": httpserver.url_for("/token")}  # fmt: skip
    definition = {"protocol": "http", "connection": {"base_url": httpserver.url_for(""), "auth": auth},
                  "streams": [{"name": "things", "path": "/things"}]}  # fmt: skip
    project.write("connectors.d/api.json", json.dumps(definition))
    done = project.atlas("connector", "sync", "api", *options)
    assert done.returncode == 3, done.stderr
    assert "trying again" not in done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_gigantic_numbers_and_deep_records_of_an_api(project: Project, httpserver: HTTPServer) -> None:
    """Numbers are kept as their text, or refused; of a document that has no end it is not asked again."""
    digits = "9" * 5000
    bodies = {
        "numbers": f'[{{"id": 1, "n": 1e400000}}, {{"id": 2, "n": {digits}}}]',
        "deep": f'[{{"id": 1, "n": {DEEP}}}]',
    }
    for name, body in bodies.items():
        httpserver.expect_request(f"/{name}").respond_with_data(body, content_type="application/json")
        definition = {"protocol": "http", "connection": {"base_url": httpserver.url_for("")},
                      "streams": [{"name": name, "path": f"/{name}"}]}  # fmt: skip
        project.write(f"connectors.d/{name}.json", json.dumps(definition))
    assert project.atlas("connector", "sync", "numbers").returncode == 0
    assert project.atlas("connector", "verify", "numbers").returncode == 0
    found = project.atlas("query", "SELECT id, n FROM numbers.numbers ORDER BY id", "--json").json()
    assert found["rows"] == [[1, "1e400000"], [2, digits]]
    for command in ("sync", "preview"):
        done = project.atlas("connector", command, "deep")
        assert (done.returncode, "nested too deeply" in done.stderr) == (3, True)
        assert "trying again" not in done.stderr
