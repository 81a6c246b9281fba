"""Getting into Oracle: the connection's settings, and the clients that they give, without Oracle's own.

Parameters: https://python-oracledb.readthedocs.io/en/latest/user_guide/connection_handling.html.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Self, cast

import oracledb
from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy import Engine, create_engine, event

from atlas_etl.config.exposure import refuse_exposed_to_all
from atlas_etl.connectors.base import PlainName, ProjectPath, ServerConnection, with_fields_of_options
from atlas_etl.connectors.sql._deadline import within
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._oracle.errors import translated
from atlas_etl.connectors.sql._oracle.tls import NamedContext
from atlas_etl.connectors.sql._server_trust import on_this_machine, system_authorities
from atlas_etl.connectors.sql._tunnel import LOOPBACK, Route
from atlas_etl.errors import AtlasError, ConfigError, SourceError, nearest

# Other drivers' names for what the model has as fields, e.g. in the query of a connection URI.
_FIELDS = {
    "user": "username",
    "service": "service_name",
    "ssl_server_cert": "ssl_ca",
    "wallet": "wallet_location",
}
_WALLET_FILE, _PRIVATE_KEY = "ewallet.pem", b"PRIVATE KEY-----"
_KEEPALIVE_MINUTES = 1  # after which a server that is gone is noticed, in the middle of a query too


class OracleConnection(ServerConnection):
    """An Oracle database, 12.1 or later, that is read.

    The user needs CREATE SESSION and SELECT (or READ) on what is read. To see when other transactions began,
    and so which rows may still be committed late, it needs SELECT on SYS.GV_$TRANSACTION and SYS.GV_$SESSION.
    """

    port: int | None = Field(default=1521, ge=1, le=65535)
    service_name: PlainName | None = Field(default=None, description="of the database, e.g. FREEPDB1")
    database: PlainName | None = Field(default=None, description="another name for `service_name`")
    sid: PlainName | None = Field(default=None, description="where the database has no service name")
    dsn: str | None = Field(
        default=None,
        description="instead of host, port and service_name: a name of tnsnames.ora, an Easy Connect string "
        "or a connect descriptor",
    )
    config_dir: ProjectPath | None = Field(default=None, description="folder of tnsnames.ora")
    default_schema: str | None = Field(
        default=None, description="of tables that are named without one; left out: the user's own"
    )
    tls: bool | None = Field(
        default=None,
        description="talk TLS (TCPS) to `host`; left out: true, but on this machine (loopback) false",
    )
    trust_server_certificate: bool = Field(default=False, description="take any certificate")
    ssl_ca: ProjectPath | None = Field(
        default=None, description="file of the authorities that are trusted; left out: the system's"
    )
    certificate_host: PlainName | None = Field(
        default=None, description="the name that the certificate has, where that is not `host`"
    )
    wallet_location: ProjectPath | None = Field(
        default=None,
        description="folder of ewallet.pem: our certificate and its key, or the authorities that are trusted",
    )
    wallet_password: SecretStr | None = None
    application_name: str = Field(default="atlas", description="how V$SESSION.PROGRAM names our sessions")
    empty_text_is_null: bool = Field(
        default=False,
        description="of a destination: let empty texts become NULL, which is all that Oracle has for them",
    )

    @model_validator(mode="before")
    @classmethod
    def _move_fields(cls, given: object) -> object:
        """Options that are fields, here or in another driver, go where they belong."""
        own = {name: name for name in cls.model_fields if name != "options"}
        moved = with_fields_of_options(given, {**own, **_FIELDS})
        if not isinstance(moved, dict):
            return moved
        names = {name: moved.get(name) for name in ("service_name", "database")}
        said = {name for name in names.values() if name}
        if len(said) > 1:
            raise ValueError("`service_name` and `database` are two names for one thing: give one of them")
        return {**moved, **dict.fromkeys(names, next(iter(said)))} if said else moved

    @field_validator("dsn")
    @classmethod
    def _without_login(cls, dsn: str | None) -> str | None:
        if dsn is not None and "@" in dsn:
            raise ValueError("should be the address alone: give `username` and `password` by themselves")
        if dsn is not None and dsn.strip().lower().startswith("config-"):  # which may hold keys of a store
            raise ValueError("should be the address itself, not where one is kept")
        return dsn

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options:
            hint = nearest(name, cls.model_fields) or "there are no others than the connection's own keys"
            raise ValueError(f"unknown option {name!r}: {hint}")
        return options

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if sum(each is not None for each in (self.service_name, self.sid, self.dsn)) > 1:
            raise ValueError("`service_name`, `sid` and `dsn` say which database: give one of them")
        if self.dsn is not None and (self.tunnel is not None or "host" in self.model_fields_set):
            raise ValueError("a `dsn` has its own host: give `host` and `service_name` for a tunnel")
        return self

    @property
    def home(self) -> str | None:
        """The schema of tables that are named without one."""
        return self.default_schema or (self.username.upper() if self.username else None)

    @property
    def speaks_tls(self) -> bool:
        """Whether `host` is talked to by TCPS."""
        return self.tls if self.tls is not None else not on_this_machine(self.host)

    def params(self, local_port: int | None) -> oracledb.ConnectParams:
        """What the driver is told, without the login; `local_port` is that of a tunnel.

        Raises ConfigError, and the driver's errors for a `dsn` that it cannot read.
        """
        if self.wallet_location is not None:
            _refuse_exposed_key(self.wallet_location / _WALLET_FILE)
        config_dir = str(self.config_dir) if self.config_dir else None
        found: oracledb.ConnectParams = oracledb.ConnectParams(
            config_dir=config_dir,
            tcp_connect_timeout=self.connect_timeout,
            retry_count=0,
            expire_time=_KEEPALIVE_MINUTES,
            program=self.application_name,
            wallet_location=str(self.wallet_location.absolute()) if self.wallet_location else None,
            wallet_password=self.wallet_password.get_secret_value() if self.wallet_password else None,
        )
        if self.dsn is not None:
            found.parse_connect_string(self.dsn)
            self._require_tls(found)
            found.set(ssl_context=self._context(None))
            if self.trust_server_certificate:
                found.set(ssl_server_dn_match=False)
            return found
        found.set(
            host=self.host if local_port is None else LOOPBACK,
            port=(self.port or 1521) if local_port is None else local_port,
            service_name=self.service_name,
            sid=self.sid,
            protocol="tcps" if self.speaks_tls else "tcp",
        )
        if self.speaks_tls:
            # The driver compares the certificate with the host that it connects to, as a tunnel's end.
            name = self.certificate_host or (self.host if local_port is not None else None)
            is_ours = name is not None or self.trust_server_certificate
            found.set(ssl_context=self._context(name), ssl_server_dn_match=not is_ours)
        return found

    def _require_tls(self, found: oracledb.ConnectParams) -> None:
        """Servers elsewhere prove who they are, unless `tls: false` was said. Raises ConfigError."""
        hosts = found.host if isinstance(found.host, list) else [found.host]
        protocols = found.protocol if isinstance(found.protocol, list) else [found.protocol]
        elsewhere = any(host and not on_this_machine(host) for host in hosts)
        if self.tls is not False and elsewhere and set(protocols) != {"tcps"}:
            raise ConfigError(
                "the `dsn` leads to another machine without TLS",
                hint="write it with tcps and the port that speaks TLS, or opt out with `tls: false`",
                code="tls",
            )

    def _context(self, name: str | None) -> ssl.SSLContext:
        try:
            context = NamedContext.of(name, str(self.ssl_ca) if self.ssl_ca else system_authorities())
        except OSError as failure:
            raise ConfigError(
                f"the TLS files cannot be used: {failure.strerror or failure}",
                hint="check `ssl_ca`",
                code="tls",
            ) from failure
        if self.trust_server_certificate:
            context.trust_all()
        return context


def _refuse_exposed_key(file: Path) -> None:
    """Raises ConfigError. Certificates alone are no secret; what cannot be read is the driver's to refuse."""
    with suppress(OSError):
        if _PRIVATE_KEY in file.read_bytes():
            refuse_exposed_to_all(file)


