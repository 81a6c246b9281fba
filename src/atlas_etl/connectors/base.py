"""What every protocol's file is made of: its connection model, its adapter, and the public BaseConnector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, Self, TypeVar

import pyarrow as pa
from msgspec import Struct
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from atlas_etl import values
from atlas_etl.connectors.rotation import SecretKeeper
from atlas_etl.connectors.row_files import FileForm
from atlas_etl.contracts import Connector, Destination, Extract
from atlas_etl.model import ConnectionStatus, ReadRequest, Stream, StreamInfo


class ConnectionConfig(BaseModel):
    """How to get into one system. Each protocol's model names its fields as that system's users do."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @property
    def in_memory_without(self) -> str | None:
        """The key that would name a file, where all is gone with this process; None: nothing is."""
        return None


def _in_project(path: Path, info: ValidationInfo) -> Path:
    """Relative paths begin at the project's folder, given as the validation context's `project`.

    Raises ValueError for a text of several lines, such as the key itself in the place of its file, and for
    one with a NUL, where DuckDB takes the path to end.
    """
    if "\n" in str(path):
        raise ValueError("should be the path of a file, and has several lines")
    if "\0" in str(path):
        raise ValueError("should be the path of a file, and has a NUL character")
    folder = (info.context or {}).get("project")
    path = path.expanduser()
    if path.anchor == "//":  # which POSIX leaves to each system: here it is the root, as everywhere
        path = Path("/", *path.parts[1:])
    return folder / path if folder is not None and not path.is_absolute() else path


ProjectPath = Annotated[Path, AfterValidator(_in_project)]


def _not_a_uri(text: str) -> str:
    """Raises ValueError for a URI, in which a password would stand where every message shows it."""
    if "://" in text:
        raise ValueError("should be a name, not a URI: give host, port, database, username and password")
    return text


PlainName = Annotated[str, AfterValidator(_not_a_uri)]


class Tunnel(ConnectionConfig):
    """An SSH server that forwards to the database: the connection's `host` and `port` are as it sees them.

    Its key has to be in `known_hosts`, or to be the one that `host_key` names: an unknown one is refused.
    """

    host: PlainName
    port: int = Field(default=22, ge=1, le=65535)
    username: PlainName
    key: ProjectPath | None = Field(
        default=None,
        description="file of the private key; without it, `private_key` and `password`: "
        "the keys of the SSH agent and those in ~/.ssh",
    )
    private_key: SecretStr | None = Field(
        default=None, description="the private key itself, in the place of its file"
    )
    passphrase: SecretStr | None = Field(default=None, description="of an encrypted private key")
    password: SecretStr | None = None
    known_hosts: ProjectPath | None = Field(
        default=None, description="file of the known hosts' keys; left out: ~/.ssh/known_hosts"
    )
    host_key: str | None = Field(
        default=None,
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}$",
        description="fingerprint of the server's key, as `ssh-keygen -l` shows it, instead of known_hosts",
    )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key is not None and self.private_key is not None:
            raise ValueError("`key` and `private_key` are two ways to say one thing: give one of them")
        return self


class ServerConnection(ConnectionConfig):
    """A database server: where it listens and who logs in."""

    host: PlainName = "localhost"
    port: int | None = Field(default=None, ge=1, le=65535)
    database: PlainName | None = None
    username: PlainName | None = None
    password: SecretStr | None = None
    connect_timeout: float = Field(default=10, gt=0, description="seconds to wait for the server")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="further options of the driver, e.g. sslmode"
    )
    tunnel: Tunnel | None = Field(default=None, description="an SSH server that forwards to this one")

    @property
    def way(self) -> str:
        """How the server is reached, to be put behind what a test of it found; empty: straight."""
        return f", through SSH host {self.tunnel.host}" if self.tunnel else ""


def with_fields_of_options(given: object, fields: Mapping[str, str]) -> object:
    """What a model was given, the options that are its fields (name -> field) moved to where they belong.

    Raises ValueError for one that is given twice.
    """
    options = given.get("options") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(options, dict):
        return given
    moved = {fields[name]: value for name, value in options.items() if name in fields}
    for name in moved:
        if given.get(name) is not None:
            raise ValueError(f"`{name}` is given twice: by itself and in `options`")
    return {**given, **moved, "options": {name: v for name, v in options.items() if name not in fields}}


class IngestedItem(Struct, frozen=True):
    """One row, as the public library gives it back.

    `data` has a value for each column, by its name, NULL as None; `source` is the connector's protocol.
    """

    data: dict[str, object]
    source: str


class IngestionResult(Struct, frozen=True):
    """The rows of one `fetch_data` call: `len(result)` of them, `for item in result`.

    `schema` has the columns, in order, in Arrow's types, also where there are no rows; a field's metadata
    name its type in the source. `items` are in the order in which the source gave them.
    """

    items: tuple[IngestedItem, ...]
    schema: pa.Schema

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[IngestedItem]:
        return iter(self.items)


