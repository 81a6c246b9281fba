"""Columns of a table that is there already, and would not keep every value as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan


class StoredColumn(Protocol):
    """A column as its system declares it."""

    @property
    def name(self) -> str: ...

    @property
    def native(self) -> str: ...

    @property
    def is_exact(self) -> bool: ...


def refuse_inexact(plan: LoadPlan, columns: Sequence[StoredColumn], types: str) -> None:
    """Raise DestinationError (`inexact_column`) for one that the load writes; `types` would do."""
    for column in columns:
        if column.name in plan.schema.names and not column.is_exact:
            raise DestinationError(
                f"column {column.name!r} of {plan.table} is {column.native}, which does not keep every "
                "value as it is",
                hint=f"make it {types}, or choose another table with `into`",
                code="inexact_column",
                stream=plan.stream,
                column=column.name,
            )
