"""A project's connectors and destinations, validated, and what a sync of them runs; nothing is opened."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.api.kept_secrets import Exchange, WriteSecrets
from atlas_etl.api.prepared import (
    PreparedConnector,
    PreparedDestination,
    prepare_connector,
    prepare_destination,
)
from atlas_etl.api.sync import SyncJob
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project import Project
from atlas_etl.errors import AtlasError, ConfigError, DestinationError
from atlas_etl.protection.keys import KeyHolder


class Connectors:
    """Those of one project."""

    def __init__(self, project: Project, keep: WriteSecrets, exchange: Exchange, keys: KeyHolder) -> None:
        """`keep` stores what a source replaces of its credentials; `keys` are those of `protect`."""
        self._project = project
        self._keep = keep
        self._exchange = exchange
        self._keys = keys

    def names(self) -> list[str]:
        """Every connector, sorted."""
        return definition_names(self._project.folder)

    def connector(self, name: str) -> PreparedConnector:
        """Raises ConfigError."""
        return prepare_connector(self._project, name, self._keep, self._exchange, self._keys)

    def destination(self, name: str | None) -> PreparedDestination:
        """The default without a name. Raises ConfigError."""
        return prepare_destination(self._project, name)

    def destination_of(self, connector: PreparedConnector) -> PreparedDestination:
        """Where a connector's streams land, each in a table of its own. Raises ConfigError, AtlasError."""
        destination = self.destination(connector.definition.destination).to_load_into()
        destination.refuse_one_table(connector.name, connector.streams())
        return destination

    def wanted(self, names: Sequence[str] | None) -> tuple[list[PreparedConnector], list[AtlasError]]:
        """Those of these names; without names every one, and why those that are enabled cannot be synced.

        Raises ConfigError for one that is named.
        """
        if names is not None:
            return [self.connector(name) for name in names], []
        prepared: list[PreparedConnector] = []
        wrong: list[AtlasError] = []
        for name in self.names():
            try:
                connector = self.connector(name)
                if connector.definition.enabled:
                    self.destination_of(connector)
                    connector.chosen(())
                prepared.append(connector)
            except (ConfigError, DestinationError) as failure:
                if not self._is_disabled(name):
                    wrong.append(failure.located(connector=name))
        return prepared, wrong

    def job(
        self, connector: PreparedConnector, streams: Sequence[str], *, full_refresh: bool, triggered_by: str
    ) -> SyncJob:
        """One connector's sync. Raises ConfigError, UsageError."""
        destination = self.destination_of(connector)
        return SyncJob(connector, destination, connector.chosen(tuple(streams)), triggered_by, full_refresh)

    def _is_disabled(self, name: str) -> bool:
        """Whether a definition says so, whatever is wrong with what it connects to."""
        try:
            loaded = load_definition(self._project.folder, name, self._project.context.environ)
        except ConfigError:
            return False
        return not loaded.definition.enabled
