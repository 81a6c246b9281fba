"""Every example is loaded, complete and run; the repository's own connectors run as they stand."""

from __future__ import annotations

import gzip
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pymysql
import pytest
from pydantic import BaseModel
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_oracle import StubOracle

from atlas_etl.api.atlas import Atlas
from atlas_etl.config.annotations import fields_of, model_in
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.settings import ProjectSettings
from atlas_etl.config.stream import StreamDefinition
from atlas_etl.connectors import registry
from atlas_etl.model import Run, RunStatus
from atlas_etl.pipeline.events import RunFinished

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.stem: path for path in (ROOT / "examples").glob("*.yaml") if path.stem != "atlas"}
PROJECT_EXAMPLE = (ROOT / "examples" / "atlas.yaml").read_text()
BUILT_IN = [info for info in registry.protocols() if info.module.startswith("atlas_etl.") and not info.preset]


def sources(target: Path) -> Path:
    """The examples and the connectors of this working tree, as a clone would have them."""
    wanted = ("connectors.d", "examples")
    if (ROOT / ".git").exists() and shutil.which("git"):
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *wanted]
        done = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
        names = [name for name in done.stdout.split("\0") if name]
    else:
        names = [str(path.relative_to(ROOT)) for part in wanted for path in (ROOT / part).rglob("*.*")]
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project made of all examples: each is a connector of its protocol's name."""
    found = sources(tmp_path / "project")
    shutil.rmtree(found / "connectors.d")
    (found / "connectors.d").mkdir()
    for name, path in EXAMPLES.items():
        shutil.copy2(path, found / "connectors.d" / f"{name}.yaml")
    shutil.copy2(found / "examples" / "atlas.yaml", found / "atlas.yaml")
    (found / "data").mkdir()
    return found


FAMILIES = {"graphql": "http", "soap": "http"}  # whose example shows what is inside the keys that they share


def environment(text: str) -> dict[str, str]:
    """A value for every variable that a file refers to."""
    return dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", text), "s3cret/%")


def shows(text: str, key: str) -> bool:
    return re.search(rf"^\s*(?:- |# )?{key}:(?: |$)", text, re.MULTILINE) is not None


def keys_of(model: type[BaseModel]) -> list[str]:
    """The model's keys and those of the models in it."""
    inner = (model_in(kind) for kind in fields_of(model).values())
    return [*fields_of(model), *(key for found in inner if found is not None for key in keys_of(found))]


def test_every_protocol_has_its_example() -> None:
    assert sorted(EXAMPLES) == [info.protocol for info in BUILT_IN if info.reads]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_a_definition_that_its_protocol_takes(folder: Path, name: str) -> None:
    text = EXAMPLES[name].read_text()
    atlas = Atlas.open(folder, environment(text))
    prepared = atlas.connector(name)
    assert prepared.protocol == name
    assert prepared.definition.description
    assert prepared.definition.schedule
    assert prepared.chosen(())
    atlas.check(name, reach=False)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_shows_every_key_of_its_connection(name: str) -> None:
    text = EXAMPLES[name].read_text()
    model = registry.load(name).connection
    assert [key for key in fields_of(model) if not shows(text, key)] == []
    inside = text + EXAMPLES[FAMILIES.get(name, name)].read_text()
    assert [key for key in keys_of(model) if not shows(inside, key)] == []


def test_one_example_shows_every_key_of_a_definition_and_of_its_streams() -> None:
    text = EXAMPLES["postgresql"].read_text()
    elsewhere = {"name", "path"}  # the file's name, and what only files have
    known = {*keys_of(ConnectorDefinition), *keys_of(StreamDefinition)} - elsewhere
    assert [key for key in sorted(known) if not shows(text, key)] == []
    assert [key for key in fields_of(ProjectSettings) if not shows(PROJECT_EXAMPLE, key)] == []


@pytest.mark.parametrize("name", [*sorted(EXAMPLES), "atlas"])
def test_an_example_explains_itself(name: str) -> None:
    lines = (ROOT / "examples" / f"{name}.yaml").read_text().splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert sum("# " in line for line in lines) >= 8


