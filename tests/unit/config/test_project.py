"""The project: its folder, atlas.yaml, what the environment changes, and the targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from atlas_etl.config.fields import Retention
from atlas_etl.config.keys import dotted
from atlas_etl.config.layers import Layered
from atlas_etl.config.project import Project, Target, load_project
from atlas_etl.config.project_folder import find_project_folder
from atlas_etl.config.references import expand
from atlas_etl.errors import ConfigError

Refused = Callable[..., ConfigError]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Project]:
    def call(text: str, **environ: str) -> Project:
        (tmp_path / "atlas.yaml").write_text(text)
        return load_project(tmp_path, environ)

    return call


Load = Callable[..., Project]


def _origins(layered: Layered) -> dict[str, str]:
    return {dotted(path): str(origin) for path, origin in layered.origins.items()}


def _values(project: Project, target: Target) -> Mapping[str, object]:
    return expand(target.connection, project.context).values


@pytest.mark.parametrize("text", ["", "destinations:\nstate:\n", "destinations: {}\n"])
def test_nothing_need_be_written(text: str, load: Load, tmp_path: Path) -> None:
    for project in (load(text), load_project(tmp_path / "elsewhere", {})):
        warehouse, state = project.destination(), project.state()
        assert (warehouse.name, warehouse.protocol) == ("warehouse", "duckdb")
        assert warehouse.connection.values == {"path": "warehouse.duckdb"}
        assert _origins(warehouse.connection) == {"path": "default"}
        assert state.protocol == "sqlite"
        assert state.connection.values == {"database_path": ".atlas/state.db"}
        assert project.settings.timezone == "UTC"
        assert project.settings.history_retention == Retention(age=timedelta(days=90))


@pytest.mark.parametrize(
    ("text", "wanted", "name"),
    [
        ("destinations: {lake: {protocol: parquet}}", None, "lake"),
        ("destinations: {lake: {protocol: parquet}, warehouse: {protocol: duckdb}}", None, "warehouse"),
        ("destinations: {a: {protocol: parquet}, b: {protocol: duckdb}}\ndestination: b", None, "b"),
        ("destinations: {a: {protocol: parquet}, b: {protocol: duckdb}}\ndestination: b", "a", "a"),
        ("", "warehouse", "warehouse"),
    ],
)
def test_the_default_destination(text: str, wanted: str | None, name: str, load: Load) -> None:
    assert load(text).destination(wanted).name == name


def test_no_such_destination(load: Load, refused: Refused) -> None:
    project = load("destinations: {lake: {protocol: parquet}, sea: {protocol: duckdb}}")
    error = refused("unknown_destination", project.destination, "lke")
    assert (error.message, error.hint) == ("there is no destination 'lke'", "did you mean 'lake'?")
    error = refused("unknown_destination", project.destination, "warehouse")
    assert error.hint == "there are lake, sea"
    error = refused("no_default_destination", project.destination)
    assert error.message == "atlas.yaml declares 2 destinations and no default"


def test_a_uri_is_its_keys(load: Load) -> None:
    project = load(
        "destinations:\n  pg: ${env:URL}\nstate: postgresql://h/state\n",
        URL="postgresql://etl:p%40ss${env:X}@db:5433/shop?sslmode=require",
    )
    target = project.destination("pg")
    assert target.protocol == "postgresql"
    # What the variable holds is not read for references again.
    assert _values(project, target) == {
        "host": "db",
        "port": 5433,
        "database": "shop",
        "username": "etl",
        "password": "p@ss${env:X}",
        "options": {"sslmode": "require"},
    }
    assert _origins(target.connection)["options.sslmode"] == "file atlas.yaml:2"
    assert project.state().connection.values == {"host": "h", "database": "state"}


def test_a_missing_variable_hurts_only_where_it_is_used(load: Load, refused: Refused) -> None:
    project = load("destinations: {pg: '${env:URL}', lake: {protocol: parquet, path: lake}}")
    assert project.destination("lake").protocol == "parquet"
    error = refused("missing_variable", project.destination, "pg")
    assert error.message == "atlas.yaml:1: destinations.pg: environment variable URL is not set"


def test_state_as_a_path(load: Load) -> None:
    state = load("state: var/state.db").state()
    assert (state.protocol, state.connection.values) == ("sqlite", {"database_path": "var/state.db"})


def test_the_environment_overrides(load: Load) -> None:
    project = load(
        "destinations:\n  my-lake: {protocol: parquet, path: lake}\n  b: duckdb:///b.duckdb\ntimezone: UTC\n",
        ATLAS_DESTINATION="my-lake",
        ATLAS_DESTINATIONS__MY_LAKE__PATH="/data/lake",
        ATLAS_STATE="postgresql://h/s",
        ATLAS_TIMEZONE="Asia/Tokyo",
        ATLAS_HISTORY_RETENTION="500",
        ATLAS_PROJECT="elsewhere",
        ATLAS_CONNECTOR_SHOP__HOST="x",
        ATLAS_SECRET_KEY="x",
    )
    assert project.destination().name == "my-lake"
    assert project.destination().connection.values == {"path": "/data/lake"}
    assert _origins(project.destination().connection) == {
        "path": "environment ATLAS_DESTINATIONS__MY_LAKE__PATH"
    }
    assert project.destination("b").connection.values == {"path": "b.duckdb"}
    assert project.state().protocol == "postgresql"
    assert project.settings.timezone == "Asia/Tokyo"
    assert project.settings.history_retention == Retention(runs=500)


def test_the_environment_gives_the_built_in_targets_another_protocol(load: Load) -> None:
    project = load("", ATLAS_STATE__PROTOCOL="postgresql", ATLAS_STATE__HOST="db", ATLAS_STATE__DATABASE="d")
    state = project.state()
    assert (state.protocol, state.connection.values) == ("postgresql", {"host": "db", "database": "d"})
    assert project.destination().connection.values == {"path": "warehouse.duckdb"}
    moved = load("", ATLAS_DESTINATIONS__WAREHOUSE__PROTOCOL="sqlite", ATLAS_STATE__PROTOCOL="sqlite")
    assert moved.destination().connection.values == {}
    assert moved.state().connection.values == {"database_path": ".atlas/state.db"}


def test_the_environment_moves_the_embedded_warehouse(load: Load) -> None:
    project = load("", ATLAS_DESTINATIONS__WAREHOUSE__PATH="/data/x.duckdb")
    assert project.destination().protocol == "duckdb"
    assert project.destination().connection.values == {"path": "/data/x.duckdb"}


def test_defaults_of_a_protocol_come_first(load: Load) -> None:
    project = load(
        "defaults:\n  postgresql:\n    port: 5433\n    options: {a: 1, b: 2}\n"
        "destinations:\n  pg: {protocol: postgresql, options: {b: 3}}\n"
    )
    target = project.destination()
    assert target.connection.values == {"port": 5433, "options": {"a": 1, "b": 3}}
    assert _origins(target.connection) == {
        "port": "default atlas.yaml:3",
        "options.a": "default atlas.yaml:4",
        "options.b": "file atlas.yaml:6",
    }
    assert project.defaults("mysql").values == {}


def test_history_for_ever(load: Load) -> None:
    assert load("history_retention: null").settings.history_retention is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retenton: 5", "atlas.yaml:1: retenton: unknown key"),
        ("timezone: Mars", "atlas.yaml:1: timezone: is not a known time zone; "),
        (
            "history_retention: often",
            "atlas.yaml:1: history_retention: should be a time such as 90d, or a number",
        ),
        ("history_retention: 0", "atlas.yaml:1: history_retention: should keep at least one run"),
        ("destinations: [hunter2]", "atlas.yaml:1: destinations: should be a mapping"),
        ("destinations:\n  a b: {protocol: x}", "atlas.yaml:2: destinations['a b']: a name is made of "),
        (
            "destinations:\n  a: {path: hunter2}",
            "atlas.yaml:2: destinations.a: should be a URI, or a mapping with `protocol` and",
        ),
        (
            "destinations:\n  a:\n    protocol: x\n    connection: {password: hunter2}",
            "atlas.yaml:2: destinations.a: the connection's keys stand beside `protocol` here, not under",
        ),
        ("defaults:\n  postgresql: hunter2", "atlas.yaml:2: defaults.postgresql: should be a mapping"),
    ],
)
def test_mistakes(text: str, message: str, load: Load, refused: Refused) -> None:
    error = refused("invalid_config", load, text)
    assert error.message.startswith(message)
    assert "hunter2" not in error.message


def test_mistakes_in_the_environment_name_the_variable(load: Load, refused: Refused) -> None:
    error = refused("invalid_config", load, "timezone: UTC", ATLAS_TIMEZONE="hunter2")
    assert error.message.startswith("ATLAS_TIMEZONE: timezone: is not a known time zone; ")


def test_a_wrong_uri_is_not_shown(load: Load, refused: Refused) -> None:
    for uri in (
        "postgresql://u:hunter2@h:port/d",
        "sqlite://hunter2/x",
        "pg://h/d?a=hunter2&a=hunter2",
        "pg://[h",
    ):
        error = refused("invalid_uri", load(f"state: '{uri}'").state)
        assert error.message.startswith("atlas.yaml:1: state: a connection URI is wrong: ")
        assert "hunter2" not in f"{error.message}{error.hint}"


def test_a_misnamed_file_is_told(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "atlas.yml").write_text("timezone: UTC")
    assert refused("misnamed_project_file", load_project, tmp_path, {}).hint == "rename it to atlas.yaml"


def test_the_folder_is_named_found_upwards_or_here(tmp_path: Path, refused: Refused) -> None:
    root = tmp_path / "root"
    deep = root / "a/b"
    deep.mkdir(parents=True)
    other = tmp_path / "other"
    other.mkdir()

    def found(explicit: Path | None = None, **environ: str) -> Path:
        return find_project_folder(explicit, environ, deep)

    assert found() == deep
    (root / "connectors.d").mkdir()
    assert found() == root
    (root / "a/atlas.yaml").write_text("")
    assert found() == root / "a"
    assert found(ATLAS_PROJECT="") == root / "a"
    assert found(ATLAS_PROJECT=str(other)) == other
    assert found(Path("../.."), ATLAS_PROJECT=str(other)) == root
    error = refused("project_not_found", find_project_folder, Path("no"), {}, tmp_path)
    assert error.message == f"there is no folder {tmp_path}/no"
    error = refused("project_not_found", find_project_folder, None, {"ATLAS_PROJECT": "no"}, tmp_path)
    assert error.message == f"there is no folder {tmp_path}/no (from ATLAS_PROJECT)"
