"""`load_connection_config`: the layers of one connection, for scripts and notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from atlas_etl.api.secrets import with_lookups
from atlas_etl.config.environment import environment_layer
from atlas_etl.config.layers import LayerKind, file_layer, mapping_layer, merge
from atlas_etl.config.project import load_project
from atlas_etl.config.project_folder import find_project_folder
from atlas_etl.config.references import ReferenceContext, expand
from atlas_etl.config.yaml_source import MappingDocument, read_given_mapping
from atlas_etl.errors import ConfigError
from atlas_etl.secrets.elsewhere import lookups
from atlas_etl.state.holder import this_actor


def load_connection_config(  # noqa: PLR0917 (the order is the public one, weakest first)
    defaults: Mapping[str, object] | None = None,
    file_path: str | Path | None = None,
    env_prefix: str | None = None,
    config: Mapping[str, object] | None = None,
    overrides: Mapping[str, object] | None = None,
    required: Iterable[str] = (),
) -> dict[str, object]:
    """The settings of one connection, merged deeply; later wins.

    The order is `defaults`, the file (YAML or JSON), the environment, `config`, `overrides`. With the
    prefix `SHOP`, `SHOP_HOST` is `host` and `SHOP_OPTIONS__SSLMODE` is `options.sslmode`; values from
    the environment are text. References, such as `${env:NAME}` and `${secret:NAME/FIELD}`, are expanded in
    the file only; relative paths, and the store of secrets, begin at the project's folder above the file, or
    at the file's own where there is none.

    Raises ConfigError where the file cannot be read, a reference cannot be resolved, or a `required`
    key (`options.sslmode` for one inside another) is missing, null or empty.
    """
    document, file, folder = MappingDocument({}, {}), "", Path()
    if file_path is not None:
        path = Path(file_path).expanduser()
        document, file = read_given_mapping(path), str(path)
        folder = find_project_folder(None, {}, path.parent)
    layers = [
        mapping_layer(LayerKind.DEFAULT, defaults),
        file_layer(LayerKind.FILE, document, file),
    ]
    if env_prefix is not None:
        if not env_prefix.strip("_"):
            raise ConfigError(
                "an empty env_prefix would take the whole environment for settings",
                hint="give a prefix such as SHOP, or None",
                code="environment_prefix",
            )
        prefix = env_prefix if env_prefix.endswith("_") else f"{env_prefix}_"
        layers.append(environment_layer(prefix, os.environ, beside=merge(layers).values))
    layers += [mapping_layer(LayerKind.DICT, config), mapping_layer(LayerKind.OVERRIDE, overrides)]
    values = expand(merge(layers), _context(folder)).values
    missing = [key for key in required if _at(values, key) in (None, "")]
    if missing:
        raise ConfigError(
            f"required settings are missing: {', '.join(missing)}",
            hint=f"set them in {file}"
            if file
            else "pass them, or name a file or an env_prefix that has them",
            code="missing_settings",
        )
    return values


def _context(folder: Path) -> ReferenceContext:
    """Nothing of the project is read before a secret of its own is asked for."""

    def secret(name: str) -> str:
        project, *_ = with_lookups(load_project(folder, os.environ), this_actor(os.environ))
        return project.context.lookups["secret"](name)

    return ReferenceContext(folder, os.environ, {**lookups(folder, os.environ), "secret": secret})


def _at(values: Mapping[str, object], key: str) -> object:
    value: object = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
