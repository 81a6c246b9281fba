"""What errors of MySQL, MariaDB and PyMySQL mean for a person: ours, with a code and what to do next.

Numbers: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and
https://mariadb.com/kb/en/mariadb-error-code-reference/. Messages about values quote them; those are not kept.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec.structs import replace
from pymysql import err

from atlas_etl.connectors.sql._lock_waits import Holder, LockWaits
from atlas_etl.connectors.sql._meaning import (
    TABLE_EXISTS,
    Failure,
    Meaning,
    does_not_fit,
    duplicate_key,
    raised,
)
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, RefusedRowError

_LOGIN = Meaning(
    "authentication_failed", "check `username` and `password`, and from where the account may log in"
)
_DENIED = Meaning("permission_denied", "grant the account what it needs")
_GONE = Meaning("server_gone", "the connection was lost; see the server's log if it happens again", True)
_BUSY = Meaning("too_many_connections", "wait, lower --jobs, or raise max_connections", True)
_LOCKED = Meaning("lock_timeout", "somebody holds a lock on it; wait, or raise `lock_timeout`", True)
_CONFLICT = Meaning("conflict", "another transaction was in the way; it can be tried again", True)
_STOPPED = Meaning("timeout", "the server stopped the statement; raise its limit for this account")
_FULL = Meaning("disk_full", "free some space on the server's disk, then run again")
_WIDE = Meaning(
    "row_too_large", "load fewer columns: name them in `columns`, or leave some out with `exclude`"
)
_PACKET = Meaning("packet_too_large", "raise max_allowed_packet on the server, at most to 1 GiB")
_SYNTAX = Meaning("sql", "check the query, the table and its columns")
_TABLE = Meaning("table_not_found", "check the table's name; other databases need `database.table`")
_READ_ONLY = Meaning("read_only", "connect to the primary server, or lift its read_only or tx_read_only")
_NO_INNODB = Meaning("no_innodb", "only InnoDB can undo a load: let the server make its tables")
_KEYLESS = Meaning(
    "no_primary_key",
    "set sql_generate_invisible_primary_key on the server (MySQL) or innodb_force_primary_key off (MariaDB), "
    "or merge by short keys",
)
_TLS = Meaning(
    "tls",
    "servers elsewhere have to prove who they are: name the file of the authority that signed their "
    "certificate, `ssl_ca: ca.pem`, with `ssl_mode: verify_ca` where it has not the name of the "
    "host; or opt out, with `ssl_mode: required` (encrypted, but to whoever answers) or `ssl_mode: disabled`",
)
_UNREACHABLE = Meaning("connection_failed", "check `host` and `port`", True)

_MEANINGS: Mapping[int, Meaning] = {
    **dict.fromkeys((1045, 1130, 1251, 1698, 1820, 1862, 2059, 3118, 4151), _LOGIN),
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370, 1410), _DENIED),
    **dict.fromkeys((1040, 1203, 1226), _BUSY),
    **dict.fromkeys((1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2055, 4031), _GONE),
    **dict.fromkeys((1213, 1412, 3572), _CONFLICT),
    **dict.fromkeys((1317, 1969, 3024), _STOPPED),
    **dict.fromkeys((1021, 1114), _FULL),
    **dict.fromkeys((1117, 1118, 1074), _WIDE),
    **dict.fromkeys((1153, 1301, 2020), _PACKET),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1051, 1146), _TABLE),
    **dict.fromkeys((1052, 1055, 1064, 1065, 1066, 1111, 1128, 1140, 1149, 1210, 1221, 1222, 1235), _SYNTAX),
    **dict.fromkeys((1241, 1242, 1248, 1267, 1271, 1305, 1318, 1356, 1582, 1630, 1690, 2034, 2053), _SYNTAX),
    1050: TABLE_EXISTS,
    **dict.fromkeys(
        (1148, 3948, 4166),
        Meaning("local_infile", "SET GLOBAL local_infile = ON on the server, or leave `local_infile` out"),
    ),
    1046: Meaning("database_not_found", "set `database`, or write `database.table`"),
    1049: Meaning("database_not_found", "check `database`"),
    1054: Meaning("column_not_found", "check the column's name"),
    1060: Meaning("duplicate_column", "give each column a name of its own with AS"),
    1129: Meaning("authentication_failed", "the server blocks this host: run FLUSH HOSTS there"),
    1170: Meaning(
        "key_changed", "run with --full-refresh: a key column becomes text, which its index cannot hold"
    ),
    1205: _LOCKED,
    1451: Meaning("referenced", "drop the foreign key that refers to the row, or use the disposition merge"),
    2026: _TLS,
    3159: Meaning("tls", "the server wants encryption: set `ssl_mode: required`"),
    **dict.fromkeys((1173, 3750), _KEYLESS),
}
# What a table refuses of a row; the server's own words may hold the value.
_VALUES: Mapping[int, str] = {
    1048: "cannot be NULL",
    1263: "cannot be NULL",
    1264: "has a number outside of its range",
    1265: "has a value that it cannot hold exactly",
    1292: "has a date, time or address that it cannot hold",
    1364: "needs a value and gets none",
    1366: "has a value that is not of its type",
    1406: "has a value that is longer than it can hold",
}
_LETTERS = (
    "has letters that its character set does not have; CONVERT TO CHARACTER SET utf8mb4 gives the table all"
)
_RULES = frozenset({1216, 1369, 1452, 1526, 3819, 4025})  # of the table, about a row
_DUPLICATE = 1062
_RAISED = 1644  # SIGNAL in a trigger
_COLUMN = re.compile(r"[Cc]olumn (?:`[^`]*`\.`[^`]*`\.)?[`'](?P<name>.+?)[`'](?: at row| cannot be|$)")
_COMMAND = re.compile(
    r"(?P<what>[A-Z][A-Z ,]*?) command denied to user (?P<who>'.*?'@'.*?') "
    r"for (?:table|column .* in table) (?P<table>.+)"
)
_DATABASE = re.compile(r"Access denied for user (?P<who>'.*?'@'.*?') to database '(?P<database>.*)'")
LOAD_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE TEMPORARY TABLES"


@contextmanager
def translated(kind: Failure, waits: LockWaits | None = None) -> Iterator[None]:
    """Turn the driver's errors into `kind`, at the call that raised them; RefusedRowError for a row.

    `waits` tells who held a lock that was waited for.
    """
    try:
        yield
    except err.MySQLError as failure:
        meant = _meant(failure, kind)
        if meant.code == _LOCKED.code and waits is not None and waits.held_by is not None:
            meant = _held(meant, waits.held_by, kind)
        if isinstance(meant, RefusedRowError):
            raise meant from None  # the cause would tell the value
        raise meant from failure
    except RuntimeError as failure:
        if "LOAD_LOCAL" in str(failure):
            raise kind(
                "the server asks for a file of this machine, which nobody asked it to load",
                hint="it was not given; find out who runs this server",
                code="hostile_server",
            ) from failure
        if "cryptography" not in str(failure):
            raise
        raise ConfigError(
            "this account's password may only be sent encrypted, and the connection is not",
            hint='set `ssl_mode: required`, or pip install "PyMySQL[rsa]"',
            code="tls",
        ) from failure


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it."""
    return "`" + identifier.replace("`", "``") + "`"


