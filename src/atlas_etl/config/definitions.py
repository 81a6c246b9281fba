"""Loading and changing the definitions of connectors.d/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from pydantic import ValidationError

from atlas_etl.config.atomic import ORDINARY, PRIVATE, write_atomically
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.edit import changed_text
from atlas_etl.config.environment import variable_form
from atlas_etl.config.fields import check_name, without_nulls
from atlas_etl.config.folder import SUFFIXES, definition_names, definition_path
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.layers import Layered, LayerKind, file_layer, merge
from atlas_etl.config.older_form import from_older_form, is_older_form
from atlas_etl.config.problems import config_error
from atlas_etl.config.project_folder import DEFINITIONS, shown
from atlas_etl.config.references import ReferenceContext, expand
from atlas_etl.config.secrecy import literal_secrets
from atlas_etl.config.yaml_source import (
    MappingDocument,
    Value,
    parse_mapping,
    read_given_mapping,
    read_mapping,
    read_text,
)
from atlas_etl.config.yaml_text import dump
from atlas_etl.errors import ConfigError


class LoadedDefinition(Struct, frozen=True):
    """A definition, its file, and where each key stands in it; `written` still holds its references."""

    definition: ConnectorDefinition
    file: str  # as messages call it
    written: Layered


def load_definition(project: Path, name: str, environ: Mapping[str, str]) -> LoadedDefinition:
    """The definition called `name`.

    References are expanded everywhere but in the connection, whose secrets may be absent as long as
    nobody connects. Raises ConfigError, told which connector.
    """
    path = definition_path(project, name)
    file = shown(path, project)
    try:
        return _load(read_mapping(path, file), name, file, ReferenceContext(project, environ))
    except ConfigError as error:
        raise error.located(connector=name) from None


def read_definition(path: Path, name: str, environ: Mapping[str, str]) -> dict[str, Value]:
    """The values of any file, older form included, checked under the name they are to have.

    The file's own `name` is left out. Raises ConfigError.
    """
    document = read_given_mapping(path)
    if is_older_form(document.values):
        document = from_older_form(document, str(path))
    values = {key: value for key, value in document.values.items() if key != "name"}
    context = ReferenceContext(path.parent, environ)
    _load(MappingDocument(values, document.lines), name, str(path), context)
    return values


def drafted_definition(
    project: Path, name: str, values: Mapping[str, Value], environ: Mapping[str, str]
) -> LoadedDefinition:
    """What `add_definition` would write, loaded without being written. Raises ConfigError."""
    file = shown(project / DEFINITIONS / f"{name}{SUFFIXES[0]}", project)
    try:
        return _load(MappingDocument(dict(values), {}), name, file, ReferenceContext(project, environ))
    except ConfigError as error:
        raise error.located(connector=name) from None


def add_definition(project: Path, name: str, values: Mapping[str, Value], environ: Mapping[str, str]) -> Path:
    """Write connectors.d/NAME.yaml, which must not exist yet, and give back its path.

    Raises ConfigError: `connector_exists`, or what is wrong with the values.
    """
    path = project / DEFINITIONS / f"{name}{SUFFIXES[0]}"
    check_free(project, name)
    _write(path, dump(dict(values)), {}, ReferenceContext(project, environ))
    return path


def update_definition(
    project: Path, name: str, changes: Mapping[KeyPath, Value], environ: Mapping[str, str]
) -> Path:
    """Set keys of a definition; a null removes the key. Comments and layout stay where they can.

    Raises ConfigError; then the file is as it was.
    """
    path = definition_path(project, name)
    file = shown(path, project)
    text = read_text(path, file)
    document = parse_mapping(text, file)
    if is_older_form(document.values):
        document = from_older_form(document, file)
        text = dump(document.values)
    for at, value in changes.items():
        text = changed_text(text, at, value, file)
    if path.suffix == ".json":
        text = json.dumps(parse_mapping(text, file).values, indent=2, ensure_ascii=False) + "\n"
    _write(path, text, document.lines, ReferenceContext(project, environ))
    return path


def remove_definition(project: Path, name: str) -> Path:
    """Delete the file of a definition and give back its path. Raises ConfigError."""
    path = definition_path(project, name)
    try:
        path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{shown(path, project)} cannot be removed: {error.strerror}", code="file_unwritable"
        ) from None
    return path


def check_free(project: Path, name: str) -> None:
    """Raises ConfigError (`connector_exists`, `invalid_name`) where no connector can be called so."""
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} cannot be a connector's name: {error}", code="invalid_name") from None
    for other in definition_names(project):
        if other == name:
            hint = f"`atlas connector update {name}` changes it"
            raise ConfigError(f"connector {name!r} exists already", hint=hint, code="connector_exists")
        # They would share their environment variables and, on many file systems, their file.
        if variable_form(other) == variable_form(name):
            raise ConfigError(
                f"connector {name!r} is too close to connector {other!r}",
                hint="choose a name that differs in more than case, `-` and `_`",
                code="connector_exists",
            )


def _write(path: Path, text: str, lines: Mapping[KeyPath, int], context: ReferenceContext) -> None:
    # `lines` are those of the file as it is now, which is what a person can look at.
    file = shown(path, context.folder)
    values = parse_mapping(text, file).values
    try:
        _load(MappingDocument(values, lines), path.stem, file, context)
    except ConfigError as error:
        raise error.located(connector=path.stem) from None
    connection = values.get("connection")
    private = isinstance(connection, dict) and literal_secrets(connection)
    write_atomically(path, text, PRIVATE if private else ORDINARY)


def _load(document: MappingDocument, name: str, file: str, context: ReferenceContext) -> LoadedDefinition:
    if is_older_form(document.values):
        document = from_older_form(document, file)
    written = merge([file_layer(LayerKind.FILE, document, file)])
    values = expand(written.without("connection"), context).values
    if "connection" in written.values:
        values["connection"] = written.values["connection"]
    values = without_nulls(values, ConnectorDefinition)
    if values.setdefault("name", name) != name:
        raise ConfigError(
            f"{document.place(file, ('name',))}: name: differs from the file's name, {name!r}",
            hint="leave `name` out: the file's name is the connector's",
            code="name_mismatch",
        )
    try:
        definition = ConnectorDefinition.model_validate(values)
    except ValidationError as error:
        raise config_error(
            error, ConnectorDefinition, values, lambda path: document.place(file, path)
        ) from None
    return LoadedDefinition(definition, file, written)
