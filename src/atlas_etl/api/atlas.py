"""A project's connectors, destinations and state, and what can be done with them."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.audit import notice_changes
from atlas_etl.api.checkpoints import Checkpoints
from atlas_etl.api.connectors import Connectors
from atlas_etl.api.located import located
from atlas_etl.api.missing import refuse_missing
from atlas_etl.api.prepared import PreparedConnector, PreparedDestination, prepare_connector
from atlas_etl.api.protect_key import key_holder
from atlas_etl.api.quarantine import Quarantines
from atlas_etl.api.reveal import revealed
from atlas_etl.api.secrets import with_lookups, with_secrets
from atlas_etl.api.standing import Standing, standing
from atlas_etl.api.state_location import state_location
from atlas_etl.api.sync import SyncJob, refused, sync_all
from atlas_etl.config.connection import connector_connection
from atlas_etl.config.definitions import LoadedDefinition, load_definition
from atlas_etl.config.layers import Layered
from atlas_etl.config.project import Project, load_project
from atlas_etl.config.secret_names import secrets_of
from atlas_etl.config.secret_references import used_secrets
from atlas_etl.config.show import EffectiveValue, effective_connector, effective_project
from atlas_etl.config.stored_secrets import Credential, credentials_of, exposed_secrets
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import ConnectionConfig
from atlas_etl.connectors.preview import preview
from atlas_etl.contracts import Answer
from atlas_etl.errors import AtlasError, ConfigError, StateError, UsageError
from atlas_etl.model import (
    AuditAction,
    AuditEntry,
    AuditKind,
    Change,
    ConnectionStatus,
    StreamInfo,
)
from atlas_etl.pipeline.events import Event
from atlas_etl.secrets.store import SecretStore
from atlas_etl.state.holder import this_actor
from atlas_etl.state.only_read import is_there, open_to_read
from atlas_etl.state.open import open_state_store
from atlas_etl.state.store import SqlStateStore


class TestOutcome(Struct, frozen=True):
    """What `connector test` found out about one connector."""

    connector: str
    status: ConnectionStatus | None
    error: AtlasError | None
    latency_ms: float


class Atlas:
    """One project. Opens connections when they are needed and closes them after each call."""

    def __init__(self, project: Project, command: str | None = None) -> None:
        """`command` is what the audit says of this process, by default its program's name."""
        self._actor = this_actor(project.context.environ, command)
        self.project, self._secrets, self.exchange = with_lookups(project, self._actor)
        self._protect_keys = key_holder(self.project, self._secrets)
        self._connectors = Connectors(self.project, self.keep, self.exchange, self._protect_keys)

    @classmethod
    def open(cls, folder: Path, environ: Mapping[str, str], command: str | None = None) -> Atlas:
        """The project in this folder. Raises ConfigError."""
        return cls(load_project(folder, environ), command)

    def names(self) -> list[str]:
        """Every connector, sorted."""
        return self._connectors.names()

    def connector(self, name: str) -> PreparedConnector:
        """One connector, validated. Raises ConfigError."""
        return self._connectors.connector(name)

    def destination(self, name: str | None = None) -> PreparedDestination:
        """One destination, the default without a name, validated. Raises ConfigError."""
        return self._connectors.destination(name)

    def destination_of(self, connector: PreparedConnector) -> PreparedDestination:
        """Where a connector's streams land, each in a table of its own. Raises ConfigError, AtlasError."""
        return self._connectors.destination_of(connector)

    def test(self, names: Sequence[str]) -> Iterator[TestOutcome]:
        """Try each connection. A connector that fails is an outcome, not an exception."""
        for name in names:
            started = perf_counter()
            status, error = None, None
            try:
                with closing(self.connector(name).open()) as connector:
                    status = connector.test()
            except AtlasError as failure:
                error = failure.located(connector=name)
            yield TestOutcome(name, status, error, (perf_counter() - started) * 1000)

    def discover(self, name: str) -> Sequence[StreamInfo]:
        """What a connector can read. Raises SourceError."""
        with located(name), closing(self.connector(name).open()) as connector:
            return connector.discover()

    def preview(self, name: str, stream: str | None, limit: int) -> tuple[str, list[str], list[list[object]]]:
        """The first rows of a stream, the first one without a name: its name, columns and rows."""
        prepared = self.connector(name)
        chosen = prepared.chosen((stream,) if stream else ())[0]
        with located(name, chosen.name), closing(prepared.open()) as connector:
            columns, rows = preview(connector, replace(chosen, cursor=None), limit)
        return chosen.name, columns, rows

    def sync(
        self,
        names: Sequence[str] | None = None,
        *,
        streams: Sequence[str] = (),
        full_refresh: bool = False,
        jobs: int = 1,
        triggered_by: str = "manual",
        scheduled_at: datetime | None = None,
        record: Path | None = None,
        replay: Path | None = None,
    ) -> Generator[Event, None, None]:
        """Bring connectors up to date, every enabled one without names; each ends with its RunFinished.

        A run of a slot (`scheduled_at`) ends as `skipped` where the slot was run already. `record` is a new
        file for the requests and answers of one connector, without its credentials; `replay` is one that
        answers instead of the API. Everything is validated before anything is touched. Raises ConfigError,
        UsageError, StateError; without names, a connector whose definition is wrong ends as a failed run, and
        the others run, unless there are none.
        """
        prepared, wrong = self._connectors.wanted(names)
        if record is not None or replay is not None:
            if len(prepared) != 1 or (record is not None and replay is not None):
                raise UsageError("--record or --replay is for one connector at a time", code="cassette")
            use: Literal["record", "replay"] = "record" if record is not None else "replay"
            prepared = [prepared[0].on_tape(record or replay or Path(), use)]
        planned = [
            replace(
                self._connectors.job(
                    connector, streams, full_refresh=full_refresh, triggered_by=triggered_by
                ),
                scheduled_at=scheduled_at,
                catch_up=connector.definition.scheduling_over(self.project.settings.schedule).catch_up,
            )
            for connector in prepared
            if names is not None or connector.definition.enabled
        ]
        if wrong and not planned:
            raise wrong[0]
        with self.state() as store:
            store.audit.notice({each.name: each.settings for each in prepared})
            for failure in wrong:
                yield refused(failure, store, triggered_by)
            yield from sync_all(planned, store, side_by_side=jobs)
            self._prune(store)

    def job(
        self,
        name: str,
        *,
        streams: Sequence[str] = (),
        full_refresh: bool = False,
        triggered_by: str = "manual",
    ) -> SyncJob:
        """One connector's sync, validated. Raises ConfigError, UsageError."""
        connector = self.connector(name)
        return self._connectors.job(connector, streams, full_refresh=full_refresh, triggered_by=triggered_by)

    @contextmanager
    def state(self) -> Iterator[SqlStateStore]:
        """The state store. Raises ConfigError, StateError."""
        store = open_state_store(state_location(self.project), actor=self._actor)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def state_to_read(self) -> Iterator[SqlStateStore]:
        """The state store, for what only reads. Raises ConfigError, StateError."""
        with closing(open_to_read(state_location(self.project), actor=self._actor)) as store:
            yield store

    def checkpoints(self, name: str) -> Checkpoints:
        """How far a connector is committed, to see and to change. Raises ConfigError."""
        prepared = self.connector(name)
        return Checkpoints(
            prepared, self.destination(prepared.definition.destination), self.state, self.state_to_read
        )

    def quarantine(self, name: str) -> Quarantines:
        """The rows of a connector that were refused, to see and to load again. Raises ConfigError."""
        prepared = self.connector(name)
        return Quarantines(prepared, self.destination(prepared.definition.destination), self.state)

    def query(self, sql: str, destination: str | None = None) -> pa.Table:
        """One statement that reads, on a destination. Raises UsageError, DestinationError."""
        with closing(self.destination(destination).open()) as opened:
            return opened.query(sql)

    @contextmanager
    def answer(self, sql: str, destination: str | None = None) -> Iterator[Answer]:
        """The same, read batch by batch while the block is open. Raises HazardError, too."""
        with closing(self.destination(destination).open()) as opened, opened.answer(sql) as answer:
            yield answer

    def effective(self, name: str | None = None) -> list[EffectiveValue]:
        """Every effective setting of a connector, or of the project, secrets masked. Raises ConfigError."""
        if name is None:
            return effective_project(self.project)
        return effective_connector(*self._written(name))

    def credentials(self, name: str) -> list[Credential]:
        """The secrets of a connector's connection, as they are written. Raises ConfigError."""
        return credentials_of(*self._written(name)[1:])

    def _written(self, name: str) -> tuple[LoadedDefinition, Layered, type[ConnectionConfig]]:
        loaded = load_definition(self.project.folder, name, self.project.context.environ)
        protocol = registry.canonical(loaded.definition.protocol)
        model = registry.load(protocol).connection
        return loaded, connector_connection(self.project, loaded, protocol, model), model

    def secrets(self) -> SecretStore:
        """The secrets that are kept for this project."""
        return self._secrets

    def reveal(self, tokens: Sequence[str]) -> list[str]:
        """The values that tokens of `protect` stand for; the audit knows first how many were asked for.

        Raises ConfigError, StateError, UsageError (`not_a_token`).
        """
        values = revealed(tokens, self._protect_keys)
        if values:
            asked = Change(AuditKind.TOKEN, AuditAction.REVEALED, after={"values": len(values)})
            with self.state() as store:
                store.audit.record([asked])
        return values

    def check(self, name: str, *, reach: bool) -> None:
        """Validate a connector and its destination; `reach` also tries the source. Raises AtlasError."""
        self._try(self.connector(name), reach=reach)

    def exposed(self, name: str) -> list[str]:
        """What a person should know of a definition that is right. Raises ConfigError."""
        return [*exposed_secrets(*self._written(name)[1:], self.project.folder)]

    def adopt(
        self, name: str, pending: MutableMapping[str, str], *, reach: bool, tables: Collection[str] = ()
    ) -> None:
        """Store new secrets of a connector, by their names, once `check` has nothing against them.

        Where the source is tried, it must have these tables, with their cursors and keys.

        Raises AtlasError; then none is stored, and one that the source replaced has its new value in
        `pending`: the old one is spent.
        """

        def write(values: Mapping[str, str]) -> None:
            # The source may replace a token as soon as it is tried.
            pending.update({each: value for each, value in values.items() if each in pending})
            self.keep({each: value for each, value in values.items() if each not in pending})

        project = with_secrets(self.project, pending)
        prepared = prepare_connector(project, name, write, self.exchange, self._protect_keys)
        self._try(prepared, reach=reach, tables=tables)
        self.keep(pending)

    def _try(self, prepared: PreparedConnector, *, reach: bool, tables: Collection[str] = ()) -> None:
        self.destination(prepared.definition.destination).to_load_into()
        if reach:
            with closing(prepared.open()) as connector:
                connector.test()
                for stream in prepared.streams():
                    if stream.table in tables:
                        refuse_missing(connector, stream)

    def forget(self, name: str) -> None:
        """Take a removed connector out of the state store's list; its history stays."""
        if self.has_state():
            with self.state() as store:
                store.unregister(name)

    def keep(self, secrets: Mapping[str, str]) -> None:
        """Store secrets by their names, all or none. Raises ConfigError, StateError."""
        if secrets:
            self.secrets().set(secrets)

    def forget_secrets(self, name: str) -> list[str]:
        """Remove the secrets of a connector that is gone, but those that others refer to; their names."""
        store = self.secrets()
        own = {secret for secret in store.changed() if secret.startswith(secrets_of(name))}
        gone = sorted(own - used_secrets(self.project.folder)) if own else []
        if gone:
            store.remove(gone)
        return gone

    def standing(self) -> Standing:
        """How the connectors stand; of nothing where nothing was ever run here. Raises StateError."""
        if not self.has_state():
            return Standing()
        with self.state_to_read() as store:
            return standing(store, self.names())

    def audit(
        self,
        connector: str | None = None,
        *,
        kinds: Collection[AuditKind] = (),
        since: datetime | None = None,
        limit: int = 50,
    ) -> tuple[Sequence[AuditEntry], int]:
        """Who changed what, the latest first, and how many changes there are without the limit.

        What was changed outside of Atlas is noticed before. Nothing where nothing was ever run here.
        """
        if not self.has_state():
            return (), 0
        with self.state_to_read() as store:
            with suppress(StateError, ConfigError):  # who may only read, reads
                notice_changes(self.project, store.audit)
            found = store.audit.entries(connector=connector, kinds=kinds, since=since, limit=limit)
            return found, store.audit.count(connector=connector, kinds=kinds, since=since)

    def has_state(self) -> bool:
        location = state_location(self.project)
        return isinstance(location, str) or is_there(location)

    def _prune(self, store: SqlStateStore) -> None:
        retention = self.project.settings.history_retention
        if retention is None:
            return
        if retention.age is not None:
            store.prune(datetime.now(UTC) - retention.age)
        if retention.runs is not None:
            store.keep_newest(retention.runs)
