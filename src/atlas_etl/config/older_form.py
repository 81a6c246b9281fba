"""The older JSON form of a definition, put into today's words with the same meaning.

    source_type -> protocol            source_name -> name             schedule_cron -> schedule
    config -> connection               config.additional_params -> connection.options
    table, query -> the one stream     timestamp_column -> its cursor, unless incremental is false

A key that is null or empty was not set. `auth_type`, `auth_token` and `api_key` keep their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.config.yaml_source import MappingDocument, Value
from atlas_etl.errors import ConfigError, nearest

_MARKS = ("source_type", "source_name")
_SAME = ("description", "enabled")
_KEYS = (
    *_MARKS,
    "config",
    "schedule_cron",
    "incremental",
    "timestamp_column",
    "table",
    "query",
    *_SAME,
)


def is_older_form(values: Mapping[str, Value]) -> bool:
    """Whether a file is written in the older form."""
    return any(mark in values for mark in _MARKS) and "protocol" not in values


def from_older_form(document: MappingDocument, shown: str) -> MappingDocument:
    """The same definition in today's form. Raises ConfigError."""
    for key in document.values:
        if key not in _KEYS:
            hint = nearest(key, _KEYS) or f"the older form's keys are {', '.join(_KEYS)}"
            raise _error(document, shown, key, "unknown key", hint)
    old = {key: value for key, value in document.values.items() if value not in (None, "")}
    for mark in _MARKS:
        if mark not in old:
            raise _error(document, shown, mark, "is required in the older form")
    values: dict[str, Value] = {"name": old["source_name"], "protocol": old["source_type"]}
    values |= {key: old[key] for key in _SAME if key in old}
    values["connection"] = _connection(old.get("config", {}), document, shown)
    stream = _stream(old, document, shown)
    if stream:
        values["streams"] = [stream]
    if "schedule_cron" in old:
        values["schedule"] = old["schedule_cron"]
    return MappingDocument(values, {})


def _connection(config: Value, document: MappingDocument, shown: str) -> Value:
    if not isinstance(config, dict):
        raise _error(document, shown, "config", "should be a mapping")
    connection: dict[str, Value] = {key: value for key, value in config.items() if value is not None}
    params = connection.pop("additional_params", {})
    options = connection.get("options", {})
    if not isinstance(params, dict) or not isinstance(options, dict):
        raise _error(document, shown, "config", "additional_params and options should be mappings")
    if set(params) & set(options):
        raise _error(document, shown, "config", "additional_params and options set the same key")
    if params:
        connection["options"] = {**options, **params}
    return connection


def _stream(old: Mapping[str, Value], document: MappingDocument, shown: str) -> dict[str, Value]:
    if "table" in old and "query" in old:
        why = "table and query are both given, and one stream reads one of them"
        raise _error(document, shown, "query", why, "remove one of them")
    incremental = old.get("incremental")
    if incremental not in (None, True, False):
        raise _error(document, shown, "incremental", "should be true or false")
    if incremental and "timestamp_column" not in old:
        raise _error(document, shown, "incremental", "needs a timestamp_column")
    stream: dict[str, Value] = {}
    if "query" in old:
        stream = {"name": old["source_name"], "query": old["query"]}
    elif "table" in old:
        stream = {"table": old["table"]}
    if "timestamp_column" in old and incremental is not False:
        if not stream:
            raise _error(document, shown, "timestamp_column", "needs a table or a query")
        stream["cursor"] = old["timestamp_column"]
    return stream


def _error(document: MappingDocument, shown: str, key: str, why: str, hint: str | None = None) -> ConfigError:
    line = document.lines.get((key,))
    place = f"{shown}:{line}" if line else shown
    return ConfigError(f"{place}: {key}: {why}", hint=hint, code="older_form")
