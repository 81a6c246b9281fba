"""A vendor's API as a protocol of its own, made of a YAML file: what it asks for, and the http that it means.

`{name}` in the file's connection stands for the field of that name. It is plain substitution: nothing is
evaluated, what comes into a path is quoted, and a member that is only a field without a value is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    create_model,
    model_validator,
)

from atlas_etl.config.yaml_source import parse_mapping
from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.http._cassettes.recording import wiring
from atlas_etl.connectors.http._reader import HttpConnector, streams_of
from atlas_etl.connectors.http._settings.auth import MODEL, Url
from atlas_etl.connectors.http._settings.connection import HttpConnection, HttpSettings
from atlas_etl.connectors.http._wire import dispose, session

_NAME = re.compile(r"\{(\w+)\}")
_QUOTED_IN = "path"  # of a resource: a field there is one step of it
_DROPPED = object()


class Asked(BaseModel):
    """One field that a preset asks for; without a default it has to be given, unless it is optional."""

    model_config = MODEL

    help: str = Field(min_length=1)
    type: Literal["text", "texts", "secret", "integer", "boolean", "date"] = "text"
    choices: tuple[str, ...] = ()
    pattern: str | None = Field(default=None, description="what the whole of a text is to match")
    default: str | int | bool | None = None
    optional: bool = False

    @property
    def definition(self) -> tuple[Any, Any]:
        """The field as pydantic's create_model takes it."""
        kind: Any = _TYPES[self.type] if not self.choices else Literal[self.choices]
        if self.pattern is not None:
            kind = Annotated[kind, AfterValidator(_matching(self.pattern))]
        if self.type == "texts":
            kind = Annotated[
                tuple[kind, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
            ]
        needed = self.default is None and not self.optional
        default: Any = ... if needed else self.default
        return (kind | None if self.optional else kind), Field(default=default, description=self.help)


_TYPES: Mapping[str, Any] = {
    "text": str, "texts": str, "secret": SecretStr, "integer": int, "boolean": bool, "date": date,
}  # fmt: skip


class Preset(BaseModel):
    """One file of `presets/`."""

    model_config = MODEL

    documentation: Url = Field(description="the vendor's page that it was written from")
    fields: dict[str, Asked]
    connection: dict[str, JsonValue] = Field(description="of the protocol http, with {name} for fields")
    each: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="by a field of texts: the resource that each of them is, with {name} for its own text",
    )

    @model_validator(mode="after")
    def _names_are_its_own(self) -> Preset:
        if unknown := self.each.keys() - {
            name for name, asked in self.fields.items() if asked.type == "texts"
        }:
            raise ValueError(f"each: {min(unknown)} is no field of texts")
        if taken := sorted(self.fields.keys() & PresetConnection.model_fields.keys()):
            raise ValueError(f"fields: {taken[0]} is a setting of each preset")
        return self


class PresetConnection(HttpSettings):
    """What each preset has besides the fields that it asks for."""

    base_url: Url | None = Field(default=None, description="where the API is instead of at the vendor's own")

    @classmethod
    def preset(cls) -> Preset:
        """The file that the fields are from."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _describes_an_api(self) -> PresetConnection:
        self.http()
        return self

    def http(self) -> HttpConnection:
        """The connection of the protocol http that this one means. Raises ValidationError."""
        preset = self.preset()
        values = {name: _plain(getattr(self, name)) for name in preset.fields}
        made = cast(dict[str, object], _substituted(preset.connection, values))
        for field, resource in preset.each.items():
            for text in getattr(self, field) or ():
                more = {text: _substituted(resource, {**values, field: text})}
                made["resources"] = {**more, **cast(dict[str, object], made["resources"])}
        given = {name: getattr(self, name) for name in self.model_fields_set - preset.fields.keys()}
        if "headers" in given:
            given["headers"] = {**cast(dict[str, str], made.get("headers", {})), **given["headers"]}
        return HttpConnection.model_validate(
            {**made, **{name: value for name, value in given.items() if value is not None}}
        )


def _matching(pattern: str) -> Any:
    """A check for pydantic, whose message does not show the value."""

    def matching(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"should look like {pattern}")
        return value

    return matching


def _plain(value: object) -> str | int | bool | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return None  # what each of its texts means is under `each`
    return value if isinstance(value, str | int | None) else str(value)


def _substituted(given: JsonValue, values: Mapping[str, str | int | bool | None], *, key: str = "") -> object:
    """The template with its fields' values in place; `key` is the member's name that it is at."""
    if isinstance(given, dict):
        inside = {name: _substituted(item, values, key=name) for name, item in given.items()}
        return {name: item for name, item in inside.items() if item is not _DROPPED}
    if isinstance(given, list):
        items = [_substituted(item, values) for item in given]
        return [item for item in items if item is not _DROPPED]
    if not isinstance(given, str):
        return given
    alone = _NAME.fullmatch(given)
    if alone is not None and alone[1] in values:
        found = values[alone[1]]
        return _DROPPED if found is None else found
    return _NAME.sub(lambda name: _text(name, values, is_quoted=key == _QUOTED_IN), given)


def _text(name: re.Match[str], values: Mapping[str, str | int | bool | None], *, is_quoted: bool) -> str:
    if name[1] not in values:
        return name[0]
    value = values[name[1]]
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe="") if is_quoted else text


@cache
def adapter(file: Path) -> Adapter[PresetConnection]:
    """The protocol that a preset's file describes. Raises ConfigError and ValidationError."""
    preset = Preset.model_validate(parse_mapping(file.read_text(encoding="utf-8"), file.name).values)
    resources = ", ".join(cast(dict[str, JsonValue], preset.connection["resources"]))
    named: Any = {name: asked.definition for name, asked in preset.fields.items()}
    model: type[PresetConnection] = create_model(
        f"{file.stem.capitalize()}Connection",
        __base__=PresetConnection,
        __doc__=f"Its streams are {resources}; written from {preset.documentation}.",
        **named,
    )
    model.preset = classmethod(lambda _: preset)  # type: ignore[method-assign, assignment]
    return Adapter(
        connection=model,
        client=lambda config: session(config.http()),
        dispose=dispose,
        thread_bound=True,  # a session is not made for several
        shared=True,
        connector=lambda config: HttpConnector(config.http(), protocol=file.stem),
        taped=lambda config, tape: HttpConnector(
            config.http(), protocol=file.stem, wiring=wiring(tape, config)
        ),
        default_streams=lambda config: streams_of(config.http().resources),
    )
