"""A project's secrets, where its state is: a file of its own, or the PostgreSQL database that hosts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from atlas_etl.config.project import Project
from atlas_etl.config.secret_names import check_secret_name
from atlas_etl.secrets.elsewhere import lookups
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.folder import FOLDER
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore


def secret_store(project: Project) -> SecretStore:
    """Where a project keeps its secrets. Nothing is read yet. Raises ConfigError."""
    folder = project.folder / FOLDER
    in_keyring = project.settings.key_store == "keyring"
    return SecretStore(FileShelf(folder), key_source(folder, project.context.environ, in_keyring=in_keyring))


def with_lookups(project: Project) -> Project:
    """The project, every kind of reference of which can be looked up."""
    context = project.context
    stored = _stored(secret_store(project).get)
    found = {**lookups(context.folder, context.environ), "secret": stored}
    return replace(project, context=replace(context, lookups=found))


def with_secrets(project: Project, values: Mapping[str, str]) -> Project:
    """The project with secrets that are not stored, or not yet, in the place of those that are."""
    below = project.context.lookups["secret"]

    def secret(name: str) -> str:
        return values[name] if name in values else below(name)

    context = replace(project.context, lookups={**project.context.lookups, "secret": secret})
    return replace(project, context=context)


def _stored(get: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: get(check_secret_name(name))
