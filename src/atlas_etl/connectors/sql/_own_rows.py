"""Rows of Atlas's own tables, which somebody may have edited: an error that says so, and never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.errors import DestinationError

_OTHER_COLUMNS = frozenset({"sql", "column_not_found", "table_not_found"})
_MARK = "\\"  # before a text that is empty or has one itself, where an empty one would be NULL


@contextmanager
def reading_own(table: str, stream: str) -> Iterator[None]:
    """Raise DestinationError (`corrupt_ledger`) where a cell cannot be read (ValueError)."""
    try:
        yield
    except ValueError as failure:
        raise DestinationError(
            f"a row of {table} is damaged: it cannot be read any more",
            hint="restore it from a backup, or delete it: then the next sync reads everything again",
            code="corrupt_ledger",
            stream=stream,
        ) from failure


@contextmanager
def reading_own_columns(table: str, stream: str | None = None) -> Iterator[None]:
    """Raise DestinationError (`ledger_version`) where the table has not the columns that are asked for."""
    try:
        yield
    except DestinationError as failure:
        if failure.code not in _OTHER_COLUMNS:
            raise
        raise DestinationError(
            f"{table} is not as this version of Atlas keeps it: {failure.message}",
            hint="another version made it, or somebody changed it: go on with that version, load into "
            "another schema (`into`), or drop the tables that this connector loads and those beside them "
            "whose names begin with _atlas_; the next sync reads everything then",
            code="ledger_version",
            stream=stream,
        ) from failure


def text(cell: object) -> str:
    """A cell that is never NULL. Raises ValueError."""
    if cell is None:
        raise ValueError("a cell is NULL")
    return str(cell)


def written(dialect: WriterDialect, cell: str | None) -> str | None:
    """A cell as the system keeps it, so that an empty text is told from NULL. `read` is its inverse."""
    marked = dialect.empty_is_null and cell is not None and (not cell or cell.startswith(_MARK))
    return f"{_MARK}{cell}" if marked else cell


def read(dialect: WriterDialect, cell: object) -> object:
    """A cell that `written` gave."""
    return cell.removeprefix(_MARK) if dialect.empty_is_null and isinstance(cell, str) else cell
