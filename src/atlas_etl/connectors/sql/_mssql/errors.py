"""What errors of SQL Server and FreeTDS mean for a person: ours, with a code and what to do next.

Numbers: https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
and, from 20000 on, FreeTDS's sybdb.h. Messages about values quote them; those are not kept.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pymssql

from atlas_etl.connectors.sql._meaning import (
    TABLE_EXISTS,
    Failure,
    Meaning,
    breaks_rule,
    does_not_fit,
    duplicate_key,
    raised,
)
from atlas_etl.connectors.sql._mssql.rows import INEXACT
from atlas_etl.errors import AtlasError, DestinationError

Place = tuple[str, int, float, bool]  # host, port, seconds, and whether the server has to prove who it is

_LOGIN = Meaning("authentication_failed", "check `username`, `password` and `database`")
_DENIED = Meaning(
    "permission_denied", "grant the login what it needs, e.g. GRANT SELECT ON SCHEMA::dbo TO etl"
)
_GONE = Meaning("server_gone", "the connection was lost; see the server's log if it happens again", True)
_CONFLICT = Meaning("conflict", "another transaction was in the way; it can be tried again", True)
_BUSY = Meaning("too_many_connections", "wait, lower --jobs, or raise the server's limit", True)
_SYNTAX = Meaning("sql", "check the query, the table and its columns")
_TLS = Meaning(
    "tls",
    "servers elsewhere have to prove who they are: name the file of the authority that signed their "
    "certificate, `ssl_ca: ca.pem`, and its name with `certificate_host` where that is not `host`; or opt "
    "out, with `trust_server_certificate: true` (encrypted, but to whoever answers)",
)
_WRITING_DENIED = Meaning(
    "permission_denied",
    "grant the login what it needs, e.g. GRANT CREATE SCHEMA, CREATE TABLE TO etl; in a schema that is not "
    "its own also GRANT ALTER, SELECT, INSERT, UPDATE, DELETE ON SCHEMA::shop TO etl",
)
_OF_NETWORK = frozenset({20004, 20005, 20006, 20017, 20047})
_MEANINGS: Mapping[int, Meaning] = {
    **dict.fromkeys((18452, 18456, 18470, 18486, 18487, 18488, 40615, 47073), _LOGIN),
    4060: Meaning("database_not_found", "check `database`, and that the login is a user of it"),
    911: Meaning("database_not_found", "check `database`"),
    **dict.fromkeys((229, 230, 262, 297, 300, 916), _DENIED),
    **dict.fromkeys((1205, 3951, 3958, 3960, 3961, 3966), _CONFLICT),
    3952: Meaning("sql", "allow snapshot isolation in each database that the view or query reads"),
    1222: Meaning("lock_timeout", "somebody holds a lock on it; wait, or raise `lock_timeout`", True),
    **dict.fromkeys((10928, 10929, 10936, 17809, 40501, 49918, 49919, 49920), _BUSY),
    **dict.fromkeys((40197, 40540, 40613, 6005, 596, *_OF_NETWORK), _GONE),
    20003: Meaning("timeout", "check host, port and firewalls, or raise `connect_timeout`", True),
    **dict.fromkeys(
        (1101, 1105, 9002), Meaning("disk_full", "free some space on the server, then run again")
    ),
    208: Meaning("table_not_found", "check the table's name; other schemas need `schema.table`"),
    207: Meaning("column_not_found", "check the column's name"),
    1033: Meaning("sql", "leave ORDER BY out of the query: rows are read in the cursor's order anyway"),
    8155: Meaning("sql", "give each column of the query a name with AS"),
    8156: Meaning("duplicate_column", "give each column a name of its own with AS"),
    **dict.fromkeys((102, 105, 113, 156, 170, 195, 241, 245, 2812, 4104, 8114, 8115, 8120, 8134), _SYNTAX),
}
_ABOUT_VALUES = frozenset({241, 245, 8114, 8115})
# What they mean of a system that is written.
_OF_WRITING: Mapping[int, Meaning] = {
    **dict.fromkeys((229, 230, 262, 297, 300, 916, 1088, 2760, 3701, 4902), _WRITING_DENIED),
    **dict.fromkeys((2714, 2759), TABLE_EXISTS),
    **dict.fromkeys((1204, 3902, 3903, 3930, 3998), _CONFLICT),
    **dict.fromkeys(
        (3906, 3908), Meaning("read_only", "connect to the primary server, or make the database writable")
    ),
    **dict.fromkeys(
        (511, 1701, 1702),
        Meaning(
            "row_too_large", "load fewer columns: name them in `columns`, or leave some out with `exclude`"
        ),
    ),
    **dict.fromkeys(
        (3725, 3726, 4922, 5074),
        Meaning("referenced", "drop the index, constraint or foreign key that needs the column as it is"),
    ),
}
# What a table refuses of a row; the server's own words may hold the value.
_VALUES: Mapping[int, str] = {
    515: "cannot be NULL",
    **dict.fromkeys((220, 8115), "has a number outside of its range"),
    **dict.fromkeys((241, 242), "has a date or time that it cannot hold"),
    **dict.fromkeys((245, 8114, 8169), "has a value that is not of its type"),
    **dict.fromkeys((2628, 8152), "has a value that is longer than it can hold"),
}
_UNIQUE, _RULE, _RAISED = frozenset({2601, 2627}), 547, 50000
_COLUMN, _KEY = re.compile(r"column '(?P<name>[^']+)'"), re.compile(r"(?:constraint|index) '(?P<name>[^']+)'")
_SAID = 20018  # "check messages from the SQL Server"
_UNKNOWN = "Unknown error"
_OF_LIBRARY = re.compile(r"DB-Lib error message (\d+), severity \d+:\n?")


@contextmanager
def translated(kind: Failure, place: Place | None = None) -> Iterator[None]:
    """Turn the driver's errors into `kind`; `place` is where a login goes."""
    try:
        yield
    except pymssql.Error as failure:
        # The driver's error has the server's words, and so values of rows, and nothing more for a person.
        raise meant(failure, kind, place) from None


