"""Records of an API: ten fields, about 200 bytes of JSON; DuckDB alone has them as a table."""

from __future__ import annotations

from benchmarks.data import Table, Written

_ROW = """
  i AS id,
  concat('evt_', substr(hash, 1, 16)) AS reference,
  strftime(TIMESTAMP '2024-01-01' + to_seconds(i // 50), '%Y-%m-%dT%H:%M:%SZ') AS created_at,
  concat('customer ', substr(hash, 17, 8)) AS customer,
  CAST(i * 104729 % 1000007 AS DOUBLE) / 100 AS amount,
  CASE i % 3 WHEN 0 THEN 'EUR' WHEN 1 THEN 'USD' ELSE 'CHF' END AS currency,
  i * 31 % 1000 AS quantity,
  i % 3 = 0 AS paid,
  CASE i % 4 WHEN 0 THEN 'open' WHEN 1 THEN 'sent' ELSE 'done' END AS status,
  CASE WHEN i % 5 <> 0 THEN concat('überfällig seit ', i % 97, ' Tagen') END AS note
"""

EVENTS = Table(
    name="events",
    key=("id",),
    cursor="",
    row=_ROW,
    duckdb=Written(
        columns="id BIGINT, reference VARCHAR, created_at VARCHAR, customer VARCHAR, amount DOUBLE, "
        "currency VARCHAR, quantity BIGINT, paid BOOLEAN, status VARCHAR, note VARCHAR",
        expressions={},
    ),
)
