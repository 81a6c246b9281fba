"""Where a project keeps its state: a SQLite file of its own, or a PostgreSQL database that hosts share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import URL

from atlas_etl.config.connection import validate_connection
from atlas_etl.config.layers import Layered
from atlas_etl.config.project import Project
from atlas_etl.config.project_folder import PROJECT_FILE
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import Config, ConnectionConfig, ProjectPath
from atlas_etl.errors import ConfigError

_ADDRESS = frozenset({"host", "port", "database", "username", "password"})


class _File(ConnectionConfig):
    database_path: ProjectPath


def state_location(project: Project) -> Path | str:
    """A file's path, or a `postgresql://` URL with its password. Raises ConfigError."""
    project = _without_stored_secrets(project)
    target = project.state()
    protocol = registry.canonical(target.protocol)
    if protocol == "sqlite":
        return _validated(_File, project, target.connection).database_path
    if protocol == "postgresql":
        return _url(_validated(registry.load(protocol).connection, project, target.connection))
    raise ConfigError(
        f"{PROJECT_FILE}: state: the state cannot be kept in {target.protocol!r}",
        hint="use sqlite with `database_path`, or postgresql",
        code="state_protocol",
    )


def _without_stored_secrets(project: Project) -> Project:
    """What it takes to reach the state cannot be kept in it."""
    elsewhere = {kind: found for kind, found in project.context.lookups.items() if kind != "secret"}
    return replace(project, context=project.context.looking_in(elsewhere))


def _validated(model: type[Config], project: Project, connection: Layered) -> Config:
    return validate_connection(model, connection, project.context, file=PROJECT_FILE, below=("state",))


def _url(server: Any) -> str:
    """The address and what libpq is to know; the store bounds its own waits and needs no server settings."""
    if server.tunnel is not None:
        raise ConfigError(
            f"{PROJECT_FILE}: state: the state store is not reached through a tunnel",
            hint="keep the state in a database that this machine reaches, or in a file",
            code="state_tunnel",
        )
    found: dict[str, str] = server.libpq_parameters()
    given = {*server.model_fields_set, *server.options} - _ADDRESS
    options = {name: value for name, value in found.items() if name in given} | server.tls_parameters()
    password = server.password.get_secret_value() if server.password else None
    url = URL.create(
        "postgresql", server.username, password, server.host, server.port, server.database, options
    )
    return url.render_as_string(hide_password=False)
