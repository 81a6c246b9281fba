"""Rows of Atlas's own tables, which somebody may have edited: an error that says so, and never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.errors import DestinationError

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
