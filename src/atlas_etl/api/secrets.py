"""A project's secrets, where its state is: a file of its own, or the PostgreSQL database that hosts share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from msgspec.structs import replace

from atlas_etl.api.audit import tell_audit
from atlas_etl.api.kept_secrets import Exchange
from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.config.recorded import secret_changes
from atlas_etl.config.secret_names import check_secret_name
from atlas_etl.contracts import SecretShelf
from atlas_etl.model import Actor, Change, SealedSecret
from atlas_etl.secrets.elsewhere import lookups
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.folder import FOLDER
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore
from atlas_etl.state.look import StateLook
from atlas_etl.state.open import look_at_state, open_state_store


def with_lookups(project: Project, actor: Actor) -> tuple[Project, SecretStore, Exchange]:
    """The project, every kind of reference of which can be looked up, and the secrets that it keeps.

    The third is what is held while a system gives another secret for one of them.

    `actor` is who changes these.
    """
    context = project.context
    elsewhere = lookups(context.folder, context.environ)
    project = replace(project, context=context.looking_in(elsewhere))
    folder = project.folder / FOLDER
    keys = key_source(folder, context.environ, in_keyring=project.settings.key_store == "keyring")
    shelf = _ProjectShelf(project, actor)
    store = SecretStore(shelf, keys)

    def secret(name: str) -> str:
        return store.get(check_secret_name(name))

    found = replace(project, context=context.looking_in({**elsewhere, "secret": secret}))
    return found, store, shelf.exchanging


def with_secrets(project: Project, values: Mapping[str, str]) -> Project:
    """The project with secrets that are not stored, or not yet, in the place of those that are."""
    below = project.context.lookups["secret"]

    def secret(name: str) -> str:
        return values[name] if name in values else below(name)

    context = project.context.looking_in({**project.context.lookups, "secret": secret})
    return replace(project, context=context)


class _ProjectShelf:
    """A SecretShelf (see contracts), opened when it is first used.

    A connection to a database is kept: a hundred connectors with a secret each log in once.
    """

    def __init__(self, project: Project, actor: Actor) -> None:
        self._project = project
        self._actor = actor
        self._lock = threading.Lock()
        self._found: SecretShelf | None = None
        self._look: StateLook | None = None

    def sealed(self) -> Mapping[str, SealedSecret]:
        """Who only reads secrets upgrades no store."""
        location = state_location(self._project)
        if not isinstance(location, str):
            return self._shelf().sealed()
        return self._looking(location).sealed()

    def changing(self) -> AbstractContextManager[MutableMapping[str, SealedSecret]]:
        return self._shelf().changing()

    @contextmanager
    def exchanging(self, name: str, digest: str) -> Iterator[datetime | None]:
        """Hosts that share a database have its lock; processes of a host a file, which tells of the dead."""
        location = state_location(self._project)
        if isinstance(location, str):
            with self._looking(location).alone(f"the exchange of the secret {name}"):
                yield None
        else:
            with FileShelf(self._project.folder / FOLDER).exchanging(name, digest) as broken_off:
                yield broken_off

    def _looking(self, location: str) -> StateLook:
        with self._lock:
            if self._look is None:
                self._look = look_at_state(location)
                weakref.finalize(self, self._look.close)
            return self._look

    def _shelf(self) -> SecretShelf:
        with self._lock:
            if self._found is None:
                self._found = self._opened()
            return self._found

    def _opened(self) -> SecretShelf:
        location = state_location(self._project)
        if not isinstance(location, str):
            return _RecordedShelf(FileShelf(self._project.folder / FOLDER), self._record)
        store = open_state_store(location, actor=self._actor)
        weakref.finalize(self, store.close)
        return store.secrets

    def _record(self, changes: Collection[Change]) -> None:
        tell_audit(lambda: self._project, self._actor, lambda audit: audit.record(changes))


class _RecordedShelf:
    """A SecretShelf (see contracts) outside of the state store, whose changes the audit is told."""

    def __init__(self, shelf: SecretShelf, record: Callable[[Collection[Change]], None]) -> None:
        self._shelf = shelf
        self._record = record

    def sealed(self) -> Mapping[str, SealedSecret]:
        return self._shelf.sealed()

    @contextmanager
    def changing(self) -> Iterator[MutableMapping[str, SealedSecret]]:
        with self._shelf.changing() as secrets:
            before = dict(secrets)
            yield secrets
            changes = secret_changes(before, secrets)
        if changes:
            self._record(changes)
