"""How each type of column is asked for, so that SQLite hands over exactly its storage class or trips.

A SQLite column may hold a value of any class in any row, and the driver takes the types of a stream from
its first rows and then converts some values silently. So every stream begins with a row of typed seeds, and
has one more column, the trip, which is an integer that turns into text in a row where some value's class is
not its column's: that ends the stream. The rows from there on are asked for with care, each value beside
the text of what stands in its place, which is two thirds slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.connectors.sql._sqlite.types import MAX_EXACT_DIGITS, affinity
from atlas_etl.model import Hazard

_EXACT_DOUBLE = 2**53
# SQLite orders classes: numbers, text, blobs (https://www.sqlite.org/datatype3.html#sort_order). To compare
# costs a third of typeof; the plus keeps a column's affinity out of it.
_BLOB, _NUMBER = "+{c} >= x''", "+{c} < ''"
_BLOB_OR_NUMBER = f"({_BLOB} OR {_NUMBER})"
_BLOB_OR_REAL = f"({_BLOB} OR ({_NUMBER} AND typeof({{c}}) = 'real'))"
_NO_BLOB = "+{c} < x''"
_SEEDS = {pa.int64(): "0", pa.float64(): "0.5", pa.string(): "''", pa.binary(): "x''"}


class Form(Struct, frozen=True):
    """The SQL of one column. `{c}` stands for its quoted name."""

    wire: pa.DataType  # what the driver gives
    sql: str = "{c}"
    trip: str = ""  # true for a value that `sql` would not hand over as it is
    careful_wire: pa.DataType | None = None  # None: as `wire`
    careful_sql: str = "{c}"
    accepted: str = ""  # true for a value that `careful_sql` hands over as it is


def form(column: SourceColumn, *, affinity_holds: bool) -> Form:
    """The form of a column; `affinity_holds` where it is a table's own, and not a view's or a query's."""
    kind = column.field.type
    if kind == pa.int64():
        return Form(pa.int64(), accepted=_is("integer"))
    if kind == pa.bool_():
        return Form(pa.int64(), accepted=_is("integer"))
    if kind == pa.float64():
        return _double(column, affinity_holds)
    if kind == pa.binary():
        return Form(pa.binary(), trip=_NO_BLOB, accepted=_is("blob"))
    if pa.types.is_decimal(kind):
        return _decimal(kind)
    if pa.types.is_time(kind) or kind == pa.uuid():
        return Form(pa.string(), trip=_BLOB_OR_NUMBER, accepted=_is("text"))
    if pa.types.is_temporal(kind):  # digits alone are no date, so that an integer's text is refused
        return Form(pa.string(), trip=_BLOB_OR_REAL, accepted=_is("text"))
    if kind == pa.json_():
        text = any_text("{c}")
        return Form(
            pa.string(),
            trip=_BLOB_OR_REAL,
            careful_sql=text,
            accepted=_is("text", "integer", "real"),
        )
    if Hazard.TYPE_MISMATCH not in column.hazards:
        return Form(pa.string(), any_text("{c}"), careful_sql=any_text("{c}"), accepted="1")
    tabled = affinity_holds and affinity(column.native) == "TEXT"
    return Form(pa.string(), trip=_BLOB if tabled else _BLOB_OR_NUMBER, accepted=_is("text"))


def _double(column: SourceColumn, affinity_holds: bool) -> Form:
    whole = f"(typeof({{c}}) = 'integer' AND {{c}} BETWEEN -{_EXACT_DOUBLE} AND {_EXACT_DOUBLE})"
    too_long = f"(typeof({{c}}) = 'integer' AND {{c}} NOT BETWEEN -{_EXACT_DOUBLE} AND {_EXACT_DOUBLE})"
    tabled = affinity_holds and affinity(column.native) == "REAL"
    return Form(
        pa.float64(), trip="" if tabled else too_long, accepted=f"(typeof({{c}}) = 'real' OR {whole})"
    )


def _decimal(kind: pa.DataType) -> Form:
    accepted, text = _is("text", "integer", "real"), any_text("{c}")
    if kind.precision <= MAX_EXACT_DIGITS:
        return Form(pa.float64(), careful_wire=pa.string(), careful_sql=text, accepted=accepted)
    return Form(pa.string(), text, trip=_BLOB, careful_sql=text, accepted=accepted)


def any_text(c: str) -> str:
    """The exact text of a value of any class: hexadecimal for bytes, the fewest digits for a real."""
    digits = [f"printf('%!.{n}g', {c})" for n in (15, 16, 17)]
    real = (
        f"CASE WHEN CAST({digits[0]} AS REAL) = {c} THEN {digits[0]} "
        f"WHEN CAST({digits[1]} AS REAL) = {c} THEN {digits[1]} ELSE {digits[2]} END"
    )
    return f"CASE typeof({c}) WHEN 'real' THEN lower({real}) WHEN 'blob' THEN lower(hex({c})) ELSE {c} END"


def _is(*classes: str) -> str:
    return "(" + " OR ".join(f"typeof({{c}}) = '{name}'" for name in classes) + ")"


class Statement(Struct, frozen=True):
    """A stream: its SQL, and the schema that the driver must give its rows in. The first row is seeds."""

    sql: str
    wire: pa.Schema
    careful: bool


def fast_statement(select: str, forms: Sequence[Form], offset: int) -> Statement:
    """Every column as it is, and the trip."""
    cells = [one.sql.format(c=_name(n)) for n, one in enumerate(forms)]
    trips = [one.trip.format(c=_name(n)) for n, one in enumerate(forms) if one.trip]
    tripped = f"CASE WHEN {' OR '.join(trips)} THEN '' END" if trips else "NULL"
    wires = [*(one.wire for one in forms), pa.int64()]
    return _statement(select, len(forms), [*cells, tripped], wires, offset)


def careful_statement(select: str, forms: Sequence[Form], offset: int) -> Statement:
    """For every column the value where it is accepted, and the text of a value that is not."""
    cells: list[str] = []
    wires: list[pa.DataType] = []
    for n, one in enumerate(forms):
        c = _name(n)
        accepted = one.accepted.format(c=c)
        cells.append(f"CASE WHEN {accepted} THEN {one.careful_sql.format(c=c)} END")
        cells.append(f"CASE WHEN {c} IS NULL OR {accepted} THEN NULL ELSE {any_text(c)} END")
        wires += (one.careful_wire or one.wire, pa.string())
    made = _statement(select, len(forms), [*cells, "NULL"], [*wires, pa.int64()], offset)
    return Statement(made.sql, made.wire, careful=True)


def _name(position: int) -> str:
    """A column's name in the statement. In a subquery SQLite gives `true` and `false` other names, and takes
    a name in double quotes that it then does not find for a text."""
    return f"c{position}"


def _statement(
    select: str, count: int, cells: Sequence[str], wires: Sequence[pa.DataType], offset: int
) -> Statement:
    """The `cells` of a SELECT of so many columns."""
    names = [_name(n) for n in range(len(cells))]
    seeds = ", ".join(f"{_SEEDS[kind]} AS {name}" for kind, name in zip(wires, names, strict=True))
    # In one snapshot the rows come in the same order again: tables, terms and columns are the same.
    rows = select if not offset else f"SELECT * FROM ({select}) LIMIT -1 OFFSET {offset}"
    schema = pa.schema(list(zip(names, wires, strict=True)))
    return Statement(
        f"WITH atlas_rows ({', '.join(names[:count])}) AS ({rows}) "
        f"SELECT {seeds} UNION ALL SELECT {', '.join(cells)} FROM atlas_rows",
        schema,
        careful=False,
    )
