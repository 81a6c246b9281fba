"""The secrets of a definition's connection: which of its keys hold one, and references in their place."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, SecretStr

from atlas_etl.config.annotations import fields_of, model_at
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.layers import Layered, leaves
from atlas_etl.config.references import literal
from atlas_etl.config.secrecy import is_secret_key, secret_fields
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.yaml_source import Value

_PASSWORD = re.compile(r"://[^/@\s:]*:(\S*)@")


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection whose secrets are references, and the secrets by their names in the store."""

    connection: dict[str, Value] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret of a connection as it is written, in a file or in a variable."""

    path: KeyPath
    written: str = field(repr=False)
    variable: str | None = None


def credentials_of(layered: Layered, model: type[BaseModel]) -> list[Credential]:
    """The secrets that a connection's layers give."""
    found = []
    for path, value in leaves(layered.values):
        if isinstance(value, str | int | float) and value != "" and is_secret_field(model, path):
            origin = layered.origin(path)
            found.append(Credential(path, str(value), origin.variable if origin else None))
    return found


def exposed_secrets(layered: Layered, model: type[BaseModel], folder: Path) -> Iterator[str]:
    """Where secrets of a connection are written out in files that others on this machine may read."""
    for path, value in leaves(layered.values):
        origin = layered.origin(path)
        if origin is None or origin.file is None or not is_secret_field(model, path):
            continue
        if not isinstance(value, str) or not value or literal(value) is None:
            continue
        mode = (folder / origin.file).stat().st_mode
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            yield f"{'.'.join(map(str, path))} is written out at {origin.place}, which others may read"


def secrets_in(values: Mapping[str, object], model: type[BaseModel]) -> Iterator[str]:
    """The values of a connection's secret fields, with the passwords of those that are URLs."""
    for path, value in leaves(values):
        if not is_secret_field(model, path):
            continue
        revealed = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(revealed, str | int | float) and not isinstance(revealed, bool):
            yield str(revealed)
            yield from _PASSWORD.findall(str(revealed))


def is_secret_field(model: type[BaseModel], path: KeyPath) -> bool:
    """Whether a key of a connection holds a secret: its model says so, or in a free mapping its name."""
    if any(path[: len(secret)] == secret for secret in secret_fields(model)):
        return True
    parent = model_at(model, path[:-1]) if path[:-1] else model
    if parent is not None and path[-1] in fields_of(parent):
        return False
    return is_secret_key(path)


def take_secrets(connector: str, connection: Mapping[str, Value], model: type[BaseModel]) -> Taken:
    """Put references in the place of the secrets that are written out. Raises ConfigError."""
    secrets: dict[str, str] = {}

    def walk(value: Value, path: KeyPath) -> Value:
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        text = _written_out(value)
        if not text or not is_secret_field(model, path):
            return value
        name = secret_name(connector, path)
        secrets[name] = text
        return reference_to(name)

    return Taken({key: walk(item, (key,)) for key, item in connection.items()}, secrets)


def _written_out(value: Value) -> str | None:
    if isinstance(value, str):
        return literal(value)
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
