"""Rows of Atlas's own tables, which somebody may have edited: an error that says so, and never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atlas_etl.errors import DestinationError


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
