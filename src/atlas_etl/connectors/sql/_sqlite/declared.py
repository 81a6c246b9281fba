"""What a table of one's own declares besides columns and a key, by the words of its CREATE TABLE.

Source: https://www.sqlite.org/lang_createtable.html. Names and texts in quotes, and comments, are no words.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._meaning import computes
from atlas_etl.errors import DestinationError
from atlas_etl.model import TableName

_NO_WORDS = re.compile(r"""("|'|`).*?\1|\[.*?\]|--[^\n]*|/\*.*?(?:\*/|\Z)""", re.DOTALL)
_BESIDES = (
    "NOT NULL", "DEFAULT", "UNIQUE", "CHECK", "COLLATE", "REFERENCES", "GENERATED", "AS", "AUTOINCREMENT",
    "CONFLICT", "WITHOUT ROWID", "STRICT",
)  # fmt: skip


def refuse_replacing(connection: Connection, table: TableName) -> None:
    """Raise DestinationError (`replaces_rows`) where it replaces rows, or their NULLs."""
    if re.search(r"\bCONFLICT REPLACE\b", _words(connection, table)):
        raise DestinationError(
            f"{table} is declared with ON CONFLICT REPLACE, by which rows, or NULLs in them, become others",
            hint="make the table without that, or choose another one with `into`",
            code="replaces_rows",
        )


def refuse_computed(connection: Connection, table: TableName, columns: Collection[str]) -> None:
    """Raise DestinationError (`computed_column`) where it computes one of these columns."""
    given = {name.casefold() for name in columns}
    computed = connection.execute(
        "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden IN (2, 3)", (table.name,)
    )
    for (name,) in computed:
        if str(name).casefold() in given:
            raise computes(table, str(name))


def refuse_rebuilding(connection: Connection, table: TableName, column: str) -> None:
    """Raise DestinationError (`cannot_widen`) where a new table of the same columns and key would be less."""
    words = _words(connection, table)
    lost = [each for each in _BESIDES if re.search(rf"\b{each}\b", words)]
    if lost:
        raise DestinationError(
            f"column {column!r} of {table} is to take wider values, for which SQLite needs the table anew, "
            f"and what it declares would be lost: {', '.join(lost)}",
            hint="declare the column wider yourself, or choose another table with `into`",
            code="cannot_widen",
            column=column,
        )


def is_view(connection: Connection, table: TableName) -> bool:
    """Whether it is a view, whose rows go where its triggers (INSTEAD OF) bring them."""
    return bool(
        connection.execute(
            "SELECT 1 FROM main.sqlite_schema WHERE type = 'view' AND name = ? COLLATE NOCASE", (table.name,)
        )
    )


def _words(connection: Connection, table: TableName) -> str:
    """In capitals, with one blank between them; none where there is no such table."""
    rows = connection.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (table.name,)
    )
    return " ".join(word for (sql,) in rows for word in _NO_WORDS.sub(" ", str(sql)).upper().split())
