"""Looking at the key that merges find a table's rows by: does the table keep it unique, and is it so?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from atlas_etl.connectors.sql._look import SMALL, TableLook, spread_of
from atlas_etl.connectors.sql._source import Relation
from atlas_etl.errors import ExitCode
from atlas_etl.model import Finding, Severity, TableName

_LOOKED_AT = 1_000_000  # rows; SQLite cannot end a statement that would look at more


def examined_merge(
    look: TableLook, connector: str, stream: str, table: TableName, key: Sequence[str]
) -> Iterator[Finding]:
    """Of a table that is there; `key` has its own names of the columns. Raises AtlasError."""
    indexes = look.indexes(table)
    if indexes is None:
        return
    subject, told = f"destination {table}", ", ".join(key)
    if any(index.unique and set(index.columns) == set(key) for index in indexes):
        message = f"the table keeps {told} unique, by which merges find their rows"
        yield Finding("merge_key", subject, Severity.OK, message)
        return
    at = ".".join(look.dialect.quote(part) for part in (table.schema, table.name) if part)
    names = ", ".join(map(look.dialect.quote, key))
    found = spread_of(look, look.dialect.limit(f"SELECT {names} FROM {at}", _LOOKED_AT), names)
    looked_at = "are there" if found.rows < _LOOKED_AT else "were looked at"
    if found.shared:
        yield Finding(
            "merge_key", subject, Severity.PROBLEM,
            f"{found.shared:,} of the {found.rows:,} rows that {looked_at} share {told} with another one: "
            "merges mend that only for keys that come again, so the copy has more rows than the source",
            f"atlas connector sync {connector} --stream {quote(stream)} --full-refresh    # loads it anew",
            ExitCode.DATA,
        )  # fmt: skip
        return
    if not look.needs_index:
        message = f"{told} is unique in the {found.rows:,} rows that {looked_at}"
        yield Finding("merge_key", subject, Severity.OK, message)
        return
    yield Finding(
        "merge_key", subject, Severity.WARNING if found.rows > SMALL else Severity.NOTE,
        f"nothing in the table keeps {told} unique, so each merge looks for its rows in all of it; in the "
        f"{found.rows:,} rows that {looked_at} it is unique",
        look.create_index(Relation(at, (), table=table), key, unique=True),
    )  # fmt: skip
