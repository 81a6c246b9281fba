"""A DuckDB that reaches no file but its own, no network, and loads no extension.

A view in somebody's database, or a query, could otherwise read any file of this machine, or send rows away
(https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview). Once off, it stays off.
"""

from __future__ import annotations

from collections.abc import Mapping

# Of a database that is about to be opened.
NO_EXTENSIONS: Mapping[str, bool] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# Of one that is open: a setting given at its opening would refuse a `temp_directory` beside it.
ENCLOSE = "SET enable_external_access = false"
