"""Which of a source's columns a stream reads, and the errors where it cannot."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.errors import NullCursorError, SourceError, nearest
from atlas_etl.model import Stream


def chosen(there: Sequence[str], stream: Stream, *, where: str) -> tuple[str, ...]:
    """The columns of `there` that the stream wants, in their own order.

    `where` names what is read in messages. Raises SourceError (`column_not_found`, `no_columns`).
    """
    require((*stream.columns, *stream.exclude), there, stream, what="column", where=where)
    wanted = tuple(name for name in there if stream.reads(name))
    if not wanted:
        raise SourceError(
            f"{where} has no columns to read",
            hint="choose a source with at least one column",
            code="no_columns",
            stream=stream.name,
        )
    return wanted


def require(names: Sequence[str], there: Sequence[str], stream: Stream, *, what: str, where: str) -> None:
    """Raise SourceError (`column_not_found`) for the first name that is not there."""
    for name in names:
        if name not in there:
            raise SourceError(
                f"{what} {name!r} is not in {where}",
                hint=nearest(name, there) or f"its columns are {', '.join(there[:12])}",
                code="column_not_found",
                stream=stream.name,
                column=name,
            )


def repeated(names: Sequence[str]) -> str | None:
    """The first name that stands there more than once."""
    return next((name for name in names if names.count(name) > 1), None)


def null_cursor_error(rows: int, stream: Stream) -> NullCursorError:
    """The error of the policy `null_cursor: error`."""
    return NullCursorError(
        f"{rows} row(s) have no value in the cursor column {stream.cursor!r}, "
        "so no later sync would find them",
        hint="set `null_cursor: include` to load them every time, or `exclude` to leave them out",
        stream=stream.name,
        column=stream.cursor,
    )
