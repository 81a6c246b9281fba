"""The Arrow type of each column of a relation: what it declares, and where that is silent what it holds.

Declared types decide alone for most columns. A timestamp column's first thousand values decide whether it
has a zone and how fine it is. A column without a telling declaration (none at all, STRING, a query's
expression) is looked through once: integers are int64, reals (with integers that are exact as doubles)
double, texts string, blobs binary, and a mixture or nothing is text. `CAST(... AS INTEGER)` declares one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.connectors.sql._sqlite.catalog import CatalogColumn, quote
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.types import arrow_type, base_name, zone_is_open
from atlas_etl.model import Hazard

_SAMPLE = 1000
_LONG = f"typeof({{c}}) = 'integer' AND {{c}} NOT BETWEEN -{2**53} AND {2**53}"
_HELD: dict[frozenset[str], pa.DataType] = {
    frozenset({"integer"}): pa.int64(),
    frozenset({"integer", "long"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"real"}): pa.float64(),
    frozenset({"integer", "real"}): pa.float64(),
    frozenset({"text"}): pa.string(),
    frozenset({"blob"}): pa.binary(),
}


class Kind(Struct, frozen=True):
    """A column's type. `mixed` where it is the text of values of several classes."""

    type: pa.DataType
    mixed: bool = False


def kinds(driver: Driver, sql: str, columns: Sequence[CatalogColumn], *, declares_all: bool) -> list[Kind]:
    """The kind of each column. `declares_all` is False for views and queries, where BLOB may mean nothing."""
    declared = [arrow_type(column.declared) for column in columns]
    open_ = [
        kind is None or (not declares_all and column.declared == "BLOB")
        for kind, column in zip(declared, columns, strict=True)
    ]
    held = _held(driver, sql, [c.name for c, unknown in zip(columns, open_, strict=True) if unknown])
    zoned = _zoned(driver, sql, [c.name for c in columns if zone_is_open(c.declared)])
    found: list[Kind] = []
    for kind, unknown, column in zip(declared, open_, columns, strict=True):
        if unknown:
            classes = held[column.name]
            exact = _HELD.get(classes) if classes else kind or pa.string()
            found.append(Kind(exact or pa.string(), mixed=exact is None))
        elif column.name in zoned:
            has_zone, fine = zoned[column.name]
            unit = "ns" if fine or kind == pa.timestamp("ns") else "us"
            found.append(Kind(pa.timestamp(unit, "UTC" if has_zone else None)))
        else:
            found.append(Kind(kind))
    return found


def source_column(column: CatalogColumn, kind: Kind, *, nullable: bool) -> SourceColumn:
    """The column as the reader selects it; its form adds what each class of value needs."""
    native, name = column.declared or "any", quote(column.name)
    field = values.with_source_type(pa.field(column.name, kind.type, nullable), native)
    hazards = frozenset({Hazard.INVALID_TEXT}) if kind.mixed else _hazards(kind.type)
    # Decimals and times are ordered as they are spelled.
    whole = pa.types.is_integer(kind.type)
    return SourceColumn(column.name, native, nullable, field, name, name, hazards, sorts_as_arrow=whole)


def is_ordered(column: CatalogColumn, kind: Kind) -> bool:
    """Whether SQLite orders the column's values as their type does."""
    return not kind.mixed and base_name(column.declared) != "DECIMAL_TEXT"


def is_spelled_once(column: SourceColumn) -> bool:
    """Whether values that differ in the file differ as they are read: one instant has several spellings."""
    kind = column.field.type
    is_mixed = Hazard.TYPE_MISMATCH not in column.hazards
    return not is_mixed and bool(pa.types.is_integer(kind) or kind in (pa.string(), pa.binary()))


def _hazards(kind: pa.DataType) -> frozenset[Hazard]:
    possible = {Hazard.TYPE_MISMATCH}
    if kind in (pa.string(), pa.json_()):
        possible |= {Hazard.INVALID_TEXT}
    elif kind == pa.float64():
        possible |= {Hazard.PRECISION}
    elif pa.types.is_decimal(kind):
        possible |= {Hazard.PRECISION, Hazard.DECIMAL_SPECIAL}
    elif pa.types.is_time(kind):
        possible |= {Hazard.PRECISION, Hazard.TIME_RANGE}
    elif pa.types.is_temporal(kind):
        possible |= {Hazard.PRECISION, Hazard.ZERO_DATE, Hazard.OUT_OF_RANGE}
    return frozenset(possible)


def _held(driver: Driver, sql: str, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The storage classes in each of these columns; `long` are integers that a double would change."""
    if not names:
        return {}
    cells = (
        f"group_concat(DISTINCT CASE WHEN {_LONG.format(c=c)} THEN 'long' ELSE typeof({c}) END)"
        for c in map(quote, names)
    )
    row = driver.execute(f"SELECT {', '.join(cells)} FROM {sql}")[0]
    classes = (frozenset(str(cell).split(",")) if cell is not None else frozenset() for cell in row)
    return {name: found - {"null"} for name, found in zip(names, classes, strict=True)}


def _zoned(driver: Driver, sql: str, names: Sequence[str]) -> dict[str, tuple[bool, bool]]:
    """For each column whether all its sampled timestamps have a zone, and whether any counts nanoseconds."""
    found: dict[str, tuple[bool, bool]] = {}
    for name in names:
        c = quote(name)
        sample = f"SELECT {c} AS t FROM {sql} WHERE {c} IS NOT NULL LIMIT {_SAMPLE}"
        fine = f"substr(t, 20) GLOB '.{'[0-9]' * 7}*'"
        row = driver.execute(f"SELECT min(substr(t, 11) GLOB '*[-+Z]*'), max({fine}) FROM ({sample})")[0]
        found[name] = (bool(row[0]), bool(row[1]))
    return found
