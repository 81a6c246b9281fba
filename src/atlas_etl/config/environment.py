"""Environment variables as a layer: `<PREFIX>PORT` is `port`, `<PREFIX>OPTIONS__SSLMODE` `options.sslmode`.

Values stay text; the model that reads them makes numbers and booleans of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from atlas_etl.config.keys import KeyPath
from atlas_etl.config.layers import Layer, LayerKind, Origin, merge
from atlas_etl.errors import ConfigError


def variable_form(key: str) -> str:
    """A key as it is spelt in a variable's name: `dev-shop` becomes `DEV_SHOP`."""
    return key.upper().replace("-", "_")


def environment_layer(
    prefix: str,
    environ: Mapping[str, str],
    *,
    beside: Mapping[str, object] | None = None,
    known: Collection[str] | None = None,
) -> Layer:
    """The layer of the variables whose names begin with `prefix` (its last underscore included).

    A key of `beside`, the layers below, is found whatever its case and with `-` for `_`; other keys
    are lower-case. With `known`, variables for other keys of the top are somebody else's and left
    alone: a prefix such as `PG_` is shared. Raises ConfigError where two variables set one key.
    """
    settings: list[Layer] = []
    variables: dict[KeyPath, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(prefix) or variable == prefix:
            continue
        parts = variable.removeprefix(prefix).split("__")
        path = _keys(parts, {**dict.fromkeys(known or (), None), **(beside or {})})
        if known is not None and path[0] not in known:
            continue
        if "" in parts:
            raise ConfigError(
                f"environment variable {variable} names an empty key",
                hint=f"write {prefix}KEY, or {prefix}KEY__KEY for a key inside another",
                code="environment_key",
            )
        rival = next((at for at in variables if at[: len(path)] == path or path[: len(at)] == at), None)
        if rival is not None:
            raise ConfigError(
                f"environment variables {variables[rival]} and {variable} set the same key",
                hint="unset one of them",
                code="environment_conflict",
            )
        variables[path] = variable
        settings.append(_setting(path, environ[variable], variable))
    return merge(settings).as_layer()


def _keys(parts: list[str], beside: object) -> tuple[str, ...]:
    keys: list[str] = []
    for part in parts:
        names = beside if isinstance(beside, Mapping) else {}
        key = next((name for name in names if variable_form(name) == part.upper()), part.lower())
        keys.append(key)
        beside = names.get(key)
    return tuple(keys)


def _setting(path: tuple[str, ...], text: str, variable: str) -> Layer:
    value: object = text
    for key in reversed(path[1:]):
        value = {key: value}
    origin = Origin(LayerKind.ENVIRONMENT, variable=variable)
    return Layer({path[0]: value}, lambda _path: origin)
