"""One connector with everything its run needs, validated; nothing is opened yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from atlas_etl.api.audit import definition_settings
from atlas_etl.api.kept_secrets import Exchange, KeptSecrets, WriteSecrets
from atlas_etl.config.connection import connector_connection, validate_connection
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import LoadedDefinition, load_definition
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.layers import Layered
from atlas_etl.config.project import Project
from atlas_etl.config.project_folder import PROJECT_FILE
from atlas_etl.config.references import expand
from atlas_etl.config.secrecy import referred_secrets
from atlas_etl.config.secret_references import stored_name
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import Adapter, BaseConnector, ConnectionConfig, Tape
from atlas_etl.connectors.rotation import KeptNowhere, SecretKeeper
from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import ConfigError, UsageError, nearest
from atlas_etl.model import Disposition, Settings, Stream, TableName
from atlas_etl.protection.connector import ProtectedConnector
from atlas_etl.protection.keys import KeyHolder, no_keys
from atlas_etl.secrets.folder import FOLDER

_SENT = frozenset({"auth", "headers", "params", "body", "variables"})


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

    def to_load_into(self) -> PreparedDestination:
        """The same. Raises ConfigError (`in_memory`) where rows would be gone with this process."""
        key = self.config.in_memory_without
        if key is not None:
            raise ConfigError(
                f"destination {self.name!r} is in memory: rows that are loaded into it are gone at once",
                hint=f"give it a file: `{key}`",
                code="in_memory",
            )
        return self

    def refuse_one_table(self, connector: str, streams: Sequence[Stream]) -> None:
        """Raise ConfigError (`name_collision`) where tables of streams are one that is spelt in two ways.

        Streams that spell it alike are meant to share it. Raises AtlasError where the system has to be asked
        how it compares names, and cannot be.
        """
        spelt = {str(self._landing(connector, stream)): stream.name for stream in streams}
        if len(spelt) == len({table.lower() for table in spelt}):
            return
        folded = self.adapter.table_folding(self.config)
        for one, other in combinations(spelt, 2):
            if folded(one) == folded(other):
                raise ConfigError(
                    f"{spelt[one]} and {spelt[other]} would land in one table, {one}",
                    hint="give one of the streams another table with `into`",
                    code="name_collision",
                    connector=connector,
                )

    def _landing(self, connector: str, stream: Stream) -> TableName:
        into = stream.into
        if into is None:
            return TableName(stream.name, connector)
        return TableName(into.name, (into.schema or connector) if self.adapter.has_schemas else None)


@dataclass(frozen=True, slots=True)
class PreparedConnector:
    """A connector of the project, validated."""

    definition: ConnectorDefinition
    protocol: str
    adapter: Adapter[Any] = field(repr=False)
    config: ConnectionConfig = field(repr=False)
    sent_references: tuple[str, ...] = field(default=(), repr=False)  # what references in it stand for
    keeper: SecretKeeper = field(default_factory=KeptNowhere, repr=False)  # of what it rotates
    memory: Path | None = None  # folder of what it has to know after it was killed
    tape: Tape | None = None
    settings: Settings = field(default_factory=dict, repr=False)  # as the audit keeps them
    keys: KeyHolder = field(default_factory=no_keys, repr=False)  # of hashes and tokens

    @property
    def name(self) -> str:
        return self.definition.name

    def open(self) -> Connector:
        """The connector, which protects each stream by its rules.

        Raises ConfigError where the protocol is only written.
        """
        if self.adapter.connector is None:
            raise ConfigError(
                f"protocol {self.protocol!r} cannot be read from",
                hint="`atlas connector types` shows which protocols are",
                code="not_readable",
                connector=self.name,
            )
        if self.tape is not None and self.adapter.taped is not None:
            connector = self.adapter.taped(self.config, self.tape)
        else:
            connector = self.adapter.connector(self.config)
        if isinstance(connector, BaseConnector) and (self.tape is None or self.tape.use == "record"):
            connector.keep_rotated(self.keeper)
            if self.memory is not None:
                connector.remember_in(self.memory)
        return ProtectedConnector(connector, self.keys)

    def on_tape(self, path: Path, use: Literal["record", "replay"]) -> PreparedConnector:
        """The connector whose requests go to a file, or whose answers come from one.

        Raises UsageError where its protocol sends no requests (`not_recordable`), where a recording would
        replace a file or hold what `protect` hides, and where there is none to replay (`cassette`).
        """
        if self.adapter.taped is None:
            raise UsageError(
                f"protocol {self.protocol!r} cannot be recorded or replayed: it sends no HTTP requests",
                hint="--record and --replay are for APIs, such as the protocols http, graphql and soap",
                code="not_recordable",
                connector=self.name,
            )
        if use == "record" and any(stream.protect for stream in self.streams()):
            raise UsageError(
                "a recording would hold the values that `protect` hides",
                hint="record the same without `protect`, from an API with invented data",
                code="cassette",
                connector=self.name,
            )
        if use == "record" and (path.exists() or not path.parent.is_dir()):
            why = "is there already" if path.exists() else "is in a folder that does not exist"
            raise UsageError(f"{path} {why}", hint="record into a new file", code="cassette")
        if use == "replay" and not path.is_file():
            raise UsageError(f"there is no file {path}", hint="make one with --record", code="cassette")
        return dataclasses.replace(self, tape=Tape(path, use, self.sent_references))

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


def prepare_connector(
    project: Project, name: str, write: WriteSecrets, exchange: Exchange, keys: KeyHolder
) -> PreparedConnector:
    """Load and validate one connector; `write` stores those of its secrets that its system replaces.

    Raises ConfigError, UnknownProtocolError, MissingDriverError.
    """
    return prepare_loaded(
        project, load_definition(project.folder, name, project.context.environ), write, exchange, keys
    )


def prepare_loaded(
    project: Project, loaded: LoadedDefinition, write: WriteSecrets, exchange: Exchange, keys: KeyHolder
) -> PreparedConnector:
    """Validate the connection of a definition that was loaded. Raises as `prepare_connector`."""
    lookups = project.context.lookups
    project = replace(project, context=project.context.remembering())
    try:
        protocol = registry.canonical(loaded.definition.protocol)
        adapter = registry.load(protocol)
        layered = connector_connection(project, loaded, protocol, adapter.connection)
        config = validate_connection(adapter.connection, layered, project.context, file=loaded.file)
    except ConfigError as failure:
        failure.connector = failure.connector or loaded.definition.name
        raise
    found = list(_references(layered, project))
    sent = [value for path, _, value in found if any(part in _SENT for part in path)]
    sent += [secret for _, text, _ in found for secret in referred_secrets(text, project.context)]
    stored = {value: stored for _, text, value in found if (stored := stored_name(text)) is not None}
    keeper: SecretKeeper = KeptNowhere()
    if stored:
        keeper = KeptSecrets(stored, read=lookups["secret"], write=write, exchange=exchange)
    settings = definition_settings(loaded.written.values)
    return PreparedConnector(
        loaded.definition,
        protocol,
        adapter,
        config,
        tuple(sent),
        keeper,
        memory=project.folder / FOLDER,
        settings=settings,
        keys=keys,
    )


def _references(layered: Layered, project: Project) -> Iterator[tuple[KeyPath, str, str]]:
    """The scalars of a connection that hold references: where, as written, and what they stand for."""
    expanded = expand(layered, project.context, ("connection",))
    for path, text in expanded.references.items():
        value: Any = expanded.values
        for part in path:
            value = value[part]
        yield path, text, str(value)


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
