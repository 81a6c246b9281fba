"""Which of a relation's columns a stream reads."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.connectors.hazards import reads_as_text
from atlas_etl.connectors.sql._source import Relation, SourceColumn
from atlas_etl.errors import ConfigError, SourceError, nearest
from atlas_etl.model import Stream


def chosen(relation: Relation, stream: Stream) -> tuple[SourceColumn, ...]:
    """The relation's columns that the stream wants, as its policies want them.

    Raises SourceError (`column_not_found`, `no_columns`) and ConfigError (`duplicate_column`).
    """
    require((*stream.columns, *stream.exclude), relation.columns, stream, "column")
    wanted = [
        column
        for column in relation.columns
        if (not stream.columns or column.name in stream.columns) and column.name not in stream.exclude
    ]
    if not wanted:
        raise SourceError(
            f"{stream.table or 'the query'} has no columns to read",
            hint="choose a table with at least one column",
            code="no_columns",
            stream=stream.name,
        )
    names = [column.name for column in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"the query gives two columns named {twice!r}",
            hint="give each column a name of its own with AS",
            code="duplicate_column",
            stream=stream.name,
            column=twice,
        )
    return tuple(column.as_text() if reads_as_text(stream, column.hazards) else column for column in wanted)


def require(names: Sequence[str], columns: Sequence[SourceColumn], stream: Stream, what: str) -> None:
    """Raise SourceError (`column_not_found`) for the first of these names that no column has."""
    there = [column.name for column in columns]
    for name in names:
        if name not in there:
            raise SourceError(
                f"{what} {name!r} is not in {stream.table or 'the query'}",
                hint=nearest(name, there) or f"its columns are {', '.join(there[:12])}",
                code="column_not_found",
                stream=stream.name,
                column=name,
            )
