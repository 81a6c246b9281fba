"""What errors of Oracle and its driver mean for a person: ours, with a code and what to do next.

Numbers: https://docs.oracle.com/error-help/db/ for ORA, and the driver's own errors.py for DPY. Messages
about values quote them; those are not kept.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import oracledb

from atlas_etl.connectors.sql._meaning import (
    TABLE_EXISTS,
    Failure,
    Meaning,
    breaks_rule,
    does_not_fit,
    duplicate_key,
    raised,
)
from atlas_etl.errors import AtlasError, DestinationError, RefusedRowError

Place = tuple[str, int]  # where a login goes, as a message names it

_LOGIN = Meaning("authentication_failed", "check `username` and `password`")
_LOCKED = Meaning("authentication_failed", "have the account unlocked, or its password renewed")
_SERVICE = Meaning("database_not_found", "check `service_name`, or set `sid` where the database has none")
_DENIED = Meaning("permission_denied", "grant the user what it needs, e.g. GRANT SELECT ON hr.orders TO etl")
_GONE = Meaning("server_gone", "the connection was lost; see the server's log if it happens again", True)
_CONFLICT = Meaning("conflict", "another transaction was in the way; it can be tried again", True)
_BUSY = Meaning("too_many_connections", "wait, lower --jobs, or raise the server's limit", True)
_STARTING = Meaning("server_starting", "the database is starting or shutting down; try again", True)
_ROOM = Meaning("permission_denied", "give the user a quota: ALTER USER etl QUOTA UNLIMITED ON users")
_READ_ONLY = Meaning("read_only", "connect to the primary database")
_SYNTAX = Meaning("sql", "check the query, the table and its columns")
_VALUE = Meaning("sql", "the query meets a value that it cannot convert")
_OLD = Meaning(
    "snapshot_too_old",
    "the server no longer has the rows as they were: raise UNDO_RETENTION or the undo tablespace, or load in "
    "smaller windows",
    True,
)
_UNSUPPORTED = Meaning("not_supported", "the driver's thin mode cannot do it; see its message")
_TLS = Meaning(
    "tls",
    "servers elsewhere have to prove who they are, on a port that speaks TLS (TCPS, often 2484): name the "
    "authority that signed their certificate with `ssl_ca` or `wallet_location`; or opt out, with "
    "`tls: false` (not encrypted) or `trust_server_certificate: true` (encrypted, to whoever answers)",
)
_TIMEOUT = Meaning("timeout", "check host, port and firewalls, or raise `connect_timeout`", True)
_UNREACHED = Meaning("connection_failed", "check that an Oracle listener is there, and `tls`", True)

_OF_SERVER: Mapping[int, Meaning] = {
    1017: _LOGIN, 1005: _LOGIN, 1004: _LOGIN, 28000: _LOCKED, 28001: _LOCKED, 28002: _LOCKED,
    1045: Meaning("permission_denied", "GRANT CREATE SESSION to the user"),
    1031: _DENIED, 41900: _DENIED,
    942: Meaning("table_not_found", "check the name, and that the user may SELECT from it"),
    904: Meaning("column_not_found", "check the column's name"),
    918: Meaning("duplicate_column", "give each column of the query a name of its own with AS"),
    998: Meaning("sql", "give each column of the query a name with AS"),
    **dict.fromkeys((60, 8177, 8176, 1453), _CONFLICT),
    **dict.fromkeys((1555, 22924, 8180, 8181), _OLD),
    **dict.fromkeys((54, 30006, 4021), Meaning("lock_timeout", "somebody holds a lock on it; wait", True)),
    1591: Meaning("in_doubt", "a distributed transaction has to be committed or rolled back by hand first"),
    **dict.fromkeys((18, 20, 2391, 12516, 12519, 12520), _BUSY),
    **dict.fromkeys((1033, 1034, 1089, 1090, 1109, 12528), _STARTING),
    **dict.fromkeys((12514, 12505, 12521, 12504), _SERVICE),
    **dict.fromkeys((28, 31, 603, 1012, 1092, 2396, 2399, 3113, 3114, 3135, 12571, 25408), _GONE),
    **dict.fromkeys((1652, 1653, 1654, 1688, 1691, 30036),
                    Meaning("disk_full", "give the tablespace some room on the server, then run again")),
    955: TABLE_EXISTS,
    **dict.fromkeys((1536, 1950), _ROOM),
    **dict.fromkeys((16000, 16397), _READ_ONLY),
    2292: Meaning("referenced", "rows of another table point at these: drop that foreign key"),
    1456: _SYNTAX,
    1013: Meaning("interrupted"),
    **dict.fromkeys((1722, 1858, 1861, 1843, 1847, 6502, 1489, 22835, 40478, 40441), _VALUE),
    **dict.fromkeys((900, 903, 907, 911, 923, 932, 933, 936, 979, 1740, 1747, 1756, 3048, 3049), _SYNTAX),
}  # fmt: skip
_OF_DRIVER: Mapping[str, Meaning] = {
    "DPY-4001": _LOGIN,
    "DPY-4011": _GONE,
    "DPY-4033": _GONE,
    "DPY-1001": _GONE,
    "DPY-4024": _TIMEOUT,
    "DPY-6001": _SERVICE,
    "DPY-6003": Meaning("database_not_found", "check `sid`, or set `service_name`"),
    "DPY-6000": _UNREACHED,
    "DPY-6005": _UNREACHED,
    "DPY-6002": _TLS,
    "DPY-6006": _TLS,
    "DPY-6008": _TLS,
    "DPY-4000": Meaning("invalid_dsn", "check `dsn`, and `config_dir`, the folder of tnsnames.ora"),
    "DPY-4017": Meaning("invalid_dsn", "check `dsn`"),
    "DPY-4018": Meaning("invalid_dsn", "check `dsn`"),
    "DPY-4026": Meaning("invalid_dsn", "check `config_dir`, the folder of tnsnames.ora"),
    "DPY-4027": Meaning("invalid_dsn", "set `config_dir`, the folder of tnsnames.ora"),
    "DPY-2020": _TLS,
    "DPY-4010": Meaning("sql", "a query has no parameters: write values instead of `:name`"),
    "DPY-3010": Meaning("server_too_old", "the driver needs Oracle Database 12.1 or later"),
    "DPY-3015": Meaning(
        "authentication_failed", "the account has only a password of Oracle 10g: have it set anew"
    ),
}
# What a row has that its table does not take.
_REFUSED: Mapping[int, str] = {
    **dict.fromkeys((1400, 1407), "cannot be NULL"),
    **dict.fromkeys((12899, 1401, 1461), "cannot hold a value as long as one that comes"),
    **dict.fromkeys((1438, 1426), "cannot hold a number as large as one that comes"),
}
_RULES = frozenset({2290, 2291})
_RAISED = range(20000, 21000)  # by RAISE_APPLICATION_ERROR
_QUOTED = re.compile(r'"([^"]+)"')
_CONSTRAINT = re.compile(r"\(([^()]+)\)")
# Whose messages quote what was given to the driver, or what the server answered.
_QUOTING = frozenset({"DPY-4000", "DPY-4017", "DPY-4018", "DPY-4019", "DPY-4021"})
_RENDERED = re.compile(r"^(?:ORA|DPY)-\d+: ")
_SIMILAR = re.compile(r"Similar to ORA-(\d+)")
_TEXTS = re.compile(r"'[^']*'")
_VALUES = frozenset({1722, 1858, 1861, 1843, 1847, 6502})


@contextmanager
def translated(kind: Failure, place: Place | None = None) -> Iterator[None]:
    """Turn the driver's errors into `kind`; `place` is where a login goes."""
    try:
        yield
    except UnicodeDecodeError:
        meaning = Meaning("invalid_text", "read a query that leaves the column out, or repairs it")
        raise meaning.failure(kind, "the server's answer has a text that is no text") from None
    except (oracledb.Error, OSError) as failure:
        # The driver's error has the server's words, and so values of rows, and nothing more for a person.
        raise meant(failure, kind, place) from None