class Server:
    """A server and the way to it, which its clients share. `kind` is what their failures raise."""

    def __init__(self, config: OracleConnection, kind: Failure) -> None:
        self.config = config
        self.kind = kind
        self._route = Route(config, config.port or 1521, kind)

    def connected(self) -> oracledb.Connection:
        """A client. Raises `kind` and ConfigError."""
        config, local = self.config, self._route.local_port()
        place = (config.dsn or config.host, config.port or 1521)
        try:
            with translated(self.kind, place):
                params = config.params(local)
                return within(config.connect_timeout, lambda: self._client(params), _closed)
        except AtlasError as failure:
            raise self._route.refusal() or failure from None

    def close(self) -> None:
        """Close the tunnel, if there is one, under whatever still goes through it."""
        self._route.close()

    def _client(self, params: oracledb.ConnectParams) -> oracledb.Connection:
        # Until it is known to be thin, the driver has one login at a time, and all wait for one that hangs.
        oracledb.enable_thin_mode()  # type: ignore[no-untyped-call]
        password = self.config.password.get_secret_value() if self.config.password else None
        return oracledb.connect(user=self.config.username, password=password, params=params)


def _closed(client: oracledb.Connection) -> None:
    with suppress(oracledb.Error, OSError):
        client.close()


def engine(config: OracleConnection) -> Engine:
    """A SQLAlchemy engine; its URL has neither the server nor the password in it."""
    server = Server(config, SourceError)
    made = create_engine("oracle+oracledb://", creator=server.connected, hide_parameters=True)
    event.listen(made, "engine_disposed", lambda _: server.close())
    return made


def dispose(client: object) -> None:
    """Give back every connection of an engine."""
    cast(Engine, client).dispose()
