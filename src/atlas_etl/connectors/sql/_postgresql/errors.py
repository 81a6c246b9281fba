"""What PostgreSQL's and libpq's errors mean for a person: our errors, with a code and what to do next.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Only the primary message is kept:
DETAIL, CONTEXT and STATEMENT may hold a row's values, and so do quoted parts of data exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from atlas_etl.connectors.sql._meaning import ONLY_TABLES, TABLE_EXISTS, Failure, Meaning
from atlas_etl.connectors.sql._postgresql.waits import WaitingSession
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, RefusedRowError

_GONE = Meaning("server_gone", "the connection was lost; see the server's log if it happens again", True)
_LOGIN = Meaning("authentication_failed", "check `username` and `password`, and the server's pg_hba.conf")
_NO_DATABASE = Meaning("database_not_found", "check `database`; without it, it is the one named as the user")
_FULL = Meaning("disk_full", "free some space on the server's disk, then run again")
_TOO_MANY = Meaning("too_many_connections", "wait, lower --jobs, or raise max_connections", True)
_STARTING = Meaning("server_not_ready", "wait until the server accepts connections", True)
_TLS = Meaning(
    "tls",
    "servers elsewhere have to prove who they are: name the file of the authority that signed their "
    "certificate, `options: {sslrootcert: ca.pem}`; or opt out, with `sslmode: require` (encrypted, but to "
    "whoever answers) or `sslmode: disable`",
)
_TIMEOUT = Meaning("timeout", "check host, port and firewalls, or raise `connect_timeout`", True)
_CANCELLED = Meaning("cancelled", "somebody ended it there (pg_cancel_backend); ask who, and run again")
_PERMISSION = Meaning("permission_denied", "grant the role what it needs")

_SQLSTATES: Mapping[str, Meaning] = {
    "22021": Meaning(
        "data",
        "correct the data, or leave the column out with `exclude`; a query may give its bytes, with "
        "`convert_to(<column>, 'SQL_ASCII')`",
    ),
    "22P05": Meaning("data", "load into a database whose encoding is UTF8, or leave the column out"),
    "23503": Meaning(
        "foreign_key",
        "load the tables in the order of that foreign key (with --jobs 1), delete in the other, or drop it",
    ),
    "25006": Meaning("read_only", "connect to the primary server, or lift default_transaction_read_only"),
    "25P03": _GONE,
    "25P04": _GONE,
    "28000": _LOGIN,
    "28P01": _LOGIN,
    "2BP01": Meaning(
        "dependent_objects", "views or other objects use it: drop them, and make them again after"
    ),
    "3D000": _NO_DATABASE,
    "3F000": Meaning("table_not_found", "check the schema's name"),
    "40001": Meaning("conflict", "another transaction was in the way; it can be tried again", True),
    "40P01": Meaning("conflict", "two transactions waited for each other; it can be tried again", True),
    "42501": _PERMISSION,
    "42703": Meaning("column_not_found", "check the column's name"),
    "42P07": TABLE_EXISTS,
    "42P01": Meaning("table_not_found", "check the table's name; other schemas need `schema.table`"),
    "53100": _FULL,
    "53200": Meaning("out_of_memory", "the server ran out of memory"),
    "53300": _TOO_MANY,
    "55P03": Meaning("lock_timeout", "somebody holds a lock on it; wait, or raise `lock_timeout`", True),
    "57014": Meaning(
        "timeout",
        "raise `statement_timeout` of the connection (seconds; 0: none), which goes before the server's own",
    ),
    "57P03": _STARTING,
    "23505": Meaning(
        "constraint",
        "use the disposition merge; where the source has another key now, run with --full-refresh",
    ),
    "P0001": Meaning("raised", "a trigger of the table raised this; correct the data or the trigger"),
}
_CLASSES: Mapping[str, Meaning] = {
    "08": _GONE,
    "0A": Meaning("unsupported"),
    "22": Meaning("data", "look for the value in the query's or the table's data"),
    "23": Meaning("constraint", "the table's own constraint refused a row; correct the data or drop it"),
    "42": Meaning("sql", "check the query, the table and its columns"),
    "53": Meaning("resources"),
    "54": Meaning("limit", "this is more than PostgreSQL can hold; read fewer or smaller columns"),
    "57": _GONE,
}
_ENCODINGS = {  # the server's words for them tell the letter
    "22021": "a text is not in the database's encoding (SQL_ASCII takes any bytes)",
    "22P05": "a text has letters that the database's encoding does not have",
}
_GENERATED = "the table computes this column itself: leave it out, with `exclude` on the stream"
SEE_ALL_ROWS = "load as the table's owner (without FORCE ROW LEVEL SECURITY), or as a role with BYPASSRLS"
# What a load can do where a code says too little, by the words of English messages.
_LOADING: Mapping[str, str] = {
    "cannot copy to": ONLY_TABLES,
    "can only be updated to DEFAULT": "the table numbers this column itself, and a merge cannot "
    "change it: leave it out, with `exclude` on the stream, or let it be given: ALTER TABLE ... ALTER COLUMN "
    "... SET GENERATED BY DEFAULT",
    "is a generated column": _GENERATED,
    "cannot insert a non-DEFAULT value into": _GENERATED,
    "row-level security": SEE_ALL_ROWS,
    "invalid input syntax for type numeric": "the table's column is `numeric`, perhaps of an earlier load: "
    "where the source has texts now, --full-refresh makes the table again",
}
_OF_ROWS = ("22", "23", "44", "P0")  # their DETAIL and CONTEXT show values
# While connecting libpq gives no SQLSTATE, only words.
_REFUSALS: Mapping[str, Meaning] = {
    "could not translate host name": Meaning("host_not_found", "check `host`"),
    "failed to resolve host": Meaning("host_not_found", "check `host`"),
    "password authentication failed": _LOGIN,
    "no password supplied": _LOGIN,
    "no pg_hba.conf entry": _LOGIN,
    "authentication failed": _LOGIN,
    "is not permitted to log in": _LOGIN,
    "permission denied for database": _PERMISSION,
    "too many": _TOO_MANY,
    "remaining connection slots": _TOO_MANY,
    "the database system is": _STARTING,
    "timeout expired": _TIMEOUT,
    "timed out": _TIMEOUT,
    "SSL": _TLS,
    "certificate": _TLS,
    "Connection refused": Meaning(
        "connection_refused", "check `host` and `port`, and that the server runs and listens there", True
    ),
    "No such file or directory": Meaning(
        "connection_refused", "check the socket's folder in `host`, `port`, and that the server runs", True
    ),
    "server closed the connection": _GONE,
    "Connection reset": _GONE,
}
_NO_ROLE = re.compile(r'FATAL:.*\brole ".*" does not exist')
_MISSING_DATABASE = re.compile(r'FATAL:.*\bdatabase ".*" does not exist')
_SETTING = re.compile(r'(?:parameter|invalid sslmode value|invalid connection option)[: ]+"')
_DENIED = re.compile(
    r"permission denied for (?:materialized |foreign )?"
    r"(?P<kind>table|view|schema|database|relation) (?P<name>.+)"
)
_COPIED = re.compile(r"^COPY .*, line \d+, column ([^:\n]+)", re.MULTILINE)
_NO_TEMPORARY = re.compile(r'permission denied to create temporary tables in database "(?P<name>.+)"')
_NOT_OWNER = re.compile(r"must be owner of (?:table|relation) (?P<name>.+)")


@contextmanager
def translated(
    kind: Failure, session: psycopg.Connection[tuple[object, ...]] | None = None, *, about: str | None = None
) -> Iterator[None]:
    """Turn the driver's errors into `kind`, at the call that raised them; ConfigError for a wrong setting.

    `session` tells the role and `about` the quoted table that a GRANT would name.
    """
    try:
        yield
    except psycopg.Error as failure:
        meant = _meant(failure, kind, session, about)
        if (failure.sqlstate or "").startswith(_OF_ROWS):
            raise meant from None  # the cause would tell the row
        raise meant from failure


def refused(failure: psycopg.Error, kind: Failure) -> AtlasError:
    """Our error for a connection that did not come about."""
    text = str(failure).strip().partition("\n")[0]
    text = re.sub(r"^connection (?:failed|is bad): ", "", text)
    if isinstance(failure, psycopg.ProgrammingError) or _SETTING.search(text):
        return ConfigError(text, hint="correct it in `options`", code="option")
    if _MISSING_DATABASE.search(text):
        return _NO_DATABASE.failure(kind, text)
    if _NO_ROLE.search(text):
        return _LOGIN.failure(kind, text)
    found = next((meaning for words, meaning in _REFUSALS.items() if words in text), None)
    meaning = found or Meaning("connection_failed", "check the connection's settings")
    return meaning.failure(kind, text)


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


def _meant(
    failure: psycopg.Error,
    kind: Failure,
    session: psycopg.Connection[tuple[object, ...]] | None,
    about: str | None,
) -> AtlasError:
    state = failure.sqlstate
    if state is None:
        gone = session is None or session.closed or isinstance(failure, psycopg.OperationalError)
        meaning = _GONE if gone else Meaning(kind.default_code)
        return meaning.failure(kind, _first_line(str(failure)))
    text = failure.diag.message_primary or type(failure).__name__
    if state == "23505" and failure.diag.schema_name == "pg_catalog":  # it was made at the same time
        return TABLE_EXISTS.failure(kind, text)
    meaning = _SQLSTATES.get(state) or _CLASSES.get(state[:2]) or Meaning(kind.default_code)
    if state == "57014" and "user request" in text:
        meaning = _CANCELLED
    elif state == "57014":
        text = f"a statement took longer than its `statement_timeout`: {text}"
    if state[:2] in ("22", "42", "55") and _SETTING.search(text):  # of the settings in `options`
        return ConfigError(text, hint="correct it in `options`", code="option")
    text = _ENCODINGS.get(state, text)
    if state[:2] == "22":
        text = re.sub(r'"[^"]*"', '"..."', text)
    hint = meaning.hint
    if kind is DestinationError:
        hint = next((what for words, what in _LOADING.items() if words in text), hint)
    if state == "55P03" and isinstance(session, WaitingSession) and session.held_by is not None:
        text = f"{text}: it is held by {session.held_by.told}"
        end = f"SELECT pg_terminate_backend({session.held_by.session})"
        hint = f"wait until that session is done, or end it ({end}), or raise `lock_timeout`"
    if state == "42501" and session is not None:
        hint = _grant(text, kind, session, about) or hint
    if kind is DestinationError and (state[:2] in ("22", "23") or state == "P0001"):
        column = failure.diag.column_name or _copied_column(failure)
        text = f"column {column!r}: {text}" if column and column not in text else text
        return RefusedRowError(text, hint=hint, code=meaning.code, column=column)
    return kind(text, hint=hint, code=meaning.code, retryable=meaning.retryable)


def _copied_column(failure: psycopg.Error) -> str | None:
    found = _COPIED.search(failure.diag.context or "")
    return found[1] if found else None


def _grant(
    text: str, kind: Failure, session: psycopg.Connection[tuple[object, ...]], about: str | None
) -> str | None:
    """The statement that would allow what was denied, in English messages."""
    role, writes = quoted(session.info.user), kind is DestinationError
    if found := _NO_TEMPORARY.search(text):
        return f"GRANT TEMPORARY ON DATABASE {quoted(found['name'])} TO {role}"
    if found := _NOT_OWNER.search(text):
        return f"ALTER TABLE {about or quoted(found['name'])} OWNER TO {role}"
    found = _DENIED.search(text)
    if found is None:
        return None
    if found["kind"] == "database":
        return f"GRANT CREATE ON DATABASE {quoted(found['name'])} TO {role}"
    if found["kind"] == "schema":
        return f"GRANT USAGE{', CREATE' if writes else ''} ON SCHEMA {quoted(found['name'])} TO {role}"
    allowed = "SELECT, INSERT, UPDATE, DELETE" if writes else "SELECT"
    return f"GRANT {allowed} ON {about or quoted(found['name'])} TO {role}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
