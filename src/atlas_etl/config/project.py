"""A project: its folder, atlas.yaml with what the environment changes of it, and the targets in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from pydantic import ValidationError

from atlas_etl.config.annotations import fields_of
from atlas_etl.config.environment import environment_layer
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import Layer, Layered, LayerKind, Origin, file_layer, mapping_layer, merge
from atlas_etl.config.problems import config_error
from atlas_etl.config.project_folder import DEFAULT_DESTINATION, PROJECT_FILE
from atlas_etl.config.references import (
    ReferenceContext,
    expand,
    expand_text,
    expand_uri,
    is_reference,
)
from atlas_etl.config.settings import ProjectSettings
from atlas_etl.config.uri import parse_uri
from atlas_etl.config.yaml_source import MappingDocument, read_mapping
from atlas_etl.errors import ConfigError, nearest

PREFIX = "ATLAS_"
BUILT_IN: Mapping[str, Mapping[str, object]] = {
    "destinations": {DEFAULT_DESTINATION: {"protocol": "duckdb", "path": "warehouse.duckdb"}},
    "state": {"protocol": "sqlite", "database_path": ".atlas/state.db"},
}
_LAZY = (
    "destinations",
    "state",
    "defaults",
    "notices",
    "protect_key",
)  # their references are looked up where they are used


class Target(Struct, frozen=True):
    """A destination or a state store: its protocol, and its connection's keys, not yet expanded."""

    name: str
    protocol: str
    connection: Layered


class Project(Struct, frozen=True):
    """What a project's connectors share; `layered` is atlas.yaml with what ATLAS_* variables change."""

    context: ReferenceContext
    settings: ProjectSettings
    layered: Layered

    @property
    def folder(self) -> Path:
        return self.context.folder

    def defaults(self, protocol: str) -> Layered:
        """The keys with which every connection of a protocol begins."""
        found = self.layered.under("defaults", protocol)
        origins = {at: replace(origin, kind=LayerKind.DEFAULT) for at, origin in found.origins.items()}
        return Layered(found.values, origins)

    def destination_name(self, wanted: str | None = None) -> str:
        """The destination that a definition names, or the default. Raises ConfigError."""
        declared = list(self.settings.destinations)
        name = wanted or self.settings.destination
        if name is None:
            if DEFAULT_DESTINATION in declared:
                return DEFAULT_DESTINATION
            if len(declared) == 1:
                return declared[0]
            raise ConfigError(
                f"{PROJECT_FILE} declares {len(declared)} destinations and no default",
                hint=f"set `destination: {declared[0]}` there or in the definition",
                code="no_default_destination",
            )
        if name not in declared:
            hint = nearest(name, declared) or f"there are {', '.join(declared)}"
            raise ConfigError(f"there is no destination {name!r}", hint=hint, code="unknown_destination")
        return name

    def destination(self, wanted: str | None = None) -> Target:
        """The destination that a definition names, or the default. Raises ConfigError."""
        name = self.destination_name(wanted)
        return self._target(name, ("destinations", name))

    def state(self) -> Target:
        """Where the state is kept. Raises ConfigError."""
        return self._target("state", ("state",))

    def protect_key(self) -> str | None:
        """The text of the key of `protect`, where the project gives one. Raises ConfigError."""
        text, origin = self.settings.protect_key, self.layered.origin(("protect_key",))
        if not text or origin is None or origin.file is None:
            return text or None
        if not is_reference(text):
            raise ConfigError(
                f"{origin.place}: protect_key: should be a reference, for a file is no place for a key",
                hint="`atlas secret set atlas.protect/key` keeps one, which needs no `protect_key` at all",
                code="protect_key",
            )
        return expand_text(text, ("protect_key",), origin, self.context)

    def _target(self, name: str, at: tuple[str, ...]) -> Target:
        value: object = self.layered.values
        for key in at:
            value = value[key] if isinstance(value, dict) else None
        origin = self.layered.origin(at)
        if isinstance(value, str) and origin is not None:
            found = self._read_uri(value, at, origin)
        else:
            found = self.layered.under(*at)
        protocol = str(found.values["protocol"])
        return Target(
            name, protocol, merge([self.defaults(protocol).as_layer(), found.without("protocol").as_layer()])
        )

    def _read_uri(self, text: str, at: tuple[str, ...], origin: Origin) -> Layered:
        if origin.file is not None:
            text = expand_uri(text, at, origin, self.context)
        done = replace(origin, expanded=True)
        if "://" in text:
            try:
                values: Mapping[str, object] = parse_uri(text)
            except ConfigError as error:
                message = f"{origin.place}: {dotted(at)}: {error.message}"
                raise ConfigError(message, hint=error.hint, code=error.code) from None
        else:
            values = {"protocol": "sqlite", "database_path": text}
        return merge([Layer(values, lambda _path: done)])


def load_project(folder: Path, environ: Mapping[str, str]) -> Project:
    """The project in a folder, which need not hold an atlas.yaml. Raises ConfigError."""
    context = ReferenceContext(folder, environ)
    document = _read(folder)
    built_in = {key: value for key, value in BUILT_IN.items() if not document.values.get(key)}
    file = file_layer(LayerKind.FILE, document, PROJECT_FILE)
    beside = merge([mapping_layer(LayerKind.DEFAULT, built_in), file]).values
    known = fields_of(ProjectSettings)
    variables = environment_layer(PREFIX, environ, beside=beside, known=known)
    below = mapping_layer(LayerKind.DEFAULT, _without_other_protocols(built_in, variables.values))
    layered = merge([below, file, variables])
    values = {**layered.values, **expand(layered.without(*_LAZY), context).values}

    def place(path: KeyPath) -> str:
        origin = layered.origin(path)
        if origin is None or origin.file is not None:
            return document.place(PROJECT_FILE, path)
        return origin.place

    try:
        settings = ProjectSettings.model_validate(values)
    except ValidationError as error:
        raise config_error(error, ProjectSettings, values, place) from None
    return Project(context, settings, layered)


def _without_other_protocols(
    built_in: Mapping[str, object], variables: Mapping[str, object]
) -> dict[str, object]:
    """What is built in, but for targets to which the variables give another protocol, and so other keys."""
    left: dict[str, object] = {}
    for key, value in built_in.items():
        other = variables.get(key)
        if not isinstance(value, Mapping) or not isinstance(other, Mapping):
            left[key] = value
        elif "protocol" not in value:
            left[key] = _without_other_protocols(value, other)
        elif other.get("protocol", value["protocol"]) == value["protocol"]:
            left[key] = value
    return left


def _read(folder: Path) -> MappingDocument:
    file = folder / PROJECT_FILE
    if not file.exists():
        other = file.with_suffix(".yml")
        if other.exists():
            raise ConfigError(
                f"{other.name} is not read", hint=f"rename it to {PROJECT_FILE}", code="misnamed_project_file"
            )
        return MappingDocument({}, {})
    document = read_mapping(file, PROJECT_FILE)
    given = {key: value for key, value in document.values.items() if value is not None or key not in BUILT_IN}
    return MappingDocument(given, document.lines)
