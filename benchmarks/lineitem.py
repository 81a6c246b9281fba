"""A table of the shape of TPC-H's lineitem: numbers, decimals and dates, with one short text.

Sixteen columns and four lines an order, as in TPC-H (specification 3.0, section 1.4), but every text of
varying length, so that all systems hold the same; the values are ours, not those of its generator.
"""

from __future__ import annotations

from benchmarks.data import Table, Written

_ROW = """
  {order} AS l_orderkey,
  {part} AS l_partkey,
  {supplier} AS l_suppkey,
  {line} AS l_linenumber,
  {quantity} AS l_quantity,
  {price} AS l_extendedprice,
  {discount} AS l_discount,
  {tax} AS l_tax,
  CASE i % 4 WHEN 0 THEN 'A' WHEN 1 THEN 'R' ELSE 'N' END AS l_returnflag,
  CASE i % 2 WHEN 0 THEN 'O' ELSE 'F' END AS l_linestatus,
  {shipped} AS l_shipdate,
  {committed} AS l_commitdate,
  {received} AS l_receiptdate,
  CASE i * 31 % 4 WHEN 0 THEN 'DELIVER IN PERSON' WHEN 1 THEN 'COLLECT COD' WHEN 2 THEN 'NONE'
    ELSE 'TAKE BACK RETURN' END AS l_shipinstruct,
  CASE i * 17 % 7 WHEN 0 THEN 'REG AIR' WHEN 1 THEN 'AIR' WHEN 2 THEN 'RAIL' WHEN 3 THEN 'SHIP'
    WHEN 4 THEN 'TRUCK' WHEN 5 THEN 'MAIL' ELSE 'FOB' END AS l_shipmode,
  concat('furiously ', substr(hash, 1, 14), ' regular deposits') AS l_comment
"""
_PART, _SUPPLIER, _LINE = "i * 7919 % 200000 + 1", "i * 104729 % 10000 + 1", "(i + 3) % 4 + 1"
_UNITS, _CENTS = "i * 31 % 50 + 1", "i * 15485863 % 10500000 + 90000"
_SHIPPED, _COMMITTED = "i * 7919 % 2500", "i * 104729 % 2500"
_MONEY = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
_DATES = ("l_shipdate", "l_commitdate", "l_receiptdate")


def _columns(big: str, small: str, decimal: str, text: str) -> str:
    return (
        f"l_orderkey {big} NOT NULL, l_partkey {small} NOT NULL, l_suppkey {small} NOT NULL, "
        f"l_linenumber {small} NOT NULL, "
        + "".join(f"{name} {decimal}(15,2) NOT NULL, " for name in _MONEY)
        + f"l_returnflag {_sized(text, 1)} NOT NULL, l_linestatus {_sized(text, 1)} NOT NULL, "
        + "".join(f"{name} DATE NOT NULL, " for name in _DATES)
        + f"l_shipinstruct {_sized(text, 25)} NOT NULL, l_shipmode {_sized(text, 10)} NOT NULL, "
        f"l_comment {_sized(text, 44)} NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber)"
    )


def _sized(text: str, size: int) -> str:
    return text if text == "TEXT" else f"{text}({size})"


def _expressions(divided: str, integer: str, hundredth: str, day: str) -> dict[str, str]:
    return {
        "order": f"(i + 3) {divided} 4",
        "part": integer.format(_PART),
        "supplier": integer.format(_SUPPLIER),
        "line": integer.format(_LINE),
        "quantity": hundredth.format(f"({_UNITS}) * 100"),
        "price": hundredth.format(_CENTS),
        "discount": hundredth.format("i % 11"),
        "tax": hundredth.format("i % 9"),
        "shipped": day.format(_SHIPPED),
        "committed": day.format(_COMMITTED),
        "received": day.format(f"{_SHIPPED} + i % 30 + 1"),
    }


LINEITEM = Table(
    name="lineitem",
    key=("l_orderkey", "l_linenumber"),
    cursor="l_shipdate",
    row=_ROW,
    postgres=Written(
        columns=_columns("bigint", "integer", "numeric", "varchar"),
        expressions=_expressions(
            "/", "({})::integer", "(({})::numeric / 100)::numeric(15,2)", "date '1992-01-02' + ({})::integer"
        ),
    ),
    mysql=Written(
        columns=_columns("BIGINT", "INT", "DECIMAL", "VARCHAR"),
        expressions=_expressions(
            "DIV", "({})", "CAST(({}) / 100 AS DECIMAL(15,2))", "DATE '1992-01-02' + INTERVAL ({}) DAY"
        ),
    ),
    duckdb=Written(
        columns=_columns("BIGINT", "INTEGER", "DECIMAL", "VARCHAR"),
        expressions=_expressions(
            "//", "CAST({} AS INTEGER)", "CAST(CAST({} AS DECIMAL(13,0)) * 0.01 AS DECIMAL(15,2))",
            "DATE '1992-01-02' + CAST({} AS INTEGER)",
        ),
    ),
    sqlite=Written(
        columns=_columns("INTEGER", "INTEGER", "DECIMAL", "TEXT"),
        expressions={
            **{name: f"CAST({name} AS DOUBLE)" for name in _MONEY},
            **{name: f"CAST({name} AS VARCHAR)" for name in _DATES},
        },
    ),
)  # fmt: skip
