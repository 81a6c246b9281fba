"""Getting into SQL Server: the connection's settings, and the clients that they give."""

from __future__ import annotations

import threading
from typing import Literal, Self, cast

import pymssql
from pydantic import Field, field_validator, model_validator
from pymssql import _mssql
from sqlalchemy import Engine, create_engine, event

from atlas_etl.connectors.base import PlainName, ProjectPath, ServerConnection, with_fields_of_options
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._mssql import freetds
from atlas_etl.connectors.sql._mssql.errors import translated
from atlas_etl.connectors.sql._server_trust import on_this_machine, system_authorities
from atlas_etl.connectors.sql._tunnel import LOOPBACK, Route
from atlas_etl.errors import AtlasError, ConfigError, SourceError, nearest

# Other drivers' names for what the model has as fields, e.g. in the query of a connection URI.
_FIELDS = {
    "server": "host", "user": "username", "uid": "username", "pwd": "password", "appname": "application_name",
    "Encrypt": "encrypt", "encryption": "encrypt", "TrustServerCertificate": "trust_server_certificate",
    "ApplicationIntent": "application_intent",
}  # fmt: skip
_SPELLED = {"yes": "mandatory", "true": "mandatory", "require": "mandatory", "request": "optional",
            "no": "optional", "false": "optional", "off": "optional"}  # fmt: skip
_FREETDS = {"mandatory": "require", "optional": "request", "strict": "strict"}
_connected = threading.local()


class MSSQLConnection(ServerConnection):
    """A Microsoft SQL Server, or an Azure SQL database.

    To read, the login needs SELECT. To see when other transactions began, and so which rows may still
    be committed late, it needs VIEW SERVER PERFORMANCE STATE (before SQL Server 2022: VIEW SERVER STATE; in
    Azure SQL Database: VIEW DATABASE STATE). Rows come from one snapshot where the database allows it: ALTER
    DATABASE ... SET ALLOW_SNAPSHOT_ISOLATION ON. To write, it needs CREATE SCHEMA and CREATE TABLE. Logins
    are SQL Server's own; a named instance has a `port`.
    """

    port: int | None = Field(default=1433, ge=1, le=65535)
    database: PlainName | None = Field(default=None, description="left out: the login's default database")
    default_schema: str = Field(default="dbo", description="of tables that are named without one")
    encrypt: Literal["mandatory", "optional", "strict"] | None = Field(
        default=None,
        description="left out: mandatory, but on this machine (loopback) optional",
    )
    trust_server_certificate: bool | None = Field(
        default=None,
        description="take any certificate; left out: only of servers that are on this machine",
    )
    ssl_ca: ProjectPath | None = Field(
        default=None, description="file of the authorities that are trusted; left out: the system's"
    )
    certificate_host: PlainName | None = Field(
        default=None, description="the name that the certificate has, where that is not `host`"
    )
    application_name: str = Field(default="atlas", description="how the server names our sessions")
    application_intent: Literal["read_write", "read_only"] = Field(
        default="read_write", description="read_only: a listener may lead to a readable secondary"
    )
    lock_timeout: int = Field(default=60, ge=1, description="seconds to wait for a lock")

    @model_validator(mode="before")
    @classmethod
    def _move_fields(cls, given: object) -> object:
        """Options that are fields, here or in another driver, go where they belong."""
        own = {name: name for name in cls.model_fields if name != "options"}
        return with_fields_of_options(given, {**own, **_FIELDS})

    @field_validator("encrypt", mode="before")
    @classmethod
    def _spelled(cls, given: object) -> object:
        text = str(given).lower() if isinstance(given, str | bool) else given
        return _SPELLED.get(text, text) if isinstance(text, str) else text

    @field_validator("application_intent", mode="before")
    @classmethod
    def _intended(cls, given: object) -> object:
        spelled = {"readonly": "read_only", "readwrite": "read_write"}
        return spelled.get(given.lower(), given) if isinstance(given, str) else given

    @field_validator("host")
    @classmethod
    def _no_instance(cls, host: str) -> str:
        if "\\" in host or "," in host or any(letter <= " " for letter in host):
            raise ValueError("should be a host alone; give `port` instead of an instance's name")
        return host

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options:
            hint = nearest(name, cls.model_fields) or "there are no others than the connection's own keys"
            raise ValueError(f"unknown option {name!r}: {hint}")
        return options

    @model_validator(mode="after")
    def _encrypted_where_verified(self) -> Self:
        if self.encrypt == "optional" and self.verifies:
            raise ValueError(
                "`encrypt: optional` verifies nobody: with it, set `trust_server_certificate: true`"
            )
        return self

    @property
    def verifies(self) -> bool:
        """Whether the server has to prove who it is."""
        if self.trust_server_certificate is not None:
            return not self.trust_server_certificate
        return self.ssl_ca is not None or not on_this_machine(self.host)

    @property
    def effective_encrypt(self) -> str:
        if self.encrypt is not None:
            return self.encrypt
        return "mandatory" if self.verifies or not on_this_machine(self.host) else "optional"

    def section(self, host: str, port: int) -> freetds.Settings:
        """What FreeTDS has to know beside the login. Raises ConfigError for a file that is not there."""
        found = {
            "host": host,
            "port": str(port),
            "tds version": "7.4",
            "client charset": "UTF-8",
            "encryption": _FREETDS[self.effective_encrypt],
        }
        if not self.verifies:
            return found
        authorities = str(self.ssl_ca.absolute()) if self.ssl_ca else system_authorities()
        try:
            with open(authorities, "rb"):
                pass
        except OSError as failure:
            raise ConfigError(
                f"the TLS files cannot be used: {failure.strerror or failure}",
                hint="check `ssl_ca`",
                code="tls",
            ) from failure
        return {
            **found,
            "ca file": authorities,
            "check certificate hostname": "yes",
            "certificate hostname": self.certificate_host or self.host,
        }


