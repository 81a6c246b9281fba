"""How DuckDB's tables are written: `shop.orders` is ambiguous where the file is called shop.duckdb, too."""

from __future__ import annotations

from pathlib import Path

from atlas_etl.connectors.sql._duckdb.database import quote

_OWN = frozenset({"temp", "system"})  # databases that DuckDB always has
_TAKEN = _OWN | {"main"}


def database_name(path: Path | None) -> str:
    """What DuckDB calls the database of this file; None is one in memory."""
    if path is None:
        return "memory"
    name = path.name.lstrip(".").partition(".")[0]
    return f"{name}_db" if name.lower() in _TAKEN else name


def schema_sql(schema: str, database: str) -> str:
    """A schema of this database, with the database's name where a database is called like the schema."""
    if schema.lower() in _OWN | {database.lower()}:
        return f"{quote(database)}.{quote(schema)}"
    return quote(schema)
