"""One session on Oracle, its settings pinned; every call translates the driver's errors.

What the driver fetches a column into decides whether its values are exact: numbers are fetched as their
digits, LOBs whole instead of by locator, and text so that bytes which are no text are kept (_oracle.types
finds them).
https://python-oracledb.readthedocs.io/en/latest/user_guide/sql_execution.html#output-type-handlers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import oracledb

from atlas_etl.connectors.sql._fetching import Batches, gathered
from atlas_etl.connectors.sql._oracle.connection import Server
from atlas_etl.connectors.sql._oracle.errors import translated
from atlas_etl.connectors.sql._oracle.literals import quoted
from atlas_etl.connectors.sql._oracle.rows import Size
from atlas_etl.connectors.sql._oracle.types import Described, decoded, is_unbounded
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import BatchLimits

_PIECE_ROWS, _LONG_PIECE_ROWS = 1024, 16  # that one answer brings, of short values and of LOBs
# How values are written and texts compared, and what a login's defaults or a trigger could have changed.
_PINNED = (
    "ALTER SESSION SET NLS_LANGUAGE = 'AMERICAN' NLS_TERRITORY = 'AMERICA'",
    "ALTER SESSION SET NLS_NUMERIC_CHARACTERS = '.,' NLS_CALENDAR = 'GREGORIAN' NLS_COMP = 'BINARY' "
    "NLS_SORT = 'BINARY'",
    "ALTER SESSION SET TIME_ZONE = '+00:00'",
)
_WHOLE = {
    oracledb.DB_TYPE_CLOB: (oracledb.DB_TYPE_LONG, "surrogateescape"),
    oracledb.DB_TYPE_NCLOB: (oracledb.DB_TYPE_LONG_NVARCHAR, "surrogatepass"),
    oracledb.DB_TYPE_BLOB: (oracledb.DB_TYPE_LONG_RAW, "strict"),
}
# UTF-8, as which the server sends most texts, and UTF-16 have different wrong bytes.
_ERRORS = {
    oracledb.DB_TYPE_VARCHAR: "surrogateescape",
    oracledb.DB_TYPE_CHAR: "surrogateescape",
    oracledb.DB_TYPE_LONG: "surrogateescape",
    oracledb.DB_TYPE_NVARCHAR: "surrogatepass",
    oracledb.DB_TYPE_NCHAR: "surrogatepass",
    oracledb.DB_TYPE_LONG_NVARCHAR: "surrogatepass",
}
_NAMES = {
    oracledb.DB_TYPE_VARCHAR: "VARCHAR2",
    oracledb.DB_TYPE_NVARCHAR: "NVARCHAR2",
    oracledb.DB_TYPE_LONG_NVARCHAR: "LONG",
    oracledb.DB_TYPE_LONG_RAW: "LONG RAW",
    oracledb.DB_TYPE_INTERVAL_DS: "INTERVAL DAY TO SECOND",
    oracledb.DB_TYPE_INTERVAL_YM: "INTERVAL YEAR TO MONTH",
}
_ZONES = {
    oracledb.DB_TYPE_TIMESTAMP: "",
    oracledb.DB_TYPE_TIMESTAMP_TZ: " WITH TIME ZONE",
    oracledb.DB_TYPE_TIMESTAMP_LTZ: " WITH LOCAL TIME ZONE",
}

Row = tuple[object, ...]
_LONG_BYTES = 4000  # more of a text is bound as a LOB: outside of an INSERT nothing else is taken


def described(column: oracledb.FetchInfo) -> Described:
    """A column of a result, its type as a declaration writes it."""
    kind = column.type_code
    native = _NAMES.get(kind, kind.name.removeprefix("DB_TYPE_"))
    if kind is oracledb.DB_TYPE_NUMBER:
        native = _number(column.precision or 0, column.scale or 0)
    elif kind in _ZONES:
        native = f"TIMESTAMP({column.scale or 0}){_ZONES[kind]}"
    elif kind in _ERRORS and column.display_size and kind is not oracledb.DB_TYPE_LONG:
        native = f"{native}({column.display_size})"
    elif kind is oracledb.DB_TYPE_RAW and column.internal_size:
        native = f"RAW({column.internal_size})"
    return Described(column.name, native, bool(column.null_ok))


def _number(precision: int, scale: int) -> str:
    """The server tells no precision of what it computes, and a scale of -127 of binary digits."""
    if scale == -127:
        return f"FLOAT({precision})" if precision else "NUMBER"
    return f"NUMBER({precision},{scale})" if precision else "NUMBER"


def variable(cursor: oracledb.Cursor, column: oracledb.FetchInfo) -> oracledb.Var | None:
    """What a column is fetched into; None: as the driver does."""
    kind, rows = column.type_code, cursor.arraysize
    if kind is oracledb.DB_TYPE_NUMBER:
        return cursor.var(str, arraysize=rows)
    if kind in _WHOLE:
        whole, errors = _WHOLE[kind]
        return cursor.var(whole, arraysize=rows, encoding_errors=errors)
    if kind in _ERRORS:
        size = column.internal_size or 0
        return cursor.var(kind, size=size, arraysize=rows, encoding_errors=_ERRORS[kind])
    return None


class Session:
    """A connection to one server, whose failures raise the server's `kind`."""

    def __init__(self, server: Server, schema: str | None = None) -> None:
        """`schema`: of tables that are named without one; left out: the user's own."""
        self._kind = server.kind
        self._client = server.connected()
        try:
            for statement in _PINNED:
                self.run(statement)
            if schema is not None:
                self.run(f"ALTER SESSION SET CURRENT_SCHEMA = {quoted(schema)}")
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        with translated(self._kind):
            return self._client.version

    def begin_read_only(self) -> None:
        """From here on, all statements see what was committed now."""
        self.rollback()
        self.run("SET TRANSACTION READ ONLY")

    def run(self, sql: str, bound: Sequence[object] = ()) -> None:
        """A statement that gives no rows."""
        with translated(self._kind), self._client.cursor() as cursor:
            _execute(cursor, sql, bound)

    def insert(self, sql: str, rows: Sequence[Row], sizes: Sequence[Size]) -> None:
        """A statement for each row; those before one that fails are there, until they are undone."""
        with translated(self._kind), self._client.cursor() as cursor:
            cursor.setinputsizes(*sizes)
            cursor.executemany(sql, list(rows))

    def commit(self) -> None:
        with translated(self._kind):
            self._client.commit()

    def rollback(self) -> None:
        with translated(self._kind):
            self._client.rollback()

    def rows(self, sql: str, bound: Sequence[object] = ()) -> list[Row]:
        """A query and all its rows, numbers as their digits."""
        with translated(self._kind), self._cursor(_PIECE_ROWS) as cursor:
            _execute(cursor, sql, bound)
            return [tuple(row) for row in cursor.fetchall()]

    def described(self, query: str) -> tuple[Described, ...]:
        """The columns that a query would give; nothing is run."""
        with translated(self._kind), self._client.cursor() as cursor:
            cursor.parse(query)
            return tuple(map(described, cursor.description or ()))

    def stream(self, sql: str, columns: Sequence[SourceColumn], limits: BatchLimits) -> Batches:
        """A query's rows in batches."""
        pieces = (decoded(columns, rows) for rows in self._pieces(sql, columns, limits))
        return gathered(((batch, cells) for batch, cells in pieces), limits)

    def interrupt(self) -> None:
        """Have a call of another thread, which may be waiting for rows, fail."""
        with suppress(oracledb.Error, OSError):
            self._client.cancel()

    def close(self) -> None:
        """Give the connection back; whatever was not committed is undone."""
        with suppress(oracledb.Error, OSError):
            self._client.close()

    def _cursor(self, rows: int) -> oracledb.Cursor:
        cursor = self._client.cursor()
        cursor.arraysize = cursor.prefetchrows = rows
        cursor.outputtypehandler = variable
        return cursor

    def _pieces(self, sql: str, columns: Sequence[SourceColumn], limits: BatchLimits) -> Iterator[list[Row]]:
        is_long = any(is_unbounded(column.native) for column in columns)
        most = min(_LONG_PIECE_ROWS if is_long else _PIECE_ROWS, limits.rows)
        with translated(self._kind), self._cursor(most) as cursor:
            cursor.execute(sql)
            while rows := cursor.fetchmany():
                yield rows


def _execute(cursor: oracledb.Cursor, sql: str, bound: Sequence[object]) -> None:
    if bound:
        cursor.setinputsizes(*map(_size, bound))
    cursor.execute(sql, list(bound))


def _size(parameter: object) -> Size:
    if isinstance(parameter, float):
        return oracledb.DB_TYPE_BINARY_DOUBLE
    is_long = isinstance(parameter, str) and len(parameter.encode()) > _LONG_BYTES
    return oracledb.DB_TYPE_CLOB if is_long else None
