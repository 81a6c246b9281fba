"""What an error of a system means for a person: our error, with a code and what to do next."""

from __future__ import annotations

from msgspec import Struct

from atlas_etl.errors import AtlasError, DestinationError, RefusedRowError, SourceError

Failure = type[SourceError] | type[DestinationError]  # by whether the system is read or written


class Meaning(Struct, frozen=True):
    """The code and the hint of an error, and whether a retry may help."""

    code: str
    hint: str | None = None
    retryable: bool = False

    def failure(self, kind: Failure, message: str) -> AtlasError:
        return kind(message, hint=self.hint, code=self.code, retryable=self.retryable)


TABLE_EXISTS = Meaning("table_exists", "another load has just made it; run again", True)


def commit_unknown() -> DestinationError:
    """The connection was lost when COMMIT had been sent and nothing was answered."""
    return DestinationError(
        "the connection was lost during COMMIT: whether this load was committed is unknown",
        hint="run again; the destination's checkpoint tells where to go on",
        code="commit_unknown",
        retryable=True,
    )


ONLY_TABLES = "only tables are loaded: name another one with `into` on the stream, or drop that"


def computes(table: object, column: str | None = None) -> DestinationError:
    """A load has values for a column of a table that computes them, where it is known which."""
    return DestinationError(
        f"{table} computes {f'the column {column!r}' if column else 'a column'} itself",
        hint="leave it out, with `exclude` on the stream, or choose another table with `into`",
        code="computed_column",
        column=column,
    )


def raised(text: str) -> RefusedRowError:
    """A trigger of the table refused a row, in its own words."""
    return RefusedRowError(
        text, hint="a trigger of the table raised this; correct the data or the trigger", code="raised"
    )


def does_not_fit(column: str | None, why: str) -> RefusedRowError:
    """A column, where it is known which, cannot hold a value as it is."""
    return RefusedRowError(
        f"column {column!r} {why}" if column else f"a column {why}",
        hint="run with --full-refresh to make the table again, or choose another table with `into`",
        code="value_does_not_fit",
        column=column,
    )


def duplicate_key(name: str | None) -> RefusedRowError:
    """A row has the value of another one in a unique key, where it is known which."""
    key = f"the unique key {name!r} of the table" if name else "a unique key of the table"
    return RefusedRowError(
        f"two rows have the same value in {key}",
        hint="use the disposition merge, drop the key, or choose another table with `into`; where the source "
        "has another key now, run with --full-refresh",
        code="duplicate_key",
    )


def breaks_rule(name: str | None) -> RefusedRowError:
    """A constraint of the table does not allow a row, where it is known which."""
    return RefusedRowError(
        f"{f'the rule {name!r}' if name else 'a rule'} of a table does not allow it",
        hint="correct the data or the table",
        code="constraint",
    )
