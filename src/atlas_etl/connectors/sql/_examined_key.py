"""Looking at the key of a stream: whether there is one, and whether it tells rows apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from atlas_etl.connectors.examined import no_key
from atlas_etl.connectors.sql._look import (
    SAMPLE,
    Found,
    Look,
    bounded,
    no_column,
    null_count,
    rows_told,
    spread_of,
)
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.errors import ExitCode
from atlas_etl.model import Finding, Severity


def examined_key(look: Look, found: Found) -> Iterator[Finding]:
    """The key that the definition names, else the table's own."""
    stream, relation = found.stream, found.relation
    key = stream.primary_key or relation.primary_key
    if not key:
        proposed = next((index.columns for index in found.indexes or () if index.unique), ())
        cursor = found.column(stream.cursor or "")
        is_clocked = cursor is None or not pa.types.is_integer(cursor.field.type)
        yield no_key(stream, proposed, is_clocked=is_clocked)
        return
    columns = {name: found.column(name) for name in key}
    told = ", ".join(key)
    for name, column in columns.items():
        if column is None:
            yield no_column("primary_key", stream, name, relation)
            return
    if key == relation.primary_key and relation.key_is_unique:
        message = f"{told} is the table's own primary key"
        yield Finding("primary_key", stream.name, Severity.OK, message, key=tuple(key))
        return
    for name, column in columns.items():
        if column is not None and column.nullable:
            yield from bounded("key_nulls", f"{stream.name}.{name}", partial(_key_nulls, look, found, column))
    if any(index.unique and set(index.columns) <= set(key) for index in found.indexes or ()):
        message = f"a unique index keeps {told} unique"
        yield Finding("primary_key", stream.name, Severity.OK, message, key=tuple(key))
        return
    yield from bounded("primary_key", stream.name, partial(_uniqueness, look, found, key))


def _key_nulls(look: Look, found: Found, column: SourceColumn) -> Finding:
    subject = f"{found.stream.name}.{column.name}"
    nulls, where = null_count(look, found, column)
    if not nulls:
        message = f"this part of the key may be NULL, and is in no row{where}"
        return Finding("key_nulls", subject, Severity.OK, message)
    return Finding(
        "key_nulls", subject, Severity.PROBLEM,
        f"this part of the key is NULL in {rows_told(nulls)}{where}, which a merge refuses",
        "quarantine_limit: 1000    # or another primary_key", ExitCode.DATA,
    )  # fmt: skip


def _uniqueness(look: Look, found: Found, key: Sequence[str]) -> Finding:
    """Whether a key that nothing keeps unique has duplicates."""
    name, relation, told = found.stream.name, found.relation, ", ".join(key)
    names = ", ".join(look.dialect.quote(each) for each in key)
    spread = spread_of(look, look.dialect.limit(f"SELECT {names} FROM {relation.sql}", SAMPLE), names)
    if spread.shared:
        at = relation.sql.replace("%%", "%")
        return Finding(
            "primary_key", name, Severity.PROBLEM,
            f"{spread.shared:,} of {spread.rows:,} rows share {told} with another one: a merge keeps one row "
            "of each key, so the copy has fewer than the source",
            f"SELECT {names}, count(*) FROM {at} GROUP BY {names} HAVING count(*) > 1", ExitCode.DATA,
            tuple(key),
        )  # fmt: skip
    fix = look.create_index(relation, key, unique=True) if found.indexes is not None else None
    return Finding(
        "primary_key", name, Severity.NOTE,
        f"{told} is unique in the {spread.rows:,} rows that were looked at, and nothing in the source keeps "
        "it so",
        fix,
        key=tuple(key),
    )  # fmt: skip