def _meant(failure: err.MySQLError, kind: Failure) -> AtlasError:
    number = failure.args[0] if failure.args and isinstance(failure.args[0], int) else 0
    text = str(failure.args[1]) if len(failure.args) > 1 else str(failure) or type(failure).__name__
    if number in (2002, 2003, 2005):
        return _unreachable(failure, text, kind)
    if number == _DUPLICATE:
        return _duplicate(text)
    refused = refused_value(number, text) if kind is DestinationError else None
    if refused is not None:
        return refused
    meaning = _WIDE if "Too many columns" in text else _MEANINGS.get(number)
    if meaning is _READ_ONLY and "NO_ENGINE_SUBSTITUTION" in text:
        meaning = _NO_INNODB
    if meaning is None:
        meaning = Meaning(kind.default_code)
        if isinstance(failure, err.InterfaceError):
            meaning = _GONE
        elif isinstance(failure, err.ProgrammingError | err.NotSupportedError):
            meaning = _SYNTAX
        text = re.sub(r"'[^']*'", "'...'", text) if isinstance(failure, err.DataError) else text
    meaning = replace(meaning, hint=_grant(text, kind) or meaning.hint)
    return meaning.failure(kind, text or "the connection is closed")


def _held(failure: AtlasError, holder: Holder, kind: Failure) -> AtlasError:
    end = f"or end it (KILL {holder.session}), " if holder.session is not None else ""
    hint = f"wait until that session is done, {end}or raise `lock_timeout`"
    return replace(_LOCKED, hint=hint).failure(kind, f"{failure.message}: it is held by {holder.told}")


