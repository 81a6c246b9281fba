"""Rows as statements that insert them into SQL Server.

The rows of a statement are one literal, a JSON array of texts and NULLs, which OPENJSON takes apart
(https://learn.microsoft.com/sql/t-sql/functions/openjson-transact-sql) and CONVERT turns into values. So
there is no limit of 1,000 rows or 2,100 parameters, and nothing on the way has types of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.sql._mssql.literals import quoted
from atlas_etl.connectors.sql._mssql.stored import declaration, is_long
from atlas_etl.errors import RefusedRowError

_STATEMENT_CHARACTERS = 1_000_000  # larger ones gain nothing
_MOST_CHARACTERS = 100_000_000  # of a batch, which has 65,536 packets of 4,096 bytes at most
INEXACT = "atlas_inexact"  # in the server's error where it reads a floating point number otherwise than we do
_SHORT, _LONG = "nvarchar(100)", "nvarchar(max)"

Cells = Sequence[str | None]


class _Column(Struct, frozen=True):
    """A column's cells as text, and the SQL that makes values of them."""

    cells: Cells
    given: str  # their type within OPENJSON
    value: str


def inserts(table: str, batch: pa.RecordBatch) -> Iterator[str]:
    """The statements that add the rows. Raises RefusedRowError for values that the server has no form of."""
    if not batch.num_rows:
        return
    columns = [
        _column(f"c{place}", batch.column(place), name) for place, name in enumerate(batch.schema.names)
    ]
    names = ", ".join(map(quoted, batch.schema.names))
    head = (
        f"INSERT INTO {table} ({names}) SELECT {', '.join(each.value for each in columns)} FROM OPENJSON(N'["
    )
    given = (f"c{place} {each.given} '$[{place}]'" for place, each in enumerate(columns))
    tail = f"]') WITH ({', '.join(given)}) AS atlas_rows OPTION (RECOMPILE)"  # no plan of it is kept
    for rows in _pieces(zip(*(each.cells for each in columns), strict=True)):
        yield f"{head}{rows}{tail}"


def _pieces(rows: Iterator[tuple[str | None, ...]]) -> Iterator[str]:
    """The rows as JSON within a literal, as many together as fit."""
    encode = msgspec.json.Encoder().encode
    held: list[str] = []
    size = 0
    for row in rows:
        text = encode(row).decode().replace("'", "''")
        if len(text) > _MOST_CHARACTERS:
            raise RefusedRowError(
                f"a row of {len(text):,} characters is more than a statement of SQL Server takes",
                hint="leave its largest column out with `exclude`",
                code="row_too_large",
            )
        if held and size + len(text) > _STATEMENT_CHARACTERS:
            yield ",".join(held)
            held, size = [], 0
        held.append(text)
        size += len(text) + 1
    yield ",".join(held)


def _column(name: str, column: pa.Array, called: str) -> _Column:
    kind = column.type
    if pa.types.is_floating(kind):
        return _floating(name, column, called)
    text = values.to_text(column)
    if pa.types.is_binary(kind):
        return _Column(text.to_pylist(), _LONG, f"CONVERT(varbinary(max), {name}, 2)")
    if pa.types.is_string(kind) or is_long(kind):
        cells = text.to_pylist()
        if not pc.any(pc.match_substring(text, "\0")).as_py():
            return _Column(cells, _LONG, name)
        data = [None if cell is None else cell.encode("utf-16-le").hex() for cell in cells]
        return _Column(data, _LONG, f"CONVERT(nvarchar(max), CONVERT(varbinary(max), {name}, 2))")
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        _refuse(
            pc.invert(pc.match_substring_regex(text, r"^\d{4}-")), called, "is not of the years 1 to 9999"
        )
    return _Column(text.to_pylist(), _SHORT, f"CONVERT({declaration(kind)}, {name})")


def _floating(name: str, column: pa.Array, called: str) -> _Column:
    """Digits behind the number's bits, by which the server proves that it has read them as they were meant.

    How it rounds digits is documented nowhere, and bits cannot be converted. There is no minus zero.
    """
    _refuse(pc.invert(pc.is_finite(column)), called, "is infinite or not a number")
    wide, binary, bits = column.type == pa.float64(), "binary(8)", 16
    if not wide:
        binary, bits = "binary(4)", 8
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False) + 0
    raw = numbers.astype(">f8" if wide else ">f4").tobytes().hex()
    digits = values.to_text(pa.array(numbers.astype(np.float64))).to_pylist()
    cells = [
        f"{raw[place * bits : (place + 1) * bits]}{digits[place]}" if valid else None
        for place, valid in enumerate(column.is_valid().to_pylist())
    ]
    read = f"CONVERT({declaration(column.type)}, SUBSTRING({name}, {bits + 1}, 100))"
    is_exact = f"CONVERT({binary}, {read}) = CONVERT({binary}, SUBSTRING({name}, 1, {bits}), 2)"
    failing = f"CONVERT(int, CONCAT(N'{INEXACT}', SUBSTRING({name}, 1, 0)))"
    return _Column(
        cells, _SHORT, f"CASE WHEN {is_exact} THEN {read} WHEN {name} IS NOT NULL THEN {failing} END"
    )


def _refuse(wrong: pa.Array, column: str, why: str) -> None:
    if pc.any(wrong).as_py():
        raise RefusedRowError(
            f"column {column!r} has a value that {why}, which SQL Server cannot hold",
            hint="set the hazard's policy at the source, or read the column as text with a query",
            code="value_does_not_fit",
            column=column,
        )