def test_every_protocol_that_is_written_is_a_destination_of_the_project(folder: Path) -> None:
    atlas = Atlas.open(folder, environment(PROJECT_EXAMPLE))
    names = list(atlas.project.settings.destinations)
    prepared = [atlas.destination(name) for name in names]
    assert {found.protocol for found in prepared} == {info.protocol for info in BUILT_IN if info.writes}
    assert atlas.destination().name == "warehouse"
    assert len(prepared) == 10


def test_the_projects_other_state_is_one_that_works(folder: Path, postgres: ServerAddress) -> None:
    lines = [line.removeprefix("#   ") for line in PROJECT_EXAMPLE.splitlines() if line.startswith("#   ")]
    assert lines[:2] == ["state:", "  protocol: postgresql"]
    shared, _, after = PROJECT_EXAMPLE.partition("\nstate:\n")
    defaults = after[after.index("defaults:") :]
    (folder / "atlas.yaml").write_text("\n".join([shared, *lines, defaults]))
    given = settings(postgres, SSLMODE="disable")
    environ = {f"ATLAS_STATE__{name}": value for name, value in given.items()}
    environ["STATE_PASSWORD"] = "overridden"
    assert synced(folder, "csv", environ).status is RunStatus.COMPLETED
    assert not (folder / ".atlas").exists()


# Running them


def settings(address: ServerAddress, **more: str) -> dict[str, str]:
    """A server's address as variables set it."""
    return {
        "HOST": address.host, "PORT": str(address.port), "DATABASE": address.database,
        "USERNAME": address.username, "PASSWORD": address.password, **more,
    }  # fmt: skip


def synced(folder: Path, name: str, environ: dict[str, str] | None = None) -> Run:
    """One sync of an example, and its run."""
    found = environment(EXAMPLES[name].read_text()) | (environ or {})
    *_, last = Atlas.open(folder, found).sync([name])
    assert isinstance(last, RunFinished)
    assert last.run.error is None, last.run
    return last.run


def loaded(run: Run) -> dict[str, tuple[int, int]]:
    return {stream.name: (stream.rows_read, stream.rows_loaded) for stream in run.streams}


def test_csv_runs(folder: Path) -> None:
    assert loaded(synced(folder, "csv")) == {"airports": (97, 97), "cities": (93, 93)}
    again = loaded(synced(folder, "csv"))
    assert again["airports"][1] == 0
    answer = Atlas.open(folder, {}).query("SELECT city_id, code FROM csv.airports WHERE code = 'ALB'")
    assert answer.to_pylist() == [{"city_id": 5106834, "code": "ALB"}]


def test_jsonl_runs(folder: Path) -> None:
    def day(number: int, *lines: str) -> None:
        with gzip.open(folder / "data" / f"clicks-{number}.jsonl.gz", "wt") as file:
            file.write("".join(f"{line}\n" for line in lines))

    day(1, '{"clicked_at": "2026-01-01T09:00:00Z", "price": 0.10}', '{"clicked_at": "2026-01-01T10:00:00Z"}')
    assert loaded(synced(folder, "jsonl")) == {"clicks": (2, 2)}
    day(2, '{"clicked_at": "2026-01-01T11:30:00+01:00", "price": "12345678.90"}')
    assert loaded(synced(folder, "jsonl")) == {"clicks": (3, 1)}
    rows = Atlas.open(folder, {}).query("SELECT price FROM jsonl.clicks ORDER BY clicked_at").to_pylist()
    assert [str(row["price"]) for row in rows] == ["0.10", "None", "12345678.90"]


def test_parquet_runs(folder: Path) -> None:
    (folder / "data" / "trips" / "2026").mkdir(parents=True)
    ended = pa.array([1_782_900_000_000_000, 1_782_900_060_000_000], pa.timestamp("us"))
    trips = pa.table({"trip_id": [1, 2], "ended_at": ended})
    pq.write_table(trips, folder / "data" / "trips" / "2026" / "july.parquet")
    assert loaded(synced(folder, "parquet")) == {"trips": (2, 2)}
    assert loaded(synced(folder, "parquet")) == {"trips": (1, 0)}
    answer = Atlas.open(folder, {}).query("SELECT DISTINCT typeof(ended_at) AS t FROM parquet.trips")
    assert answer.to_pylist() == [{"t": "TIMESTAMP WITH TIME ZONE"}]


