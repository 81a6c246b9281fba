"""Every YAML block of the documentation is a valid definition, a valid part of one, or of another program."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
import yaml
from tests.documents import PAGES, ROOT, blocks
from tests.project import Project

from atlas_etl.api.atlas import Atlas

BLOCKS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}:{n}")
    for page in PAGES
    for n, text in enumerate(blocks(page, "yaml"), start=1)
]
OF_OTHERS = ("# .github/", "# replication.yaml", "runs-on:", "protocol: ledger")  # ledger: a guide writes it
SETTINGS = {"destinations", "state", "notices", "protect_key", "schedule"}
# What a part of a definition is read into, by the protocol that it belongs to.
WHOLE: Mapping[str, Mapping[str, object]] = {
    "sqlite": {"connection": {"database_path": "shop.db"}, "streams": [{"table": "orders"}]},
    "http": {"connection": {"base_url": "https://api.example.com"}, "streams": []},
    "postgresql": {"connection": {"host": "db.example.com"}, "streams": [{"table": "orders"}]},
    "mysql": {"connection": {"host": "db.example.com"}, "streams": [{"table": "orders"}]},
}


def whole(part: object) -> dict[str, object]:
    """The definition that a part is of: streams, a stream, keys of a connection or of the definition."""
    if isinstance(part, list):
        part = {"streams": part}
    assert isinstance(part, dict)
    if "protocol" in part:
        return part
    protocol = protocol_of(part)
    rest = dict(WHOLE[protocol])
    if {"resources", "tunnel"} & part.keys():
        part = {"connection": part}
    if isinstance(inner := part.get("connection"), dict):
        base = rest["connection"]
        assert isinstance(base, dict)
        part = {**part, "connection": {**base, **inner}}
    return {"protocol": protocol, **rest, **part}


def protocol_of(part: Mapping[str, object]) -> str:
    text = json.dumps(part)
    if "resources" in text or "requests_per_" in text:
        return "http"
    if "tunnel" in text or "sslrootcert" in text or "username" in text:
        return "postgresql"
    return "mysql" if "ssl_ca" in text else "sqlite"


def is_settings(part: object) -> bool:
    """Whether a block is of atlas.yaml; there `schedule` is a mapping."""
    if not isinstance(part, dict) or not part.keys() <= SETTINGS:
        return False
    return not isinstance(part.get("schedule"), str)


@pytest.mark.parametrize("text", BLOCKS)
def test_a_block_is_valid(text: str, project: Project) -> None:
    if text.lstrip().startswith(OF_OTHERS):
        return
    part = yaml.safe_load(text)
    names = re.findall(r"\$\{env:(\w+)[:}]", text)
    values = {name: "sqlite:///state.db" if "STATE" in name else "x" for name in names}
    if is_settings(part):
        project.write("atlas.yaml", text)
        project.write("connectors.d/shop.yaml", json.dumps(whole({})))
    else:
        project.write("connectors.d/shop.yaml", json.dumps(whole(part)))
        destinations = {"warehouse": "duckdb:///warehouse.duckdb"}
        project.write("atlas.yaml", json.dumps({"destinations": destinations}))
    atlas = Atlas.open(project.folder, values)
    atlas.keep(dict.fromkeys(re.findall(r"\$\{secret:([^}]+)\}", text), "x"))
    (project.folder / "ca.pem").touch()
    atlas.connector("shop")
