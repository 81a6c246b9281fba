"""connectors.d/: finding, loading, writing, changing and removing definitions."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atlas_etl.config.definitions import (
    add_definition,
    load_definition,
    read_definition,
    remove_definition,
    update_definition,
)
from atlas_etl.config.folder import definition_names, definition_path
from atlas_etl.config.yaml_source import Value
from atlas_etl.errors import ConfigError

Define = Callable[..., Path]
Refused = Callable[..., ConfigError]


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_names(tmp_path: Path, folder: Path, define: Define) -> None:
    for name in ("b.yaml", "a.yml", "c.json", ".d.yaml", "e.yaml.bak", "README.md", "f.yaml~"):
        define("protocol: x", name)
    (folder / "connectors.d/g.yaml").mkdir()
    assert definition_names(folder) == ["a", "b", "c"]
    assert definition_path(folder, "c") == folder / "connectors.d/c.json"
    assert definition_names(tmp_path / "elsewhere") == []


def test_unknown_and_ambiguous(tmp_path: Path, folder: Path, define: Define, refused: Refused) -> None:
    error = refused("unknown_connector", definition_path, tmp_path / "elsewhere", "shop")
    assert error.hint == "there are no connectors yet; `atlas connector add` makes one"
    define("protocol: x")
    assert refused("unknown_connector", definition_path, folder, "shp").hint == "did you mean 'shop'?"
    assert refused("unknown_connector", definition_path, folder, "../shop").message == (
        "there is no connector '../shop'"
    )
    define("{}", "shop.json")
    error = refused("ambiguous_definition", load_definition, folder, "shop", {})
    assert error.message == "connectors.d/shop.json and connectors.d/shop.yaml both define connector 'shop'"


def test_two_names_that_differ_only_in_case(folder: Path, define: Define, refused: Refused) -> None:
    define("protocol: x", "shop.yaml")
    define("protocol: x", "Shop.json")
    for name in ("shop", "Shop"):
        error = refused("ambiguous_definition", definition_path, folder, name)
        assert (
            error.message
            == f"connectors.d/Shop.json and connectors.d/shop.yaml both define connector {name!r}"
        )


def test_an_unreadable_folder(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "connectors.d").write_text("")
    error = refused("folder_unreadable", definition_names, tmp_path)
    assert error.message == "connectors.d cannot be read: Not a directory"
    error = refused("folder_unreadable", add_definition, tmp_path, "a", {"protocol": "x"}, {})


def test_a_link_that_leads_to_itself_is_wrong_alone(folder: Path, define: Define) -> None:
    define("protocol: sqlite", "shop.yaml")
    (folder / "connectors.d/loop.yaml").symlink_to("loop.yaml")
    assert definition_names(folder) == ["loop", "shop"]
    with pytest.raises(ConfigError, match=r"loop\.yaml cannot be read"):
        load_definition(folder, "loop", {})


def test_json_is_read_as_well(folder: Path, define: Define) -> None:
    define('{\n\t"protocol": "postgresql",\n\t"streams": [{"table": "a.b"}]\n}', "shop.json")
    loaded = load_definition(folder, "shop", {})
    assert [stream.name for stream in loaded.definition.streams] == ["b"]
    assert str(loaded.written.origin(("protocol",))) == "file connectors.d/shop.json:2"


def test_listing_needs_no_secret(folder: Path, define: Define) -> None:
    define("protocol: x\nconnection: {password: '${env:NOT_SET}'}\nschedule: '${env:CRON:-@daily}'")
    assert load_definition(folder, "shop", {}).definition.schedule == "@daily"


def test_add_writes_what_load_reads(folder: Path) -> None:
    values: dict[str, Value] = {
        "protocol": "postgresql",
        "connection": {"host": "db", "password": "${env:PW}", "options": {"sslmode": "no"}},
        "streams": [{"table": "public.orders", "primary_key": ["id"]}],
        "schedule": "*/5 * * * *",
    }
    path = add_definition(folder, "dev-shop", values, {})
    assert path == folder / "connectors.d/dev-shop.yaml"
    assert load_definition(folder, "dev-shop", {}).written.values == values
    assert _mode(path) == 0o644
    assert os.listdir(path.parent) == ["dev-shop.yaml"]


def test_add_makes_the_folder(tmp_path: Path) -> None:
    assert add_definition(tmp_path, "a", {"protocol": "x"}, {}).read_text() == "protocol: x\n"


def test_a_file_with_a_password_is_private(folder: Path) -> None:
    values: dict[str, Value] = {"protocol": "x", "connection": {"password": "hunter2"}}
    path = add_definition(folder, "shop", values, {})
    assert _mode(path) == 0o600
    path.chmod(0o644)
    update_definition(folder, "shop", {("enabled",): False}, {})
    assert _mode(path) == 0o600
    update_definition(folder, "shop", {("connection", "password"): "${env:PW}"}, {})
    assert _mode(path) == 0o600


def test_add_refuses_and_leaves_no_trace(folder: Path, define: Define, refused: Refused) -> None:
    define("protocol: x", "dev-shop.yml")
    error = refused("connector_exists", add_definition, folder, "dev-shop", {"protocol": "y"}, {})
    assert error.hint == "`atlas connector update dev-shop` changes it"
    error = refused("connector_exists", add_definition, folder, "Dev_Shop", {"protocol": "y"}, {})
    assert error.message == "connector 'Dev_Shop' is too close to connector 'dev-shop'"
    error = refused("invalid_name", add_definition, folder, "../evil", {"protocol": "y"}, {})
    assert error.message.startswith("'../evil' cannot be a connector's name: a name is made of")
    error = refused("invalid_config", add_definition, folder, "new", {"protocol": "y", "batch_bytes": 0}, {})
    assert error.message == "connectors.d/new.yaml: batch_bytes: should be greater than or equal to 65536"
    assert error.connector == "new"
    assert os.listdir(folder / "connectors.d") == ["dev-shop.yml"]


def test_update_keeps_comments_and_mode(folder: Path, define: Define) -> None:
    path = define("# the shop\nprotocol: x  # a protocol\nschedule: '@daily'\n")
    path.chmod(0o640)
    update_definition(
        folder, "shop", {("enabled",): False, ("schedule",): "0 1 * * *", ("batch_bytes",): 70000}, {}
    )
    assert path.read_text() == (
        "# the shop\nprotocol: x  # a protocol\nschedule: 0 1 * * *\nenabled: false\nbatch_bytes: 70000\n"
    )
    assert _mode(path) == 0o640


def test_update_that_is_wrong_changes_nothing(folder: Path, define: Define, refused: Refused) -> None:
    path = define("protocol: x\nschedule: '@daily'\n")
    before = path.read_bytes(), path.stat().st_mtime_ns
    error = refused("invalid_config", update_definition, folder, "shop", {("schedul",): "x"}, {})
    assert error.message == "connectors.d/shop.yaml: schedul: unknown key"
    error = refused("invalid_config", update_definition, folder, "shop", {("schedule",): ""}, {})
    assert error.message.startswith("connectors.d/shop.yaml:2: schedule: ")
    error = refused("no_such_key", update_definition, folder, "shop", {("streams", 0, "lag"): "5m"}, {})
    assert error.message == "streams[0].lag cannot be set: streams[0] is not there"
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)
    assert os.listdir(path.parent) == ["shop.yaml"]


def test_update_of_json_stays_json(folder: Path, define: Define) -> None:
    path = define('{"protocol": "x", "connection": {"host": "ä"}}', "shop.json")
    update_definition(folder, "shop", {("connection", "port"): 5}, {})
    assert json.loads(path.read_text()) == {"protocol": "x", "connection": {"host": "ä", "port": 5}}


def test_update_follows_a_link(folder: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text("protocol: x\n")
    link = folder / "connectors.d/shop.yaml"
    link.symlink_to(real)
    update_definition(folder, "shop", {("enabled",): False}, {})
    assert link.is_symlink()
    assert real.read_text() == "protocol: x\nenabled: false\n"


def test_a_full_disk_leaves_the_old_file(
    folder: Path, define: Define, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = define("protocol: x\n")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refused("file_unwritable", update_definition, folder, "shop", {("enabled",): False}, {})
    assert error.message == f"{path} cannot be written: No space left on device"
    assert path.read_text() == "protocol: x\n"
    assert os.listdir(path.parent) == ["shop.yaml"]


def test_remove(folder: Path, define: Define, refused: Refused) -> None:
    define("{broken")
    assert remove_definition(folder, "shop") == folder / "connectors.d/shop.yaml"
    assert definition_names(folder) == []
    refused("unknown_connector", remove_definition, folder, "shop")


def test_read_from_any_file(tmp_path: Path, folder: Path, refused: Refused) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("name: other\nprotocol: x\nstreams: [a]\n")
    values = read_definition(file, "shop", {})
    assert values == {"protocol": "x", "streams": ["a"]}
    add_definition(folder, "shop", values, {})
    file.write_text("protocol: x\n\nbatch_bytes: many\n")
    error = refused("invalid_config", read_definition, file, "shop", {})
    assert error.message.startswith(f"{file}:3: batch_bytes: ")
