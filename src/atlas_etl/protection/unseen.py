"""Errors without the values that `protect` hides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from atlas_etl.errors import AtlasError, DataError, HazardError, RefusedRowError, SourceError
from atlas_etl.model import Rule


@contextmanager
def without_values(rules: Mapping[str, Rule]) -> Iterator[None]:
    """Errors of the block, without values of columns that have rules."""
    try:
        yield
    except AtlasError as failure:
        told = told_without_values(failure, rules)
        if told is failure:
            raise
        raise told from None
    except Exception as failure:
        _refuse_untold(failure)


def _refuse_untold(failure: Exception) -> NoReturn:
    raise AtlasError(
        f"unexpected {type(failure).__name__}; its text is left out, for it may hold values that "
        "`protect` hides",
        hint="try the stream without `protect`, into a destination that may hold its values",
    ) from None


def told_without_values(failure: AtlasError, rules: Mapping[str, Rule]) -> AtlasError:
    """The error itself, or one of its kind where it is of a column that has a rule."""
    if failure.column not in rules or failure.code in ("column_not_found", "protected_key"):
        return failure
    kind = next(
        (each for each in (HazardError, RefusedRowError, DataError) if isinstance(failure, each)), None
    )
    return (kind or SourceError)(
        f"column {failure.column!r} has a value that cannot be read; `protect` hides it",
        hint=failure.hint,
        code=failure.code,
        connector=failure.connector,
        stream=failure.stream,
        column=failure.column,
        retryable=failure.retryable,
    )
