"""The JSON schema of a definition, for editors that complete and check YAML while it is written.

Draft 2020-12, https://json-schema.org/draft/2020-12. A connection is checked by its protocol's model;
no key of it is required, for it may come from another layer, and every number or boolean may also be
written as a reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, JsonValue

from atlas_etl.config.definition import ConnectorDefinition

_REFERENCE: dict[str, JsonValue] = {"type": "string", "pattern": r"\$\{"}
_TYPED = ("integer", "number", "boolean")


def definition_schema(connections: Mapping[str, type[BaseModel]]) -> dict[str, JsonValue]:
    """The schema of connectors.d/*.yaml; `connections` has the model of every protocol and alias."""
    schema: dict[str, JsonValue] = ConnectorDefinition.model_json_schema()
    definitions = _mapping(schema["$defs"])
    stream = _mapping(definitions["StreamDefinition"])
    stream.pop("required", None)
    schema["required"] = ["protocol"]
    properties = _mapping(schema["properties"])
    _mapping(_mapping(properties["streams"]))["items"] = {
        "anyOf": [{"type": "string", "description": "a table"}, {"$ref": "#/$defs/StreamDefinition"}]
    }
    _mapping(properties["protocol"])["enum"] = [*connections]
    cases: list[JsonValue] = []
    known: dict[type[BaseModel], str] = {}
    for protocol, model in connections.items():
        if model not in known:
            known[model] = f"connection-{protocol}"
            definitions |= _connection(model, known[model])
        cases.append(
            {
                "if": {"properties": {"protocol": {"const": protocol}}, "required": ["protocol"]},
                "then": {"properties": {"connection": {"$ref": f"#/$defs/{known[model]}"}}},
            }
        )
    schema["allOf"] = cases
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_mapping(_or_reference(schema)),
        "title": "An Atlas connector",
    }


def _connection(model: type[BaseModel], name: str) -> dict[str, JsonValue]:
    """The model's own schema and those it refers to, under names that no other protocol has."""
    schema: dict[str, JsonValue] = model.model_json_schema(ref_template=f"#/$defs/{name}-{{model}}")
    inner = _mapping(schema.pop("$defs", {}))
    found = {name: schema, **{f"{name}-{key}": value for key, value in inner.items()}}
    for part in found.values():
        _mapping(part).pop("required", None)
    return found


def _or_reference(schema: JsonValue) -> JsonValue:
    """The schema with `${...}` allowed wherever a number or a boolean is."""
    if isinstance(schema, list):
        return [_or_reference(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in _TYPED:
        about: dict[str, JsonValue] = {
            key: schema[key] for key in ("title", "description", "default") if key in schema
        }
        typed = {key: value for key, value in schema.items() if key not in about}
        return {**about, "anyOf": [typed, _REFERENCE]}
    return {key: value if key == "default" else _or_reference(value) for key, value in schema.items()}


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise TypeError("a JSON schema is made of mappings")
    return value