def test_sqlite_runs(folder: Path) -> None:
    connection = sqlite3.connect(folder / "data" / "stall.db")
    with connection:
        connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, price DECIMAL(9,2), updated_at TIMESTAMP)"
        )
        connection.execute("INSERT INTO orders VALUES (1, 2.5, '2026-01-01 09:00'), (2, 'n/a', '2026-01-02')")
        connection.execute("CREATE TABLE log (message TEXT)")
        connection.execute("INSERT INTO log VALUES ('a'), ('b')")
    connection.close()
    assert loaded(synced(folder, "sqlite")) == {"orders": (2, 2), "log": (2, 2)}
    assert loaded(synced(folder, "sqlite")) == {"orders": (1, 0), "log": (1, 0)}
    rows = Atlas.open(folder, {}).query("SELECT price FROM sqlite.orders ORDER BY id").to_pylist()
    assert [row["price"] for row in rows] == [Decimal("2.50"), None]


def test_duckdb_runs(folder: Path) -> None:
    with duckdb.connect(str(folder / "data" / "laboratory.duckdb")) as laboratory:
        laboratory.execute("CREATE TABLE measurements (measured_at TIMESTAMP, value DOUBLE)")
        laboratory.execute("INSERT INTO measurements VALUES ('2026-01-01 09:00', 1), (NULL, 2)")
    assert loaded(synced(folder, "duckdb")) == {"measurements": (2, 2), "daily": (2, 2)}
    assert loaded(synced(folder, "duckdb")) == {"measurements": (2, 0), "daily": (2, 2)}


def test_postgresql_runs(folder: Path, postgres: ServerAddress) -> None:
    with psycopg.connect(postgres.url("postgresql")) as connection:
        connection.execute("CREATE SCHEMA crm")
        for statement in (
            "CREATE TABLE public.orders (id int PRIMARY KEY, amount numeric(9,2), updated_at timestamptz)",
            "INSERT INTO public.orders VALUES (1, 10, '2026-01-01'), (2, -3, '2026-01-02')",
            "CREATE TABLE public.events (happened_at timestamptz, what text, payload json)",
            "INSERT INTO public.events VALUES ('2026-01-01 10:00Z', 'a', '{}')",
            'CREATE TABLE crm."Customers" (id int, name text, joined timestamp, left_on date, secret text, '
            "email text, phone text, tax_id text, iban text)",
            "INSERT INTO crm.\"Customers\" VALUES (1, 'Ada', '2026-07-01 12:00', 'infinity', 'x', "
            "'ada@example.com', '+49301234567', '1', 'DE1')",
            "INSERT INTO crm.\"Customers\" (name) VALUES ('nobody')",
        ):
            connection.execute(statement.encode())
    variables = {f"SHOP_{name}": value for name, value in settings(postgres, SSLMODE="disable").items()}
    run = synced(folder, "postgresql", variables)
    assert loaded(run) == {"orders": (2, 2), "events": (1, 1), "customers": (1, 1), "refunds": (1, 1)}
    assert loaded(synced(folder, "postgresql", variables))["events"] == (1, 0)
    atlas = Atlas.open(folder, {})
    assert atlas.query("SELECT * FROM postgresql.events").column_names == ["happened_at", "what"]
    (customer,) = atlas.query(
        "SELECT left_on, joined::VARCHAR AS joined, length(email) AS hash, phone FROM crm.customers"
    ).to_pylist()
    assert customer == {
        "left_on": None, "joined": "2026-07-01 10:00:00+00", "hash": 32, "phone": "***4567",
    }  # fmt: skip


