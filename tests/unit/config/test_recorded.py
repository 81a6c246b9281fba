"""What the audit keeps of definitions: everything that tells who changed what, and nothing secret."""

from __future__ import annotations

import json

import pytest

from atlas_etl.config.recorded import definition_changes, recorded_settings
from atlas_etl.config.secrecy import secret_fields
from atlas_etl.connectors import registry
from atlas_etl.model import AuditAction, AuditKind
from atlas_etl.redactor import MASK

CANARY = "caNary-of-a-definition"
DEFINITION = {
    "protocol": "http",
    "connection": {
        "base_url": f"https://etl:{CANARY}@api.example.com?api_key={CANARY}",
        "proxy": f"http://etl:{CANARY}@proxy:3128",
        "headers": {"X-Team": CANARY, "Accept": "${env:KIND}"},
        "auth": {"type": "session", "login_body": {"who": CANARY}, "password": CANARY},
        "resources": [{"name": "orders", "params": {"sig": CANARY}, "path": "/orders"}],
    },
    "streams": [{"table": "orders", "cursor": "id", "primary_key": ["id"]}],
    "schedule": "0 * * * *",
}


def test_settings_are_kept_by_their_keys_without_secrets() -> None:
    found = recorded_settings(DEFINITION)
    assert CANARY not in json.dumps(found)
    assert found["connection.base_url"] == f"https://etl:{MASK}@api.example.com?api_key={MASK}"
    assert found["connection.headers.Accept"] == "${env:KIND}"
    assert found["connection.headers.X-Team"] == MASK
    assert found["connection.resources[0].path"] == "/orders"
    assert found["streams[0].primary_key"] == ["id"]
    assert found["schedule"] == "0 * * * *"


def test_webhooks_are_secret_and_so_is_every_text_of_a_protocol_that_we_do_not_know() -> None:
    project = {
        "notices": {"ops": {"url": f"https://hooks/{CANARY}", "format": "slack"}},
        "destinations": {"odd": {"protocol": "theirs", "knob": CANARY, "size": 5}},
    }
    found = recorded_settings(project, [("destinations", "odd")])
    assert CANARY not in json.dumps(found)
    assert found["notices.ops.format"] == "slack"


@pytest.mark.parametrize("protocol", [info.protocol for info in registry.protocols() if info.installed])
def test_no_secret_field_of_any_protocol_is_kept(protocol: str) -> None:
    for path in secret_fields(registry.load(protocol).connection):
        nested: object = CANARY
        for key in reversed(("connection", *path)):
            nested = {key: nested}
        assert isinstance(nested, dict)
        assert CANARY not in json.dumps(recorded_settings(nested)), path


def test_what_differs_is_told_apart_by_what_it_is_about() -> None:
    before = {"protocol": "sqlite", "connection.port": 1, "schedule": "0 * * * *"}
    after = {"protocol": "sqlite", "connection.port": True, "enabled": False}
    definition, schedule = definition_changes("shop", None, before, after)
    assert (definition.kind, definition.action) == (AuditKind.DEFINITION, AuditAction.CHANGED)
    assert (definition.before, definition.after) == ({"connection.port": 1}, {"connection.port": True})
    assert (schedule.kind, schedule.action) == (AuditKind.SCHEDULE, AuditAction.DISABLED)
    assert (schedule.before, schedule.after) == ({"schedule": "0 * * * *"}, {"enabled": False})
    assert definition_changes("shop", None, before, dict(before)) == []
    assert definition_changes("shop", None, None, None) == []


def test_coming_and_going_is_told_whole() -> None:
    (added,) = definition_changes("shop", None, None, {"protocol": "sqlite"})
    assert (added.action, added.before, added.after) == (AuditAction.ADDED, None, {"protocol": "sqlite"})
    (removed,) = definition_changes("shop", None, {"protocol": "sqlite"}, None)
    assert (removed.action, removed.after) == (AuditAction.REMOVED, None)
    (enabled,) = definition_changes("shop", None, {"enabled": False}, {})
    assert enabled.action == AuditAction.ENABLED
