"""Getting into PostgreSQL: the connection's settings.

What is left out is as libpq has it: PGPASSWORD, ~/.pgpass, PGSERVICE and the rest of
https://www.postgresql.org/docs/current/libpq-envars.html.
"""

from __future__ import annotations

import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from psycopg import pq, sql
from pydantic import Field, field_validator, model_validator

from atlas_etl.connectors.base import PlainName, ServerConnection, with_fields_of_options
from atlas_etl.connectors.sql._server_trust import on_this_machine, system_authorities

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

SNAPSHOT_MARK = " [atlas snapshot]"  # ends the application name of sessions that only ever read

LIBPQ = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())  # its parameters
# libpq's names for what the model has as fields, e.g. in the query of a connection URI.
_FIELDS = {
    "dbname": "database", "user": "username", "host": "host", "port": "port", "password": "password",
    "sslmode": "sslmode", "application_name": "application_name", "connect_timeout": "connect_timeout",
}  # fmt: skip
# How values are written and read, so not for anyone to change.
_PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",  # else a NULL that was cast to text comes back as 'NULL'
    "quote_all_identifiers": "off",  # of the types' names
    "idle_in_transaction_session_timeout": "0",  # the other end of a transfer may be slow
}
_RESERVED = {name.lower() for name in _PINNED} | {"client_encoding", "replication"}
# https://www.postgresql.org/docs/current/libpq-ssl.html
_ROOTS = Path("~/.postgresql/root.crt").expanduser()
_ELSEWHERE = frozenset({"hostaddr", "service", "load_balance_hosts"})
# A peer that vanished is noticed in two minutes; the system's own defaults take hours.
_KEEPALIVES = {
    "keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6, "tcp_user_timeout": 120_000,
}  # fmt: skip
_APPLICATION_NAME_BYTES = 63


class PostgresConnection(ServerConnection):
    """A PostgreSQL database.

    `options` holds libpq's connection parameters (sslrootcert, keepalives, options...) by their own
    names; any other name is a setting of the server (work_mem, search_path...), set for each transaction.
    """

    host: PlainName = Field(default="localhost", description="host name, address, or the folder of a socket")
    port: int | None = Field(default=5432, ge=1, le=65535)
    database: PlainName | None = Field(default=None, description="left out: the one named as the user")
    sslmode: SslMode | None = Field(
        default=None,
        description="left out: prefer on this machine (loopback, sockets), verify-full elsewhere",
    )
    application_name: str = Field(default="atlas", description="how the server names our sessions")
    statement_timeout: float | None = Field(
        default=None, ge=0, description="seconds that one statement may take; left out: as the server says"
    )
    lock_timeout: float = Field(default=60, ge=0, description="seconds to wait for a lock; 0: for ever")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="libpq's connection parameters, and settings of the server"
    )

    @model_validator(mode="before")
    @classmethod
    def _move_fields(cls, given: object) -> object:
        """Options that are fields under libpq's name go where they belong, but for ports of several hosts."""
        options = given.get("options") if isinstance(given, dict) else None
        several = isinstance(options, dict) and "," in str(options.get("port"))
        fields = {name: field for name, field in _FIELDS.items() if not (several and name == "port")}
        return with_fields_of_options(given, fields)

    @model_validator(mode="after")
    def _one_server_behind_a_tunnel(self) -> Self:
        if self.tunnel is None:
            return self
        if self.host.startswith(("/", "@")) or "," in self.host:
            raise ValueError("a tunnel leads to one host and port, not to a socket's folder or several hosts")
        if clash := _ELSEWHERE & self.options.keys():
            raise ValueError(f"option {min(clash)!r} says where the server is, which the tunnel does")
        return self

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options:
            if name.lower() in _RESERVED:
                raise ValueError(f"option {name!r} is set by Atlas itself")
            near = get_close_matches(name, LIBPQ, 1, 0.9)
            # A server's setting would be looked up only after logging in: too late for a misspelt sslmode.
            if name not in LIBPQ and (name.startswith("ssl") or (near and near[0] not in name)):
                raise ValueError(
                    f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
                )
        return options

    def tls_parameters(self) -> dict[str, str]:
        """`sslmode`, and whose certificates are trusted where nothing else says that."""
        mode = (
            self.sslmode or os.environ.get("PGSSLMODE") or ("prefer" if self._is_local() else "verify-full")
        )
        found = {"sslmode": mode}
        is_elsewhere = "sslrootcert" in self.options or "PGSSLROOTCERT" in os.environ or _ROOTS.exists()
        if mode == "verify-full" and not is_elsewhere:
            found["sslrootcert"] = system_authorities()
        return found

    def _is_local(self) -> bool:
        if self.tunnel is not None:
            return on_this_machine(self.host)
        if "service" in self.options or "PGSERVICE" in os.environ:  # may lead anywhere
            return False
        address = self.options.get("hostaddr") or os.environ.get("PGHOSTADDR") or ""
        return on_this_machine(self.host) and on_this_machine(str(address))

    def libpq_parameters(self) -> dict[str, str]:
        """What psycopg.connect takes; the password is among it."""
        found: dict[str, object] = {
            "host": self.host,
            "port": self.port or 5432,
            "dbname": self.database,
            "user": self.username,
            "password": self.password.get_secret_value() if self.password else None,
            **self.tls_parameters(),
            "application_name": self.application_name,
            "connect_timeout": math.ceil(self.connect_timeout),
            **_KEEPALIVES,
            **{
                name: int(v) if isinstance(v, bool) else v
                for name, v in self.options.items()
                if name in LIBPQ
            },
            "client_encoding": "UTF8",
        }
        return {name: str(value) for name, value in found.items() if value is not None}

    def server_settings(self) -> dict[str, str]:
        """The options that are settings of the server."""
        chosen = {name: value for name, value in self.options.items() if name not in LIBPQ}
        return {
            name: ("on" if value else "off") if isinstance(value, bool) else str(value)
            for name, value in chosen.items()
        }

    def opening(self, mode: str, *, snapshot: bool = False, imported: str | None = None) -> str:
        """The statements that begin a transaction of this mode, its settings pinned.

        `imported` names a snapshot that another transaction has exported.
        """
        # No query may come before it.
        seen = f"SET TRANSACTION SNAPSHOT {sql.Literal(imported).as_string(None)}; " if imported else ""
        return f"BEGIN {mode}; {seen}{self.settings(snapshot=snapshot)}"

    def settings(self, *, snapshot: bool = False) -> str:
        """The statement that pins the settings of the transaction that it is in.

        They are the transaction's own and not the session's, so that a pooler in front of the server
        cannot lose them or hand them to others.
        """
        settings = {**_PINNED, "lock_timeout": _milliseconds(self.lock_timeout)}
        if self.statement_timeout is not None:
            settings["statement_timeout"] = _milliseconds(self.statement_timeout)
        if snapshot:
            size = _APPLICATION_NAME_BYTES - len(SNAPSHOT_MARK)
            name = self.application_name.encode()[:size].decode(errors="ignore")
            settings["application_name"] = name + SNAPSHOT_MARK
        settings |= self.server_settings()
        calls = [sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in settings.items()]
        return f"SELECT {sql.SQL(', ').join(calls).as_string(None)}"


def _milliseconds(seconds: float) -> str:
    return str(math.ceil(seconds * 1000))
