"""The effective connection of a connector or a destination: layered, expanded, validated by its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from atlas_etl.config.annotations import fields_of, model_in, types_in
from atlas_etl.config.definitions import LoadedDefinition
from atlas_etl.config.environment import environment_layer, variable_form
from atlas_etl.config.exposure import refuse_exposed_to_all
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import Layered, merge
from atlas_etl.config.problems import config_error
from atlas_etl.config.project import Project
from atlas_etl.config.references import ReferenceContext, expand, files_in
from atlas_etl.config.secrecy import referred_secrets
from atlas_etl.config.stored_secrets import is_secret_field, secrets_in
from atlas_etl.errors import ConfigError
from atlas_etl.redactor import learn

Model = TypeVar("Model", bound=BaseModel)

_TEXT = {str, SecretStr, SecretBytes, Path}


def connector_connection(
    project: Project,
    loaded: LoadedDefinition,
    protocol: str,
    model: type[BaseModel],
) -> Layered:
    """The layers of a connector's connection, not yet expanded.

    Weakest first: atlas.yaml's `defaults` for the protocol (its own name, not an alias), the file, the
    variables of the definition's `env_prefix`, those of `ATLAS_CONNECTOR_<NAME>__`.
    """
    environ = project.context.environ
    definition = loaded.definition
    below = [project.defaults(protocol).as_layer(), loaded.written.under("connection").as_layer()]
    beside = merge(below).values
    keys = fields_of(model)
    variables = [environment_layer(connector_prefix(definition.name), environ, beside=beside)]
    if definition.env_prefix is not None:
        prefix = definition.env_prefix.rstrip("_") + "_"
        variables.insert(0, environment_layer(prefix, environ, beside=beside, known=keys))
    return merge([*below, *variables])


def connector_prefix(name: str) -> str:
    """What the variables that override a connector's connection begin with: `ATLAS_CONNECTOR_DEV_SHOP__`."""
    return f"ATLAS_CONNECTOR_{variable_form(name)}__"


def validate_connection(
    model: type[Model],
    layered: Layered,
    context: ReferenceContext,
    *,
    file: str,
    below: tuple[str, ...] = ("connection",),
) -> Model:
    """The connection as its protocol's model: references expanded, types checked.

    `file` and `below` say where a key that nobody set would be written. The model's validators find
    the project's folder as the validation context's `project`. Raises ConfigError, which names the
    file and line or the variable, and never a value.
    """

    def place(path: KeyPath) -> str:
        origin = layered.origin(path[len(below) :])
        return origin.place if origin else file

    expanded = expand(layered, context, below)
    values = _numbers_as_text(expanded.values, model)
    learn(secrets_in(values, model))
    learn(secret for text in expanded.references.values() for secret in referred_secrets(text, context))
    for path, text in expanded.references.items():
        if is_secret_field(model, path):
            _refuse_exposed_files(text, context, f"{place((*below, *path))}: {dotted((*below, *path))}")

    try:
        return model.model_validate(values, context={"project": context.folder})
    except ValidationError as error:
        raise config_error(error, model, values, place, below) from None


def _refuse_exposed_files(text: str, context: ReferenceContext, where: str) -> None:
    for file in files_in(text, context):
        try:
            refuse_exposed_to_all(file)
        except ConfigError as problem:
            raise ConfigError(f"{where}: {problem.message}", hint=problem.hint, code=problem.code) from None


def _numbers_as_text(values: Mapping[str, object], model: type[BaseModel]) -> dict[str, object]:
    """Numbers as text where the model wants text: `password: 12345` was meant that way.

    Nothing is lost, for `scalars` makes a number only of a text that the number writes as well.
    """
    annotations = fields_of(model)
    done: dict[str, object] = {}
    for key, value in values.items():
        wanted = types_in(annotations.get(key))
        inner = model_in(annotations.get(key))
        if isinstance(value, int | float) and not isinstance(value, bool) and wanted & _TEXT:
            done[key] = value if wanted & {int, float} else repr(value)
        elif isinstance(value, dict) and inner is not None:
            done[key] = _numbers_as_text(value, inner)
        else:
            done[key] = value
    return done