def test_mysql_runs(folder: Path, mysql: ServerAddress) -> None:
    connection = pymysql.connect(
        host=mysql.host, port=mysql.port, user=mysql.username, password=mysql.password,
        database=mysql.database, autocommit=True,
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TABLE items (id INT PRIMARY KEY, shelf INT, updated_at DATETIME)")
        cursor.execute(
            "INSERT INTO items VALUES (1, 7, '2026-07-01 12:00:00'), (2, 7, '2026-07-01 13:00:00')"
        )
        cursor.execute("CREATE TABLE movements (id INT AUTO_INCREMENT PRIMARY KEY, moved DATE, took TIME)")
        cursor.execute("INSERT INTO movements VALUES (1, '0000-00-00', '100:00:00')")
    text = re.sub(r"^  ssl_.*\n", "", EXAMPLES["mysql"].read_text(), flags=re.MULTILINE)
    (folder / "connectors.d" / "mysql.yaml").write_text(text)
    variables = {f"ATLAS_CONNECTOR_MYSQL__{name}": value for name, value in settings(mysql).items()}
    run = synced(folder, "mysql", variables)
    assert loaded(run) == {"items": (2, 2), "movements": (1, 1), "shelves": (1, 1)}
    assert loaded(synced(folder, "mysql", variables))["movements"] == (1, 0)
    rows = Atlas.open(folder, {}).query("SELECT moved, took FROM mysql.movements").to_pylist()
    assert rows == [{"moved": None, "took": "100:00:00"}]


Variables = Callable[[pytest.FixtureRequest], dict[str, str]]


def server(fixture: str, destination: str, **more: str) -> Variables:
    def variables(request: pytest.FixtureRequest) -> dict[str, str]:
        address: ServerAddress = request.getfixturevalue(fixture)
        found = settings(address, **more)
        return {f"ATLAS_DESTINATIONS__{destination}__{name}": value for name, value in found.items()}

    return variables


def on_stub_mssql(request: pytest.FixtureRequest) -> dict[str, str]:
    """The stand-in, which has no encryption."""
    stub: StubServer = request.getfixturevalue("stub_mssql_server")
    found = {**stub.connection(stub.fresh_database()), "encrypt": "optional"}
    return {f"ATLAS_DESTINATIONS__OFFICE__{name.upper()}": str(value) for name, value in found.items()}


def on_stub_oracle(request: pytest.FixtureRequest) -> dict[str, str]:
    stub: StubOracle = request.getfixturevalue("stub_oracle")
    found = stub.fresh_database()
    return {f"ATLAS_DESTINATIONS__BACKOFFICE__{name.upper()}": str(value) for name, value in found.items()}


@pytest.mark.parametrize(
    ("destination", "table", "variables"),
    [
        ("warehouse", "csv.airports", None),
        ("archive", "csv.airports", None),
        ("pocket", "csv__airports", None),
        ("lake", "csv.airports", None),
        ("lines", "csv.airports", None),
        ("sheets", "csv.airports", None),
        ("analytics", "csv.airports", server("postgres", "ANALYTICS", SSLMODE="disable")),
        ("mart", "csv.airports", server("mysql", "MART", SSL_MODE="disabled")),
        ("office", "csv.airports", on_stub_mssql),
        ("backoffice", "csv__airports", on_stub_oracle),
    ],
)
def test_every_destination_takes_rows(
    request: pytest.FixtureRequest, folder: Path, destination: str, table: str, variables: Variables | None
) -> None:
    environ = {"ATLAS_DESTINATION": destination, **(variables(request) if variables else {})}
    for expected in (97, 0):
        assert loaded(synced(folder, "csv", environ))["airports"][1] == expected
    atlas = Atlas.open(folder, environ)
    (counted,) = atlas.query(f"SELECT count(*) AS n FROM {table}").to_pylist()
    assert int(counted["n"]) == 97
    committed = {found.stream: found.checkpoint.high.text for found in atlas.checkpoints("csv").committed()}
    assert committed == {"airports": "2013-01-05T15:55:00.000000"}


def test_the_repositorys_own_connectors_run_as_they_stand(project: Project) -> None:
    project = replace(project, folder=sources(project.folder))
    assert project.atlas("config", "check").returncode == 0
    first = project.atlas("connector", "sync", "--all", "--json")
    assert first.returncode == 0, first.stderr
    rows = {run["connector"]: run["rows_processed"] for run in first.json()["runs"]}
    assert rows == {"airports": 97, "cities": 93}
    second = project.atlas("connector", "sync", "--all", "--json").json()
    assert [run["rows_processed"] for run in second["runs"]] == [0, 0]
    assert all(stream["disposition"] == "merge" for run in second["runs"] for stream in run["streams"])
    for name in ("airports", "cities"):
        text = (project.folder / "connectors.d" / f"{name}.yaml").read_text().replace("\n# ", "\n")
        (query,) = re.findall(r'`atlas query "(.+?)"`', text, re.DOTALL)
        answer = project.atlas("query", query, "--json").json()
        assert answer["rows"], query
    joined = dict(answer["rows"])
    assert joined["BHM"] == "バーミングハム"
    made = {path.name for path in project.folder.iterdir()}
    assert made == {"connectors.d", "examples", "warehouse.duckdb", ".atlas"}
