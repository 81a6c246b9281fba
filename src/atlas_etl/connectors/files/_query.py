"""SQL over a destination of files: a view per stream, in an embedded DuckDB, of its live files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from atlas_etl.connectors.enclosed import ENCLOSE, NO_EXTENSIONS
from atlas_etl.connectors.files._folder import StreamFolder, fitted
from atlas_etl.connectors.files._manifest import Manifest
from atlas_etl.contracts import Answer
from atlas_etl.errors import DestinationError, UsageError
from atlas_etl.model import BatchLimits, TableName
from atlas_etl.temporary import Purpose, TemporaryFolder

if TYPE_CHECKING:
    import duckdb

Found = Mapping[TableName, tuple[StreamFolder, Manifest]]

_DUCKDB_DIGITS = 38


@contextmanager
def answered(sql: str, tables: Found) -> Iterator[Answer]:
    """The rows of one SELECT over these tables. Raises UsageError (`query`) and DestinationError."""
    import duckdb  # syncs, which ask nothing, need not wait for it

    with (
        TemporaryFolder(Purpose.QUERY) as spill,
        duckdb.connect(":memory:", config={**NO_EXTENSIONS, "temp_directory": str(spill.path)}) as opened,
    ):
        opened.execute("SET TimeZone = 'UTC'")
        with _translated():
            named = _named(opened, sql)
        for table, (folder, manifest) in tables.items():
            if ((table.schema or "main").casefold(), table.name.casefold()) in named:
                folder.check(manifest)
                _offer(opened, table, folder, manifest)
        with _translated():
            _enclose(opened, tables)
            reader = opened.sql(sql).to_arrow_reader(BatchLimits().rows)
        yield Answer(reader.schema, _read(reader))


def _read(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _translated():
        yield from reader


def _enclose(opened: duckdb.DuckDBPyConnection, tables: Found) -> None:
    """Let the query reach the live files of these tables and nothing else."""
    live = [
        path
        for folder, manifest in tables.values()
        for file in manifest.files
        for path in (f"{folder.path}/{file.name}", folder.pattern(file))
    ]
    opened.execute(f"SET allowed_paths = [{', '.join(map(_literal, live))}]")
    opened.execute(ENCLOSE)
    opened.execute("SET lock_configuration = true")


def _offer(
    opened: duckdb.DuckDBPyConnection, table: TableName, folder: StreamFolder, manifest: Manifest
) -> None:
    """Make `schema.name`: a view over Parquet, a copy of what DuckDB's own readers would round or retype."""
    opened.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(table.schema or 'main')}")
    name = f"{_quote(table.schema or 'main')}.{_quote(table.name)}"
    schema = manifest.schema
    wide = [f.name for f in schema if pa.types.is_decimal(f.type) and f.type.precision > _DUCKDB_DIGITS]
    if folder.format.protocol == "parquet" and not wide:
        paths = ", ".join(_literal(folder.pattern(file)) for file in manifest.files)
        columns = ", ".join(_quote(field.name) for field in schema)
        files = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        with _translated():
            opened.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {files}")
        return
    shown = pa.schema([field.with_type(pa.string()) if field.name in wide else field for field in schema])
    rows = (fitted(batch, shown) for batch in folder.read(manifest.files, schema))
    opened.register("atlas_rows", pa.RecordBatchReader.from_batches(shown, rows))
    with _translated():
        opened.execute(f"CREATE TABLE {name} AS SELECT * FROM atlas_rows")
    opened.unregister("atlas_rows")


def _named(opened: duckdb.DuckDBPyConnection, sql: str) -> set[tuple[str, str]]:
    """The tables that one SELECT names, as DuckDB parses it; it ignores case, quoted or not."""
    row = opened.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    parsed = json.loads(str(row[0])) if row else {}
    if parsed.get("error") or len(parsed["statements"]) != 1:
        reason = parsed.get("error_message") or "a query is one SELECT"
        raise UsageError(reason, hint="a query is one SELECT; files are changed by syncs only", code="query")
    return set(_tables_in(parsed))


def _tables_in(node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield node["schema_name"].casefold() or "main", node["table_name"].casefold()
        for below in node.values():
            yield from _tables_in(below)
    elif isinstance(node, list):
        for below in node:
            yield from _tables_in(below)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _translated() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.IOException as failure:
        raise DestinationError(
            f"the stream's files cannot be read: {_first_line(failure)}",
            hint="a sync may have replaced them meanwhile; ask again",
            code="read_failed",
            retryable=True,
        ) from failure
    except duckdb.Error as failure:
        raise UsageError(
            _first_line(failure), hint="tables are named connector.stream", code="query"
        ) from failure


def _first_line(failure: Exception) -> str:
    return str(failure).strip().partition("\n")[0]
