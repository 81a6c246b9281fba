"""The preset `github` against a server that pages, filters and refuses as GitHub's REST API does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import connector, stream, synced

FIELDS = {"token": "s3cret", "owner": "octo"}
SIZE = 2  # of the server's pages, whatever is asked for


def issue(number: int, day: int, **more: object) -> dict[str, object]:
    at = f"2026-01-{day:02}T00:00:00Z"
    user = {"login": "ada", "id": 1, "site_admin": False}
    return {
        "id": 3_000_000_000 + number, "number": number, "title": f"t{number}", "state": "open", "user": user,
        "labels": [{"id": 5, "name": "bug"}], "created_at": "2026-01-01T00:00:00Z", "updated_at": at,
        "closed_at": None, "body": None, **more,
    }  # fmt: skip


class GitHub:
    """Lists by path, linked page by page (Link), since a moment or from the newest on."""

    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.lists: dict[str, list[dict[str, object]]] = {
            "/users/octo/repos": [{"id": n, "name": f"r{n}", "full_name": f"octo/r{n}"} for n in (1, 2, 3)],
            "/repos/octo/r1/issues": [issue(n, n) for n in (1, 2, 3, 4, 5)],
            "/repos/octo/r2/issues": [issue(6, 6)],
            "/repos/octo/r1/pulls": [issue(n, n) for n in (1, 2, 3, 4, 5)],
            "/repos/octo/r2/pulls": [],
            "/repos/octo/r3/pulls": [],
            **{f"/repos/octo/r{n}/branches": [{"name": "main"}, {"name": f"b{n}"}] for n in (1, 2, 3)},
            **{f"/repos/octo/r{n}/actions/runs": [{"id": 10 * n + at} for at in range(3)] for n in (1, 2, 3)},
        }
        for path in self.lists:
            self.api.serve(path, self.answer)
        self.api.serve("/repos/octo/r3/issues", lambda _: failed(410, "Issues are disabled for this repo"))

    def answer(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer s3cret"
        assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
        assert request.headers["Accept"] == "application/vnd.github+json"
        assert request.args["per_page"] == "100"
        found = [
            item for item in self.lists[request.path]
            if str(item.get("updated_at", "")) >= request.args.get("since", "")
        ]  # fmt: skip
        if request.args.get("direction") == "desc":
            found.sort(key=lambda item: str(item["updated_at"]), reverse=True)
        page = int(request.args.get("page", "1"))
        here: object = found[(page - 1) * SIZE : page * SIZE]
        if request.path.endswith("/runs"):
            of = {"name": request.path.split("/")[3]}  # each run has its repository itself
            runs = [{**run, "repository": of} for run in found[(page - 1) * SIZE : page * SIZE]]
            here = {"total_count": len(found), "workflow_runs": runs}
        response = as_json(here)
        if page * SIZE < len(found):
            query = "&".join(f"{name}={value}" for name, value in request.args.items() if name != "page")
            response.headers["Link"] = (
                f'<{request.base_url}?{query}&page={page + 1}>; rel="next", '
                f'<{request.base_url}?{query}&page=9>; rel="last"'
            )
        return response

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.api.asked if request.path == path]


def failed(status: int, message: str, **headers: str) -> Response:
    made = as_json({"message": message, "documentation_url": "https://docs.github.com/rest"})
    made.status_code = status
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


@pytest.fixture
def github(httpserver: HTTPServer) -> GitHub:
    return GitHub(httpserver)


def test_issues_of_every_repository_come_once_and_then_only_what_changed(
    github: GitHub, tmp_path: Path
) -> None:
    assert synced(github.api, "github", tmp_path, "issues", **FIELDS).rows_loaded == 6
    assert [request.args.get("since") for request in github.asked("/repos/octo/r1/issues")] == [None] * 3
    github.lists["/repos/octo/r1/issues"][0] = issue(1, 20, state="closed", title="new")
    synced(github.api, "github", tmp_path, "issues", **FIELDS)
    (again,) = github.asked("/repos/octo/r1/issues")
    assert again.args["since"] <= "2026-01-06T00:00:00Z"
    assert again.args["state"] == "all"
    found = rows(tmp_path, "SELECT repository, number, title, id FROM api.issues ORDER BY id")
    assert found[0] == ("r1", 1, "new", 3_000_000_001)
    assert [row[:2] for row in found[1:]] == [("r1", 2), ("r1", 3), ("r1", 4), ("r1", 5), ("r2", 6)]


def test_pull_requests_are_read_until_the_checkpoint(github: GitHub, tmp_path: Path) -> None:
    assert synced(github.api, "github", tmp_path, "pull_requests", **FIELDS).rows_loaded == 5
    assert len(github.asked("/repos/octo/r1/pulls")) == 3
    github.lists["/repos/octo/r1/pulls"] += [issue(7, 7), issue(8, 8)]
    synced(github.api, "github", tmp_path, "pull_requests", **FIELDS)
    assert len(github.asked("/repos/octo/r1/pulls")) == 2
    assert rows(tmp_path, "SELECT count(*), max(number) FROM api.pull_requests") == [(7, 8)]


def test_branches_and_runs_of_every_repository_come(github: GitHub, tmp_path: Path) -> None:
    assert synced(github.api, "github", tmp_path, "branches", **FIELDS).rows_loaded == 6
    assert synced(github.api, "github", tmp_path, "workflow_runs", **FIELDS).rows_loaded == 9
    found = rows(
        tmp_path, "SELECT repository ->> 'name', count(*) FROM api.workflow_runs GROUP BY 1 ORDER BY 1"
    )
    assert found == [("r1", 3), ("r2", 3), ("r3", 3)]
    assert len(github.asked("/repos/octo/r1/actions/runs")) == 2


def test_a_limit_that_is_used_up_is_waited_for_and_a_right_that_is_missing_is_not(github: GitHub) -> None:
    github.api.server.clear()
    limited = failed(403, "API rate limit exceeded", X_RateLimit_Remaining="0", X_RateLimit_Reset="1")
    refusals = [failed(403, "You have exceeded a secondary rate limit", Retry_After="0"), limited]
    github.api.serve(
        "/users/octo/repos", lambda request: refusals.pop() if refusals else github.answer(request)
    )
    assert "repositories answered" in connector(github.api, "github", **FIELDS).test().message
    assert len(github.api.asked) == 3
    github.api.server.clear()
    github.api.asked.clear()
    github.api.serve("/users/octo/repos", lambda _: failed(403, "Resource not accessible"))
    with pytest.raises(SourceError, match="403") as caught:
        connector(github.api, "github", **FIELDS).test()
    assert (caught.value.code, len(github.api.asked)) == ("http_403", 1)


def test_an_organization_has_a_list_of_its_own(github: GitHub) -> None:
    github.lists["/orgs/octo/repos"] = [{"id": 9, "name": "hidden"}]
    github.api.serve("/orgs/octo/repos", github.answer)
    made = connector(github.api, "github", **FIELDS, owner_type="orgs")
    assert made.describe(stream("github", "repositories", **FIELDS)).estimated_rows == 1
