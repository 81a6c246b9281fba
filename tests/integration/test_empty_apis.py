"""What is told of an API that has never had a record, and of one that cannot be asked."""

from __future__ import annotations

from pytest_httpserver import HTTPServer
from tests.project import Project


def test_a_sync_without_a_table_names_none(project: Project, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/orders").respond_with_json([])
    url = httpserver.url_for("/")
    project.write(
        "connectors.d/api.yaml", f"protocol: http\nconnection: {{base_url: '{url}'}}\nstreams: [orders]\n"
    )
    done = project.atlas("connector", "sync", "api")
    told = done.stdout + done.stderr
    assert (done.returncode, "0 rows" in told, "None" in told) == (0, True, False)


def test_a_url_with_a_wrong_port_is_named(project: Project) -> None:
    resources = "{orders: {path: 'http://localhost:99999/orders?key=hidden'}}"
    connection = f"{{base_url: 'http://localhost:1/', resources: {resources}}}"
    project.write("connectors.d/api.yaml", f"protocol: http\nconnection: {connection}\n")
    told = project.atlas("connector", "sync", "api").stderr
    assert ("http://localhost:99999/orders is no URL" in told, "hidden" in told) == (True, False)