def refused_value(number: int, text: str) -> RefusedRowError | None:
    """The error for a warning or an error that says that a table does not take a value as it is."""
    if number in _RULES:
        return RefusedRowError(
            re.sub(r"for value .*", "for the value", text),
            hint="correct the data or the table",
            code="constraint",
        )
    if number == _RAISED:
        return raised(text)
    if number not in _VALUES:
        return None
    found = _COLUMN.search(text)
    why = _LETTERS if "Incorrect string value" in text else _VALUES[number]
    return does_not_fit(found["name"] if found else None, why)


def refused_load(warnings: Sequence[tuple[int, str]]) -> RefusedRowError:
    """The error for rows of LOAD DATA LOCAL that the server changed or left out: it only warns of them."""
    for number, text in warnings:
        refused = _duplicate(text) if number == _DUPLICATE else refused_value(number, text)
        if refused is not None:
            return refused
    said = "; ".join(re.sub(r"'[^']*'", "'...'", text) for _, text in warnings[:1]) or "it does not say why"
    return RefusedRowError(
        f"the server does not take the rows as they are: {said}",
        hint="set `local_infile: false`, so that each row is inserted or refused",
        code="constraint",
    )


def _unreachable(failure: err.MySQLError, text: str, kind: Failure) -> AtlasError:
    cause = getattr(failure, "original_exception", None)
    meaning = _UNREACHABLE
    if isinstance(cause, ssl.SSLError):
        meaning = _TLS
    elif isinstance(cause, socket.gaierror):
        meaning = Meaning("host_not_found", "check `host`")
    elif isinstance(cause, TimeoutError):
        meaning = Meaning("timeout", "check host, port and firewalls, or raise `connect_timeout`", True)
    elif isinstance(cause, ConnectionRefusedError):
        meaning = Meaning("connection_refused", "check `host` and `port`, and that the server runs", True)
    elif isinstance(cause, FileNotFoundError | PermissionError):
        meaning = Meaning("connection_refused", "check `unix_socket`, and that the server runs")
    return meaning.failure(kind, text)


def _duplicate(text: str) -> RefusedRowError:
    key = re.search(r"for key '(?:.*\.)?(?P<key>.+?)'", text)
    return duplicate_key(key["key"] if key else None)


def _grant(text: str, kind: Failure) -> str | None:
    """The statement that would allow what was denied, in English messages."""
    if found := _DATABASE.search(text):
        wanted = LOAD_RIGHTS if kind is DestinationError else "SELECT"
        grant = f"GRANT {wanted} ON {quoted(found['database'])}.* TO {found['who']}"
        return f"{grant}; or choose a database that exists with `into`" if kind is DestinationError else grant
    if found := _COMMAND.search(text):
        table = found["table"].strip("'")
        table = table if "`" in table else quoted(table)
        return f"GRANT {found['what']} ON {table} TO {found['who']}"
    return None
