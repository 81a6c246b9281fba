"""Presets against a server of our own: what each asks for, and what it makes of a vendor's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atlas_etl.connectors import registry
from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.model import Stream, StreamRun
from tests.unit.connectors.http_api import Api, sync

QUICK = {"longest_wait": 0.01, "attempts": 3, "requests_per_minute": 1_000_000}


def connector(api: Api, protocol: str, **fields: object) -> HttpConnector:
    adapter = registry.load(protocol)
    given = {"base_url": api.server.url_for("/").rstrip("/"), **QUICK, **fields}
    made: Any = adapter.connector
    connector = made(adapter.connection.model_validate(given))
    assert isinstance(connector, HttpConnector)
    return connector


def stream(protocol: str, name: str, **fields: object) -> Stream:
    """What the preset makes of a resource by itself."""
    adapter = registry.load(protocol)
    offered = adapter.default_streams(adapter.connection.model_validate(fields))
    return next(each for each in offered if each.name == name)


def synced(api: Api, protocol: str, folder: Path, name: str, **fields: object) -> StreamRun:
    """One run of one resource, as the preset has it."""
    api.asked.clear()
    return sync(connector(api, protocol, **fields), folder, stream(protocol, name, **fields))
