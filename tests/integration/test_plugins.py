"""Protocols of other packages: an entry point adds one, and a broken package is nobody else's trouble."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.project import Project

GOOD = '''"""Whole numbers, counted up; for tests."""

from contextlib import contextmanager

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.base import Adapter, BaseConnector, ConnectionConfig
from atlas_etl.errors import SourceError
from atlas_etl.model import Checkpoint, ColumnInfo, ConnectionStatus, ReadOutline, StreamInfo


class Settings(ConnectionConfig):
    upto: int


class Numbers(BaseConnector[Settings]):
    def test(self):
        return ConnectionStatus(f"{self.config.upto} numbers")

    def discover(self):
        return [self.describe(None)]

    def describe(self, stream):
        return StreamInfo("numbers", (ColumnInfo("n", "integer", False),), estimated_rows=self.config.upto)

    @contextmanager
    def open(self, request):
        yield Counting(self.config.upto, request)

    def close(self):
        pass


class Counting:
    schema = pa.schema([pa.field("n", pa.int64(), False)])
    primary_key = ()
    key_is_unique = False
    tables = frozenset()
    estimated_rows = None
    next_tail = None
    wire_format = None

    def __init__(self, upto, request):
        if request.stream.table != "numbers":
            raise SourceError("there are only numbers here", code="table_not_found")
        first = int(request.since.text) if request.since else 1
        self._numbers = range(first, upto + 1)[: request.limit]
        self._cursor = request.stream.cursor

    def place(self):
        return None

    def batches(self):
        yield pa.RecordBatch.from_arrays([pa.array(self._numbers, pa.int64())], schema=self.schema)

    def outline(self):
        return ReadOutline(("count",), len(self._numbers))

    def interrupt(self):
        pass

    def reached(self):
        return None

    def checkpoint(self):
        if self._cursor is None or not self._numbers:
            return None
        high = values.cursor_value(pa.scalar(self._numbers[-1]), stream="", column="n")
        return Checkpoint(self._cursor, high, high)

    def nulled(self):
        return {}

    def warnings(self):
        return ()

    def refused(self):
        return []


ADAPTER = Adapter(
    connection=Settings,
    client=lambda config: range(config.upto),
    dispose=lambda client: None,
    connector=lambda config: Numbers(config, protocol="acme_numbers"),
)
'''
DEFINITION = """
protocol: {protocol}
connection: {{upto: {upto}}}
streams: [{{table: numbers, cursor: n}}]
"""


class Site:
    """A folder of installed packages, as `pip install --target` would leave it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder)}

    def install(self, package: str, entry_points: str, source: str | None) -> None:
        """A distribution of this name with one module (None: it was lost) and these entry points."""
        module = package.replace("-", "_")
        if source is not None:
            (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[atlas_etl.connectors]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def types(project: Project, site: Site) -> dict[str, dict[str, object]]:
    document = project.atlas("connector", "types", "--json", env=site.env).json()
    return {line["protocol"]: line for line in document["connector_types"]}


def test_another_packages_protocol_is_listed_defined_and_synced(project: Project, site: Site) -> None:
    built_in = types(project, site)
    site.install("atlas-numbers", "Acme_Numbers = atlas_numbers", GOOD)
    listed = types(project, site)
    assert listed.pop("acme_numbers") == {
        "protocol": "acme_numbers", "summary": "Whole numbers, counted up; for tests.", "reads": True,
        "writes": False, "extra": None, "installed": True,
    }  # fmt: skip
    assert listed == built_in
    done = project.atlas(
        "connector", "add", "counted", "--protocol", "acme_numbers", "--set", "upto=5", "--table", "numbers",
        "--cursor", "n", env=site.env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (planned,) = project.atlas("connector", "plan", "counted", "--json", env=site.env).json()["streams"]
    assert (planned["statements"], planned["estimated_rows"]) == (["count"], 5)
    (run,) = project.atlas("connector", "sync", "counted", "--json", env=site.env).json()["runs"]
    assert run["rows_processed"] == 5
    project.write("connectors.d/counted.yaml", DEFINITION.format(protocol="ACME_numbers", upto=7))
    (run,) = project.atlas("connector", "sync", "counted", "--json", env=site.env).json()["runs"]
    assert (run["rows_processed"], run["streams"][0]["rows_read"]) == (2, 3)
    answer = project.atlas("query", "SELECT count(*), sum(n)::INT FROM counted.numbers", "--json").json()
    assert answer["rows"] == [[7, 28]]
    looked = project.atlas("connector", "doctor", "counted", "--json", env=site.env)
    assert looked.returncode == 0
    assert "no such checks" in looked.json()["findings"][1]["message"]  # a protocol need not have any


def test_settings_of_another_packages_protocol_are_checked_like_ours(project: Project, site: Site) -> None:
    site.install("atlas-numbers", "acme_numbers = atlas_numbers", GOOD)
    wrong = DEFINITION.format(protocol="acme_numbers", upto=7).replace("upto", "upot")
    project.write("connectors.d/counted.yaml", wrong)
    done = project.atlas("connector", "sync", "counted", env=site.env)
    assert done.returncode == 2
    assert "connectors.d/counted.yaml:3" in done.stderr
    assert "'upto'" in done.stderr
    schema = project.atlas("config", "schema", env=site.env).json()
    assert "acme_numbers" in schema["properties"]["protocol"]["enum"]
    project.write("atlas.yaml", "destinations: {warehouse: {protocol: acme_numbers, upto: 3}}\n")
    project.write("connectors.d/counted.yaml", DEFINITION.format(protocol="acme_numbers", upto=7))
    done = project.atlas("connector", "sync", "counted", "--json", env=site.env)
    assert (done.returncode, done.json()["runs"][0]["error"]["code"]) == (2, "not_writable")


def test_a_misspelt_protocol_gets_the_nearest_names_of_other_packages_too(
    project: Project, site: Site
) -> None:
    site.install("atlas-numbers", "acme_numbers = atlas_numbers", GOOD)
    for given, nearest in (("acme_number", "acme_numbers"), ("postgresq", "postgresql"), ("ndjsn", "ndjson")):
        done = project.atlas("connector", "add", "x", "--protocol", given, "--no-test", env=site.env)
        assert done.returncode == 2
        assert f"did you mean '{nearest}'" in done.stderr
    done = project.atlas("connector", "add", "x", "--protocol", "zzz", "--no-test", env=site.env)
    assert "atlas connector types" in done.stderr


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('the moon is full')", "RuntimeError: the moon is full"),
        ("def (:", "SyntaxError"),
        ('"""Nothing."""', "ADAPTER"),
        ("ADAPTER = None", "connector"),
        ("from atlas_etl.no_such_room import thing", "atlas_etl.no_such_room"),
        (None, "No module named 'atlas_broken'"),
    ],
    ids=["raises", "syntax", "no-adapter", "wrong-adapter", "other-version", "lost"],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(
    project: Project, site: Site, source: str | None, why: str
) -> None:
    site.install("atlas-numbers", "acme_numbers = atlas_numbers", GOOD)
    site.install("atlas-broken", "acme_broken = atlas_broken", source)
    listed = types(project, site)
    assert listed["acme_broken"]["installed"] is False
    assert "atlas-broken" in str(listed["acme_broken"]["summary"])
    assert (listed["acme_numbers"]["installed"], listed["sqlite"]["installed"]) == (True, True)
    table = project.atlas("connector", "types", env=site.env)
    assert "pip uninstall atlas-broken" in " ".join(table.stdout.split())

    project.write("connectors.d/broken.yaml", DEFINITION.format(protocol="acme_broken", upto=1))
    project.write("connectors.d/counted.yaml", DEFINITION.format(protocol="acme_numbers", upto=4))
    done = project.atlas("connector", "sync", "broken", "--json", env=site.env)
    assert done.returncode == 2
    error = done.json()["error"]
    assert (error["code"], error["connector"]) == ("broken_plugin", "broken")
    assert "atlas-broken" in error["message"]
    assert why in error["message"]
    assert "pip uninstall atlas-broken" in error["hint"]
    assert "Traceback" not in done.stderr
    assert project.atlas("connector", "sync", "counted", env=site.env).returncode == 0
    schema = project.atlas("config", "schema", env=site.env).json()
    assert "acme_numbers" in schema["properties"]["protocol"]["enum"]


@pytest.mark.parametrize(
    ("value", "line"),
    [("atlas_numbers", "pip install acme_driver"), ("atlas_numbers [fast]", "atlas-numbers[fast]")],
)
def test_a_package_without_its_driver_says_what_to_install(
    project: Project, site: Site, value: str, line: str
) -> None:
    site.install("atlas-numbers", f"acme_numbers = {value}", "import acme_driver.fast\n" + GOOD)
    listed = types(project, site)
    assert listed["acme_numbers"]["installed"] is False
    project.write("connectors.d/counted.yaml", DEFINITION.format(protocol="acme_numbers", upto=1))
    done = project.atlas("connector", "sync", "counted", "--json", env=site.env)
    error = done.json()["error"]
    assert (done.returncode, error["code"]) == (2, "missing_driver")
    assert "'acme_driver'" in error["message"]
    assert line in error["hint"]


def test_no_package_takes_a_built_in_name_or_is_loaded_without_need(project: Project, site: Site) -> None:
    marked = f"{GOOD}\nopen({str(site.folder / 'loaded')!r}, 'w').close()\n"
    names = ("sqlite", "Postgres", "other")
    site.install("atlas-greedy", "\n".join(f"{name} = atlas_greedy" for name in names), marked)
    project.write("a.csv", "n\n1\n")
    project.write("connectors.d/files.yaml", "protocol: csv\nconnection: {path: a.csv}\nstreams: [a]\n")
    assert project.atlas("connector", "sync", "files", env=site.env).returncode == 0
    project.write("connectors.d/lite.yaml", "protocol: sqlite\nconnection: {upto: 3}\nstreams: [a]\n")
    done = project.atlas("connector", "sync", "lite", env=site.env)
    assert (done.returncode, "upto" in done.stderr) == (2, True)
    assert not (site.folder / "loaded").exists()
    listed = types(project, site)
    assert "Whole numbers" not in f"{listed['sqlite']}{listed['postgresql']}"
    assert "Whole numbers" in str(listed["other"]["summary"])
    assert "postgres" not in listed
    assert (site.folder / "loaded").exists()


def test_two_packages_of_one_name_are_refused(project: Project, site: Site) -> None:
    site.install("atlas-one", "acme_numbers = atlas_one", GOOD)
    site.install("atlas-two", "acme_numbers = atlas_two", GOOD)
    project.write("connectors.d/counted.yaml", DEFINITION.format(protocol="acme_numbers", upto=1))
    done = project.atlas("connector", "sync", "counted", "--json", env=site.env)
    error = done.json()["error"]
    assert (done.returncode, error["code"]) == (2, "ambiguous_protocol")
    assert "atlas-one and atlas-two" in error["message"]
    assert types(project, site)["acme_numbers"]["installed"] is False