class Server:
    """A server and the way to it, which its clients share. `kind` is what their failures raise."""

    def __init__(self, config: MSSQLConnection, kind: Failure) -> None:
        self.config = config
        self.kind = kind
        self._route = Route(config, config.port or 1433, kind)

    def connected(self, *, autocommit: bool = True) -> pymssql.Connection:
        """A client. Raises `kind` and ConfigError."""
        config, local = self.config, self._route.local_port()
        host, port = (LOOPBACK, local) if local is not None else (config.host, config.port or 1433)
        name = freetds.section(config.section(host, port))
        place = (host, port, config.connect_timeout, config.verifies)
        try:
            with translated(self.kind, place):
                return pymssql.connect(
                    server=name,
                    port=str(port),
                    user=config.username,
                    password=config.password.get_secret_value() if config.password else None,
                    database=config.database or "",
                    login_timeout=max(1, round(config.connect_timeout)),
                    appname=config.application_name,
                    read_only=config.application_intent == "read_only",
                    autocommit=autocommit,
                )
        except AtlasError as failure:
            raise self._route.refusal() or failure from None

    def close(self) -> None:
        """Close the tunnel, if there is one, under whatever still goes through it."""
        self._route.close()


def descriptor_of(client: pymssql.Connection) -> int | None:
    """The socket of a client, which the driver tells only to who waits with it."""
    _mssql.set_wait_callback(_remember)
    with client.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
    return getattr(_connected, "descriptor", None)


def _remember(descriptor: int) -> None:
    _connected.descriptor = descriptor


def engine(config: MSSQLConnection) -> Engine:
    """A SQLAlchemy engine; its URL has neither the server nor the password in it."""
    server = Server(config, SourceError)
    made = create_engine(
        "mssql+pymssql://", creator=lambda: server.connected(autocommit=False), hide_parameters=True
    )
    event.listen(made, "engine_disposed", lambda _: server.close())
    return made


def dispose(client: object) -> None:
    """Give back every connection of an engine."""
    cast(Engine, client).dispose()
