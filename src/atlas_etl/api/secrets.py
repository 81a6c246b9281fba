"""A project's secrets, where its state is: a file of its own, or the PostgreSQL database that hosts share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import replace

from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.config.secret_names import check_secret_name
from atlas_etl.contracts import SecretShelf
from atlas_etl.model import SealedSecret
from atlas_etl.secrets.elsewhere import lookups
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.folder import FOLDER
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore
from atlas_etl.state.open import open_state_store


def with_lookups(project: Project) -> tuple[Project, SecretStore]:
    """The project, every kind of reference of which can be looked up, and the secrets that it keeps."""
    context = project.context
    elsewhere = lookups(context.folder, context.environ)
    project = replace(project, context=replace(context, lookups=elsewhere))
    folder = project.folder / FOLDER
    keys = key_source(folder, context.environ, in_keyring=project.settings.key_store == "keyring")
    store = SecretStore(_ProjectShelf(project), keys)

    def secret(name: str) -> str:
        return store.get(check_secret_name(name))

    return replace(project, context=replace(context, lookups={**elsewhere, "secret": secret})), store


def with_secrets(project: Project, values: Mapping[str, str]) -> Project:
    """The project with secrets that are not stored, or not yet, in the place of those that are."""
    below = project.context.lookups["secret"]

    def secret(name: str) -> str:
        return values[name] if name in values else below(name)

    context = replace(project.context, lookups={**project.context.lookups, "secret": secret})
    return replace(project, context=context)


class _ProjectShelf:
    """A SecretShelf (see contracts), opened when it is first used.

    A connection to a database is kept: a hundred connectors with a secret each log in once.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._found: SecretShelf | None = None

    def sealed(self) -> Mapping[str, SealedSecret]:
        return self._shelf().sealed()

    def changing(self) -> AbstractContextManager[MutableMapping[str, SealedSecret]]:
        return self._shelf().changing()

    def _shelf(self) -> SecretShelf:
        with self._lock:
            if self._found is None:
                self._found = self._opened()
            return self._found

    def _opened(self) -> SecretShelf:
        location = state_location(self._project)
        if not isinstance(location, str):
            return FileShelf(self._project.folder / FOLDER)
        store = open_state_store(location)
        weakref.finalize(self, store.close)
        return store.secrets