def meant(failure: Exception, kind: Failure, place: Place | None = None) -> AtlasError:
    """Our error for one of the driver's."""
    number, text = _parts(failure)
    if place is not None and number == _SAID:
        return _LOGIN.failure(kind, "the server refused the login, and the driver does not tell why")
    if place is not None and (number not in _MEANINGS or number in _OF_NETWORK):
        return _unreached(kind, place)
    if kind is DestinationError:
        refused = _refused(number, text)
        if refused is not None:
            return refused
    meaning = (_OF_WRITING.get(number) if kind is DestinationError else None) or _MEANINGS.get(number)
    if meaning is None:
        is_closed = isinstance(failure, pymssql.InterfaceError) or "not connected" in text.lower()
        meaning = _GONE if is_closed else Meaning(kind.default_code)
    if number in _ABOUT_VALUES or isinstance(failure, pymssql.DataError):
        text = re.sub(r"'[^']*'", "'...'", text)
    return meaning.failure(kind, text or "the connection is closed")


def _refused(number: int, text: str) -> AtlasError | None:
    """The error for rows that a table does not take, in words without their values."""
    if INEXACT in text:
        return DestinationError(
            "the server does not read the digits of a floating point number as they are meant",
            hint="read that column as text or as a decimal with a query; and please report it",
            code="inexact_number",
        )
    if number in _UNIQUE:
        found = _KEY.search(text)
        return duplicate_key(found["name"] if found else None)
    if number == _RULE:
        found = _KEY.search(text.replace('"', "'"))
        return breaks_rule(found["name"] if found else None)
    if number >= _RAISED:
        return raised(text)
    if number not in _VALUES:
        return None
    found = _COLUMN.search(text)
    return does_not_fit(found["name"] if found else None, _VALUES[number])


def _parts(failure: Exception) -> tuple[int, str]:
    """The number and the words of the server, or else of the library.

    Where the server said nothing, the driver gives the number of what one said to an earlier session.
    """
    found = failure.args[0] if len(failure.args) == 1 and isinstance(failure.args[0], tuple) else failure.args
    raw = found[1] if len(found) > 1 else str(failure)
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    words = _OF_LIBRARY.split(text, maxsplit=1)[0].strip()
    if words and words != _UNKNOWN:
        return (found[0] if found and isinstance(found[0], int) else 0), words
    numbers = [int(each) for each in _OF_LIBRARY.findall(text)]
    number = next((each for each in (*numbers, 0) if each in _MEANINGS or each == _SAID), 0)
    return number, next((part.strip() for part in _OF_LIBRARY.split(text)[2::2] if part.strip()), words)


def _unreached(kind: Failure, place: Place) -> AtlasError:
    """FreeTDS tells a refused connection, an unknown host and a certificate that it does not take alike."""
    host, port, seconds, verifies = place
    meaning = Meaning("connection_failed", "check that SQL Server listens there, and `encrypt`", True)
    try:
        socket.create_connection((host, port), seconds).close()
        text = f"{host} port {port} ended the connection before the login"
        if verifies:
            meaning = _TLS
            text = "the server ended the login before it began: most likely its certificate is not trusted"
    except socket.gaierror as failure:
        meaning, text = Meaning("host_not_found", "check `host`"), f"{host}: {failure.strerror}"
    except TimeoutError:
        meaning = _MEANINGS[20003]
        text = f"{host} port {port} does not answer"
    except ConnectionRefusedError:
        meaning = Meaning("connection_refused", "check `host` and `port`, and that the server runs", True)
        text = f"{host} port {port} refuses connections"
    except OSError as failure:
        text = f"{host} port {port} cannot be reached: {failure.strerror}"
    return meaning.failure(kind, text)
