"""One connector with everything its run needs, validated; nothing is opened yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atlas_etl.config.connection import connector_connection, validate_connection
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.project import Project
from atlas_etl.config.project_folder import PROJECT_FILE
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import Adapter, ConnectionConfig
from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import ConfigError, UsageError, nearest
from atlas_etl.model import Disposition, Stream


@dataclass(frozen=True, slots=True)
class PreparedDestination:
    """A destination of the project, validated."""

    name: str
    protocol: str
    adapter: Adapter[Any] = field(repr=False)
    config: ConnectionConfig = field(repr=False)

    def open(self) -> Destination:
        """The destination. Raises ConfigError where the protocol is only read."""
        if self.adapter.destination is None:
            raise ConfigError(
                f"destination {self.name!r}: protocol {self.protocol!r} cannot be written to",
                hint="`atlas connector types` shows which protocols are",
                code="not_writable",
            )
        return self.adapter.destination(self.config)


@dataclass(frozen=True, slots=True)
class PreparedConnector:
    """A connector of the project, validated."""

    definition: ConnectorDefinition
    protocol: str
    adapter: Adapter[Any] = field(repr=False)
    config: ConnectionConfig = field(repr=False)

    @property
    def name(self) -> str:
        return self.definition.name

    def open(self) -> Connector:
        """The connector. Raises ConfigError where the protocol is only written."""
        if self.adapter.connector is None:
            raise ConfigError(
                f"protocol {self.protocol!r} cannot be read from",
                hint="`atlas connector types` shows which protocols are",
                code="not_readable",
                connector=self.name,
            )
        return self.adapter.connector(self.config)

    def streams(self) -> tuple[Stream, ...]:
        """What the definition reads, or what its protocol reads where it names nothing."""
        streams = self.definition.to_streams()
        if streams and all(stream.table is None for stream in streams):
            return streams
        offered = self.adapter.default_streams(self.config)
        cursors = {stream.table: stream.cursor for stream in offered if stream.table is not None}
        return tuple(_with_cursor(stream, cursors) for stream in streams) or offered

    def chosen(self, names: tuple[str, ...]) -> tuple[Stream, ...]:
        """The streams of these names, all without one. Raises UsageError and ConfigError."""
        streams = self.streams()
        if not streams:
            raise ConfigError(
                "the definition has no streams",
                hint=f"add `streams:` with a table each; `atlas connector discover {self.name}` lists them",
                code="no_streams",
                connector=self.name,
            )
        known = {stream.name: stream for stream in streams}
        for name in names:
            if name not in known:
                raise UsageError(
                    f"connector {self.name!r} has no stream {name!r}",
                    hint=nearest(name, known) or f"its streams are {', '.join(known)}",
                    code="unknown_stream",
                    connector=self.name,
                )
        return tuple(known[name] for name in names) if names else streams


def _with_cursor(stream: Stream, cursors: Mapping[str, str | None]) -> Stream:
    """The stream with the cursor that what it reads has by itself, where its definition says nothing."""
    cursor = cursors.get(stream.table) if stream.table is not None else None
    if cursor is None or stream.cursor is not None or stream.disposition is Disposition.REPLACE:
        return stream
    return replace(stream, cursor=cursor)


def prepare_connector(project: Project, name: str) -> PreparedConnector:
    """Load and validate one connector. Raises ConfigError, UnknownProtocolError, MissingDriverError."""
    loaded = load_definition(project.folder, name, project.context.environ)
    try:
        protocol = registry.canonical(loaded.definition.protocol)
        adapter = registry.load(protocol)
        layered = connector_connection(project, loaded, protocol, adapter.connection)
        config = validate_connection(adapter.connection, layered, project.context, file=loaded.file)
    except ConfigError as failure:
        failure.connector = failure.connector or name
        raise
    return PreparedConnector(loaded.definition, protocol, adapter, config)


def prepare_destination(project: Project, name: str | None = None) -> PreparedDestination:
    """Load and validate a destination, the project's default without a name. Raises ConfigError."""
    target = project.destination(name)
    protocol = registry.canonical(target.protocol)
    adapter = registry.load(protocol)
    config = validate_connection(
        adapter.connection,
        target.connection,
        project.context,
        file=PROJECT_FILE,
        below=("destinations", target.name),
    )
    return PreparedDestination(target.name, protocol, adapter, config)
