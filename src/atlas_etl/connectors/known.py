"""What a stream's table tells of the columns of a source that infers them, by the source's own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from atlas_etl import values
from atlas_etl.model import KnownColumns

_NONE = KnownColumns(pa.schema([]))


class Known:
    """The columns that were loaded before, whatever names the table could give them."""

    def __init__(self, known: KnownColumns | None) -> None:
        self._known = known or _NONE

    def type_of(self, name: str) -> pa.DataType | None:
        """What a column is in the table; None where it is not there."""
        index = self._known.schema.get_field_index(self._known.stored_name(name))
        return self._known.schema.field(index).type if index >= 0 else None

    def settled_type(self, name: str) -> pa.DataType | None:
        """What the values of a column were; None where the table's type may stand for another one."""
        return self.type_of(name) if self._known.stored_name(name) in self._known.settled else None

    def schema(self, found: Mapping[str, pa.DataType | None]) -> pa.Schema:
        """The columns found that have a type, and those that only the table has."""
        typed = [(name, kind) for name, kind in found.items() if kind is not None]
        return pa.schema(
            [values.inferred(pa.field(name, kind)) for name, kind in (*typed, *self.others(found))]
        )

    def others(self, names: Iterable[str]) -> list[tuple[str, pa.DataType]]:
        """The table's columns that none of these columns is kept in, by the table's names."""
        kept = {self._known.stored_name(name) for name in names}
        return [(field.name, field.type) for field in self._known.schema if field.name not in kept]


UNKNOWN = Known(None)
