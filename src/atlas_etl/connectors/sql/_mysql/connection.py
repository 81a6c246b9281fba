"""Getting into MySQL and MariaDB: the connection's settings, and the clients that they give."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias, cast

import pymysql
from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy import Engine, create_engine, event

from atlas_etl.config.exposure import refuse_exposed_to_all
from atlas_etl.connectors.base import PlainName, ProjectPath, ServerConnection, with_fields_of_options
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._mysql.errors import translated
from atlas_etl.connectors.sql._server_trust import on_this_machine
from atlas_etl.connectors.sql._tunnel import LOOPBACK, Route
from atlas_etl.errors import ConfigError, SourceError, nearest

Client: TypeAlias = "pymysql.Connection[Any]"
SslMode = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]

# Of PyMySQL's connect(), those that neither have a field nor change how values are written and read.
_OPTIONS = ("bind_address", "init_command", "read_timeout", "write_timeout", "server_public_key")
_NO_COMPRESSION = "cannot be had: the driver does not compress; a tunnel can, as with `ssh -C`"
_REFUSED = {
    "compress": _NO_COMPRESSION,
    "compression": _NO_COMPRESSION,
}
# Other drivers' names for what the model has as fields, e.g. in the query of a connection URI.
_FIELDS = {
    "db": "database", "user": "username", "passwd": "password", "program_name": "application_name",
    "socket": "unix_socket", "ssl-mode": "ssl_mode", "sslmode": "ssl_mode", "sslMode": "ssl_mode",
    "ssl-ca": "ssl_ca", "ssl-cert": "ssl_cert", "ssl-key": "ssl_key",
}  # fmt: skip
_VERIFYING = ("verify_ca", "verify_identity")


class MySQLConnection(ServerConnection):
    """A MySQL or MariaDB server.

    `options` holds further parameters of PyMySQL's connect() (https://pymysql.readthedocs.io): bind_address,
    init_command, read_timeout, write_timeout, server_public_key.
    """

    port: int | None = Field(default=3306, ge=1, le=65535)
    database: PlainName | None = Field(
        default=None, description="left out: tables are named `database.table`"
    )
    unix_socket: str | None = Field(
        default=None, description="the server's socket file, in the place of host and port"
    )
    charset: Literal["utf8mb4"] = Field(
        default="utf8mb4", description="of the connection; the server converts"
    )
    application_name: str = Field(default="atlas", description="how the server names our sessions")
    lock_timeout: int = Field(default=60, ge=1, description="seconds to wait for a lock")
    local_infile: bool = Field(
        default=False,
        description="send rows by LOAD DATA LOCAL, which costs the server less; it must allow that",
    )
    ssl_mode: SslMode | None = Field(
        default=None,
        description="left out: verify_identity, but on this machine (loopback, sockets) preferred, or "
        "verify_ca where ssl_ca is given",
    )
    ssl_ca: ProjectPath | None = Field(default=None, description="file of the authorities that are trusted")
    ssl_cert: ProjectPath | None = Field(default=None, description="file of our own certificate")
    ssl_key: ProjectPath | None = Field(default=None, description="file of its key")
    ssl_key_password: SecretStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _move_fields(cls, given: object) -> object:
        """Options that are fields, here or in another driver, go where they belong."""
        own = {name: name for name in cls.model_fields if name != "options"}
        return with_fields_of_options(given, {**own, **_FIELDS})

    @model_validator(mode="after")
    def _no_socket_behind_a_tunnel(self) -> Self:
        if self.tunnel is not None and (self.unix_socket or "bind_address" in self.options):
            raise ValueError("a tunnel leads to `host` and `port`, without `unix_socket` and `bind_address`")
        return self

    @field_validator("ssl_mode", mode="before")
    @classmethod
    def _spelled(cls, mode: object) -> object:
        return mode.lower().replace("-", "_") if isinstance(mode, str) else mode

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options:
            if name in _REFUSED:
                raise ValueError(f"`{name}` {_REFUSED[name]}")
            if name not in _OPTIONS:
                hint = (
                    nearest(name, (*_OPTIONS, *cls.model_fields)) or f"the options are {', '.join(_OPTIONS)}"
                )
                raise ValueError(f"unknown option {name!r}: {hint}")
        return options

    @property
    def effective_ssl_mode(self) -> SslMode:
        if self.ssl_mode is not None:
            return self.ssl_mode
        if self.unix_socket is None and not on_this_machine(self.host):
            return "verify_identity"
        return "verify_ca" if self.ssl_ca else "preferred"

    def parameters(self) -> dict[str, Any]:
        """What pymysql.connect takes; the password is among it. Raises ConfigError for TLS files."""
        found: dict[str, object] = {
            "host": self.host,
            "port": self.port or 3306,
            "database": self.database,
            "user": self.username,
            # As bytes: PyMySQL would write text as latin1.
            "password": self.password.get_secret_value().encode() if self.password else None,
            "unix_socket": self.unix_socket,
            "connect_timeout": self.connect_timeout,
            "program_name": self.application_name,
            **{name: float(v) if name.endswith("_timeout") else v for name, v in self.options.items()},
            **self._tls(),
        }
        pinned = {"charset": self.charset, "autocommit": True, "local_infile": self.local_infile}
        return {**{name: value for name, value in found.items() if value is not None}, **pinned}

    def _tls(self) -> dict[str, object]:
        mode = self.effective_ssl_mode
        if mode == "disabled" or (mode == "preferred" and self.unix_socket):
            return {"ssl_disabled": True}
        if mode == "preferred" and not self.ssl_cert:
            return {}
        try:
            context = _trusting_all()
            if mode in _VERIFYING:
                context = ssl.create_default_context(cafile=str(self.ssl_ca) if self.ssl_ca else None)
                # The certificates that MySQL makes for itself are not strictly X.509.
                context.verify_flags &= ~ssl.VERIFY_X509_STRICT
                context.check_hostname = mode == "verify_identity"
            if self.ssl_cert:
                refuse_exposed_to_all(self.ssl_key or self.ssl_cert)  # where there is no file of its own
                password = self.ssl_key_password.get_secret_value() if self.ssl_key_password else ""
                context.load_cert_chain(self.ssl_cert, self.ssl_key, password)
        except OSError as failure:
            raise ConfigError(
                f"the TLS files cannot be used: {failure.strerror or failure}",
                hint="check `ssl_ca`, `ssl_cert`, `ssl_key` and `ssl_key_password`",
                code="tls",
            ) from failure
        return {"ssl": context}


class _Client(pymysql.Connection):
    """PyMySQL's connection, which would read the system's certificates where it is to verify none.

    With `local_infile` it would also send any file that the server asks for; this one sends none.
    """

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**{**parameters, "defer_connect": True})
        self._local_infile = False
        if not parameters.get("defer_connect"):
            self.connect()

    def _create_ssl_ctx(self, given: object) -> ssl.SSLContext:
        return given if isinstance(given, ssl.SSLContext) else _trusting_all()


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Server:
    """A server and the way to it, which its clients share. `kind` is what their failures raise."""

    def __init__(self, config: MySQLConnection, kind: Failure) -> None:
        self.config = config
        self.kind = kind
        self._route = Route(config, config.port or 3306, kind)

    def open_client(self) -> Client:
        """A connection in autocommit mode. Raises `kind` and ConfigError."""
        parameters = self.config.parameters()
        with translated(self.kind):
            return self.connected(parameters)

    def connected(self, parameters: Mapping[str, Any]) -> Client:
        """A client of these parameters, by the server's way. Raises PyMySQL's errors, `kind` and ConfigError.

        Through a tunnel, certificates are still compared with `host`.
        """
        port = self._route.local_port()
        if port is None:
            return _Client(**parameters)
        client = _Client(**parameters, defer_connect=True)
        client.connect(self._greeted(port))
        return client

    def close(self) -> None:
        """Close the tunnel, if there is one, under whatever still goes through it."""
        self._route.close()

    def _greeted(self, port: int) -> socket.socket:
        """A socket on which the server has begun to speak, as it does first: else nothing is behind it."""
        stream = socket.create_connection((LOOPBACK, port), self.config.connect_timeout)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            spoke = bool(stream.recv(1, socket.MSG_PEEK))
        except OSError:
            spoke = False
        if spoke:
            return stream
        stream.close()
        raise self._route.refusal() or self.kind(
            f"the server does not answer{self.config.way}",
            hint="check `host` and `port`, as the SSH host sees them",
            code="connection_failed",
            retryable=True,
        )


def engine(config: MySQLConnection) -> Engine:
    """A SQLAlchemy engine; its URL has neither the server nor the password in it."""
    parameters = {**config.parameters(), "autocommit": False}
    server = Server(config, SourceError)
    made = create_engine(
        "mysql+pymysql://", creator=lambda: server.connected(parameters), hide_parameters=True
    )
    event.listen(made, "engine_disposed", lambda _: server.close())
    return made


def dispose(client: object) -> None:
    """Give back every connection of an engine."""
    cast(Engine, client).dispose()
