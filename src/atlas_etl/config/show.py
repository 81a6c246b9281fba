"""Every effective setting with where it was written: secrets masked, references as they are written.

Nothing is expanded here, so nothing secret is read and a missing variable is no obstacle.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from msgspec import Struct
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import LoadedDefinition
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import Layered, LayerKind, Origin, mapping_layer, merge, settings
from atlas_etl.config.project import Project
from atlas_etl.config.secrecy import ends_in_secret, masked, secret_fields, written_secrets
from atlas_etl.config.settings import ProjectSettings
from atlas_etl.redactor import Redactor

_NAME = re.compile(r"[A-Za-z_]{1,11}")  # of a database or a user, which careless passwords repeat


class EffectiveValue(Struct, frozen=True):
    """One setting as it may be shown: its dotted key, JSON's own types, and its origin in words."""

    key: str
    value: object
    origin: str


def effective_connector(
    loaded: LoadedDefinition, connection: Layered, model: type[BaseModel]
) -> list[EffectiveValue]:
    """A definition's settings and, below `connection`, those of its layers and its model's defaults."""
    own = merge(
        [
            mapping_layer(LayerKind.DEFAULT, _defaults(ConnectorDefinition)),
            loaded.written.without("connection", "name").as_layer(),
        ]
    )
    inner = merge([mapping_layer(LayerKind.DEFAULT, _defaults(model)), connection.as_layer()])
    secrets = {("connection", *path) for path in secret_fields(model)}
    known = Redactor()
    known.learn(written_secrets(own.values))
    known.learn(written_secrets(inner.values, ("connection",), secrets))
    shown = [*_shown(own, (), known), *_shown(inner, ("connection",), known, secrets)]
    order = list(ConnectorDefinition.model_fields)
    return sorted(shown, key=lambda setting: order.index(re.split(r"[.[]", setting.key)[0]))


def effective_project(project: Project) -> list[EffectiveValue]:
    """What atlas.yaml and the environment say, and the defaults of what they do not."""
    defaults = mapping_layer(LayerKind.DEFAULT, _defaults(ProjectSettings))
    # Who has a webhook's address may post there.
    secrets = {("protect_key",), *(("notices", name, "url") for name in project.settings.notices)}
    whole = merge([defaults, project.layered.as_layer()])
    known = Redactor()
    known.learn(written_secrets(whole.values, (), secrets))
    return list(_shown(whole, (), known, secrets))


def _defaults(model: type[BaseModel]) -> dict[str, object]:
    return {
        info.alias or name: default.model_dump() if isinstance(default, BaseModel) else default
        for name, info in model.model_fields.items()
        if not info.is_required()
        and (default := info.get_default(call_default_factory=True, validated_data={}))
        not in (None, (), {}, "")
    }


def _shown(
    layered: Layered, below: KeyPath, known: Redactor, secrets: Collection[KeyPath] = ()
) -> Iterator[EffectiveValue]:
    for path, value in settings(layered.values, whole=ends_in_secret):
        origin = layered.origin(path) or Origin(LayerKind.DEFAULT)
        whole = (*below, *path)
        safe = to_jsonable_python(masked(value, whole, secrets), fallback=str)
        yield EffectiveValue(dotted(whole), _without(known, safe), str(origin))


def _without(known: Redactor, value: object) -> object:
    """The value without a secret that another key has: a database may be called as its password is."""
    if isinstance(value, list):
        return [_without(known, item) for item in value]
    if not isinstance(value, str) or _NAME.fullmatch(value):
        return value
    return known.text(value)
