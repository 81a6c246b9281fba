"""The "wide" table: a bit of everything, about 220 bytes a row as CSV.

Thirteen columns: a bigint key, three short texts (one nullable, not all ASCII), numeric(12,2), double
(nullable), boolean, a timestamp with zone that has some fifty ties a second and a tenth of its rows out of
order, date (nullable), JSON (nullable), uuid, and a nullable integer and text.
"""

from __future__ import annotations

from benchmarks.data import Table, Written

_ROW = """
  i AS id,
  concat('sku-', i * 7919 % 50000) AS sku,
  concat('customer ', substr(hash, 1, 12)) AS customer,
  CASE WHEN i % 5 <> 0 THEN concat('überfällig seit ', i % 97, ' Tagen') END AS note,
  {amount} AS amount,
  CASE WHEN i % 7 <> 0 THEN {ratio} END AS ratio,
  {active} AS active,
  {updated_at} AS updated_at,
  CASE WHEN i % 11 <> 0 THEN {day} END AS day,
  CASE WHEN i % 13 <> 0 THEN {extra} END AS extra,
  {uid} AS uid,
  CASE WHEN i % 3 <> 0 THEN i * 31 % 1000 END AS quantity,
  CASE WHEN i % 4 <> 0 THEN substr(hash, 20, 5) END AS region
"""
_SECONDS = "{whole_fifties} + CASE WHEN i % 10 = 0 THEN i * 7919 % 100000 ELSE 0 END"
_JSON = """concat('{"n": ', i % 1000, ', "tags": ["a", "b"], "ok": true}')"""
_CENTS = "(i * 104729 % 1000000007 - 500000003)"
_TICKS = "(i * 15485863 % 2147483647)"
_DAYS = "(i * 31 % 4000)"
_DASHED = (
    "concat_ws('-', substr(hash, 1, 8), substr(hash, 9, 4), substr(hash, 13, 4), substr(hash, 17, 4), "
    "substr(hash, 21, 12))"
)

WIDE = Table(
    name="wide",
    key=("id",),
    cursor="updated_at",
    row=_ROW,
    postgres=Written(
        columns="id bigint PRIMARY KEY, sku text NOT NULL, customer text NOT NULL, note text, "
        "amount numeric(12,2) NOT NULL, ratio double precision, active boolean NOT NULL, "
        "updated_at timestamptz NOT NULL, day date, extra jsonb, uid uuid NOT NULL, "
        "quantity integer, region text",
        expressions={
            "amount": f"({_CENTS}::numeric / 100)::numeric(12,2)",
            "ratio": f"{_TICKS}::float8 / 1000003",
            "active": "i % 3 = 0",
            "updated_at": f"timestamptz '2024-01-01 00:00:00+00' + ({_SECONDS}) * interval '1 second'".format(
                whole_fifties="i / 50"
            ),
            "day": f"date '2015-01-01' + {_DAYS}::integer",
            "extra": f"{_JSON}::jsonb",
            "uid": "hash::uuid",
        },
    ),
    mysql=Written(
        columns="id BIGINT PRIMARY KEY, sku VARCHAR(40) NOT NULL, customer VARCHAR(40) NOT NULL, "
        "note VARCHAR(80), amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, "
        "updated_at TIMESTAMP(6) NOT NULL, day DATE, extra JSON, uid CHAR(36) NOT NULL, "
        "quantity INT, region VARCHAR(10)",
        expressions={
            "amount": f"CAST({_CENTS} / 100 AS DECIMAL(12,2))",
            "ratio": f"CAST({_TICKS} AS DOUBLE) / 1000003",
            "active": "i % 3 = 0",
            "updated_at": f"TIMESTAMP '2024-01-01 00:00:00' + INTERVAL ({_SECONDS}) SECOND".format(
                whole_fifties="i DIV 50"
            ),
            "day": f"DATE '2015-01-01' + INTERVAL {_DAYS} DAY",
            "extra": _JSON,
            "uid": _DASHED,
        },
    ),
    duckdb=Written(
        columns="id BIGINT PRIMARY KEY, sku VARCHAR NOT NULL, customer VARCHAR NOT NULL, note VARCHAR, "
        "amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, "
        "updated_at TIMESTAMPTZ NOT NULL, day DATE, extra JSON, uid UUID NOT NULL, quantity INTEGER, "
        "region VARCHAR",
        expressions={
            "amount": f"CAST(CAST({_CENTS} AS DECIMAL(14,0)) * 0.01 AS DECIMAL(12,2))",
            "ratio": f"CAST({_TICKS} AS DOUBLE) / 1000003",
            "active": "i % 3 = 0",
            "updated_at": f"TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_seconds({_SECONDS})".format(
                whole_fifties="i // 50"
            ),
            "day": f"DATE '2015-01-01' + CAST({_DAYS} AS INTEGER)",
            "extra": f"CAST({_JSON} AS JSON)",
            "uid": "CAST(hash AS UUID)",
        },
    ),
    sqlite=Written(
        columns="id INTEGER PRIMARY KEY, sku TEXT NOT NULL, customer TEXT NOT NULL, note TEXT, "
        "amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, "
        "updated_at TIMESTAMPTZ NOT NULL, day DATE, extra JSON, uid UUID NOT NULL, quantity INTEGER, "
        "region TEXT",
        expressions={
            "amount": "CAST(amount AS DOUBLE)",
            "active": "CAST(active AS BIGINT)",
            "updated_at": "strftime(updated_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')",
            "day": "CAST(day AS VARCHAR)",
            "extra": "CAST(extra AS VARCHAR)",
            "uid": "CAST(uid AS VARCHAR)",
        },
    ),
)