Config = TypeVar("Config", bound=ConnectionConfig)


class BaseConnector(ABC, Generic[Config]):
    """A connection that is read from (contracts.Connector), with the calls that scripts and notebooks use."""

    def __init__(self, config: Config, *, protocol: str) -> None:
        self.config = config
        self.protocol = protocol

    def connect(self) -> Self:
        """Reach the system now rather than at the first read; gives back the connector itself.

        Raises SourceError where it cannot be reached, logged in to or read.
        """
        self.test()
        return self

    def fetch_data(self, query: str) -> IngestionResult:
        """Every row of a query (SQL), a path (files) or a resource (HTTP), in memory: for small answers.

        Cells are Python's own values: int, Decimal, float, str, bytes, bool, date, time, UUID, list; datetime
        with UTC as its zone for instants, and naive where the source knows no zone; microseconds throughout.
        A column with nanoseconds that these cannot hold is ISO 8601 text, and so is what has no exact type.
        Raises SourceError where the source fails or the query is wrong, HazardError at a value without an
        exact form, such as an infinite date.
        """
        with self.open(ReadRequest(self.stream_of(query))) as extract:
            rows = pa.Table.from_batches(extract.batches(), schema=extract.schema)
        items = (IngestedItem(row, self.protocol) for row in _with_python_times(rows).to_pylist())
        return IngestionResult(tuple(items), rows.schema)

    def stream_of(self, query: str) -> Stream:
        """The stream that `fetch_data` reads."""
        return Stream(name="query", query=query)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def keep_rotated(self, keeper: SecretKeeper) -> None:  # most systems replace no secrets
        """Tell the keeper of each secret that the system replaces by another one, before that is used."""

    def remember_in(self, folder: Path) -> None:  # most systems are left nothing behind
        """Keep in this folder, made when needed, what the next process has to know if this one is killed."""

    @abstractmethod
    def test(self) -> ConnectionStatus:
        """Reach the system, log in, and say what is there. Raises SourceError where it could not be read."""

    @abstractmethod
    def discover(self) -> Sequence[StreamInfo]:
        """Every table, view, file pattern or resource, and its columns. Raises SourceError."""

    @abstractmethod
    def describe(self, stream: Stream) -> StreamInfo:
        """One stream's columns and key. Raises SourceError (`table_not_found`, `column_not_found`)."""

    @abstractmethod
    def open(self, request: ReadRequest) -> AbstractContextManager[Extract]:
        """Open one snapshot of one stream, read in Arrow batches of about 16 MiB (contracts.Connector).

        Raises SourceError, NullCursorError and DataError.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back every connection; may be called twice."""


@dataclass(frozen=True, slots=True)
class Tape:
    """A file that a run's requests and answers are written to, or that answers instead of the system."""

    path: Path
    use: Literal["record", "replay"]
    secrets: tuple[str, ...] = field(default=(), repr=False)  # that the definition got from elsewhere


class Adapter(Struct, Generic[Config], frozen=True):
    """What a protocol's module offers, under the name `ADAPTER`.

    `connector` or `destination` is None where the protocol is not read or not written. `client` makes
    the native client (a SQLAlchemy engine for SQL) and `dispose` gives it back.
    """

    connection: type[Config]
    client: Callable[[Config], object]
    dispose: Callable[[object], None]
    connector: Callable[[Config], Connector] | None = None
    destination: Callable[[Config], Destination] | None = None
    default_streams: Callable[[Config], tuple[Stream, ...]] = lambda _: ()  # of a definition without streams
    taped: Callable[[Config, Tape], Connector] | None = (
        None  # `connector`, whose answers a tape takes or gives
    )
    form: Callable[[Config], FileForm] | None = None  # how one file of the protocol is written
    home: Callable[[Config], str | None] = lambda _: None  # the schema of tables that are named without one
    table_folding: Callable[[Config], Callable[[str], str]] = lambda _: str  # makes names of one table equal
    has_schemas: bool = True  # whether a destination's tables stand in the schema that is asked for
    thread_bound: bool = False  # whether a client may only be used by the thread that made it
    shared: bool = False  # whether one connector, or one destination, may serve several threads at once


def _with_python_times(rows: pa.Table) -> pa.Table:
    """Times in microseconds, as Python has them; text where one has nanoseconds."""
    for index, each in enumerate(rows.schema):
        if not (pa.types.is_timestamp(each.type) or pa.types.is_time64(each.type)):
            continue
        if each.type.unit != "ns":
            continue
        exact = pa.timestamp("us", each.type.tz) if pa.types.is_timestamp(each.type) else pa.time64("us")
        try:
            column = rows.column(index).cast(exact)
        except pa.ArrowInvalid:
            column = pa.chunked_array([values.to_text(chunk) for chunk in rows.column(index).chunks])
        rows = rows.set_column(index, each.name, column)
    return rows
