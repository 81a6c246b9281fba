"""The key of a merge that is longer or shorter than at the last load: no row is doubled or lost by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tests.project import Finished, Project

from atlas_etl.cli import app

Copy = Callable[..., Finished]

FIRST = "id,unit,at,amount\n1,kg,2026-01-01,1\n2,kg,2026-01-02,2\n"
LATER = "id,unit,at,amount\n1,t,2026-01-03,1\n2,kg,2026-01-02,2\n"  # 1 has another unit
DESTINATIONS = ("duckdb", "sqlite", "postgresql", "mysql", "parquet")


@pytest.fixture(params=DESTINATIONS)
def copy(
    project: Project,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Copy:
    """A copy of a file that is merged by these columns, by the command within this process."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HOME", str(project.home))
    protocol: str = request.param
    uri = {"duckdb": "copy.duckdb", "sqlite": "sqlite:///copy.db", "parquet": "lake/"}.get(protocol)
    if uri is None:
        server = {"postgresql": "postgres", "mysql": "mysql"}[protocol]
        uri = request.getfixturevalue(server).url(protocol)

    def run(key: str, *more: str) -> Finished:
        columns = [word for column in key.split() for word in ("--primary-key", column)]
        line = ["copy", "a.csv", uri, "--cursor", "at", *columns, *more, "--json"]
        capsys.readouterr()
        code = app.run(line)
        said = capsys.readouterr()
        return Finished(line, int(code), said.out, said.err)

    return run


def loaded(done: Finished) -> Sequence[int]:
    assert done.returncode == 0, done.stderr
    return [run["rows_processed"] for run in done.json()["runs"]]


@pytest.mark.parametrize(
    ("before", "after"), [("id", "id unit"), ("unit id", "id")], ids=["longer", "shorter"]
)
def test_another_key_is_refused_until_a_full_refresh(
    project: Project, copy: Copy, before: str, after: str
) -> None:
    project.write("a.csv", FIRST)
    assert loaded(copy(before)) == [2]
    assert loaded(copy(" ".join(reversed(before.split())))) == [0]  # the same columns
    project.write("a.csv", LATER)
    refused = copy(after)
    assert refused.returncode == 7, refused.stderr
    (run,) = refused.json()["runs"]
    error = run["streams"][0]["error"]
    assert error["code"] == "key_changed"
    assert "--full-refresh" in error["hint"]
    assert f"by {', '.join(sorted(before.split()))}:" in error["message"]
    assert loaded(copy(after, "--full-refresh")) == [2]
    assert loaded(copy(after)) == [0]
    project.write("a.csv", LATER.replace("2,kg,2026-01-02", "2,g,2026-01-04"))
    assert loaded(copy(after)) == [1]