def meant(failure: Exception, kind: Failure, place: Place | None = None) -> AtlasError:
    """Our error for one of the driver's, or of the sockets that it lets through."""
    cause = _of_network(failure)
    if cause is not None and place is not None:
        return _unreached(cause, kind, place)
    found = _said(failure)
    number, name = int(getattr(found, "code", 0)), str(getattr(found, "full_code", ""))
    if name == "DPY-6000" and (similar := _SIMILAR.search(str(found))):
        number = int(similar[1])
    if kind is DestinationError and (refused := _refused(number, str(found))) is not None:
        return refused
    meaning = _OF_SERVER.get(number) or _OF_DRIVER.get(name)
    if meaning is None:
        is_dead = bool(getattr(found, "is_session_dead", False)) or isinstance(failure, OSError)
        meaning = _GONE if is_dead else Meaning(kind.default_code)
        if isinstance(failure, oracledb.NotSupportedError):
            meaning = _UNSUPPORTED
    return meaning.failure(kind, _words(str(found or failure), number, name, place))


def _words(text: str, number: int, name: str, place: Place | None) -> str:
    """The server's own first line, with its number; without the values that it quotes."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Help:")]
    of_server = next((line for line in lines if line.startswith(f"ORA-{number:05}")), None)
    line = of_server or (lines[0] if lines else "the connection is closed")
    if name == "DPY-6005" and place is not None:
        return f"{place[0]} port {place[1]} ended the connection before the login"
    if name in _QUOTING:
        return f"{name}: the address cannot be read"
    if number in _VALUES:
        line = _TEXTS.sub("'...'", line)
    return line if of_server else _RENDERED.sub("", line)


def _refused(number: int, text: str) -> RefusedRowError | None:
    """The error for rows that a table does not take, in words without their values."""
    line = text.partition("\n")[0]
    if number == 1 or number in _RULES:
        found = _CONSTRAINT.search(line)
        constraint = found[1].rpartition(".")[2] if found else None
        return duplicate_key(constraint) if number == 1 else breaks_rule(constraint)
    if number in _REFUSED:
        names = _QUOTED.findall(line)
        return does_not_fit(names[-1] if names else None, _REFUSED[number])
    return raised(_RENDERED.sub("", line)) if number in _RAISED else None


def _said(failure: Exception) -> object:
    """The driver's account of a failure; of a connection that failed, of why it did."""
    found = failure.args[0] if failure.args else None
    cause = failure.__cause__
    if getattr(found, "full_code", "") == "DPY-6005" and isinstance(cause, oracledb.Error) and cause.args:
        known = cause.args[0]
        if getattr(known, "full_code", "") not in ("", "DPY-4011"):
            return known
    return found


def _of_network(failure: Exception) -> OSError | None:
    """What the operating system or TLS said, where that is why."""
    if isinstance(failure, OSError):
        return failure
    return failure.__cause__ if isinstance(failure.__cause__, OSError) else None


def _unreached(cause: OSError, kind: Failure, place: Place) -> AtlasError:
    host, port = place
    if isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "") or "TLS is not spoken there"
        return _TLS.failure(kind, f"{host} port {port} cannot be trusted: {why}")
    if isinstance(cause, socket.gaierror):
        return Meaning("host_not_found", "check `host`").failure(kind, f"{host}: {cause.strerror}")
    if isinstance(cause, TimeoutError):
        return _TIMEOUT.failure(kind, f"{host} port {port} does not answer")
    if isinstance(cause, ConnectionRefusedError):
        meaning = Meaning("connection_refused", "check `host` and `port`, and that the listener runs", True)
        return meaning.failure(kind, f"{host} port {port} refuses connections")
    return _UNREACHED.failure(kind, f"{host} port {port} cannot be reached: {cause.strerror or cause}")
