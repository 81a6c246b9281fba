"""The rows in which two sides may differ, compared exactly in an embedded DuckDB that spills to disk.

Of each row it holds the key, as text, and the digest: no other value. Without a key a row's digest is its
key. Rows that are alike cancel each other out, however often they come; of the rest of one
key, as many as both sides have are changed, and the others missing or extra.

What the source may have done since the sync, and the next one settles, is pending and no difference:

- a row of the tail that is not stored, or not so: the next sync reads it again;
- a stored row of an append's tail that the source does not have, for it is deleted then; one that is stored
  twice is extra;
- a stored row whose key is past the checkpoint by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.pipeline.digest import Digests, Hashes, row_digests
from atlas_etl.scratch import Scratch

_KEYS_AT_ONCE = 100_000
_DIGEST = ("high", "low")


class Kind(StrEnum):
    """How the rows of a key differ."""

    MISSING = "missing"  # in the destination
    EXTRA = "extra"
    CHANGED = "changed"


class Counts(Struct, frozen=True):
    """How many rows differ, and how many are `pending`: new or changed at the source since the sync."""

    missing: int = 0
    extra: int = 0
    changed: int = 0
    pending: int = 0


class Example(Struct, frozen=True):
    """One key whose rows differ: its columns' values as text."""

    kind: Kind
    key: tuple[tuple[str, str | None], ...]


class Latest(Struct, frozen=True):
    """Of the source's rows of one key one counts: one with the greatest cursor, or any without a cursor."""

    cursor: pa.Field | None


class Differences:
    """Takes rows of both sides and says which keys differ. `close` gives its memory and disk back."""

    def __init__(self, key: pa.Schema, latest: Latest | None) -> None:
        """`key`: the key's columns, none without one. `latest`: None where every row of the source counts."""
        self._key = key
        self._latest = latest
        self._names = [f"k{n}" for n in range(len(key))]
        self._by = self._names or list(_DIGEST)  # what rows are brought together by
        self._rows = list(dict.fromkeys((*self._by, *_DIGEST)))
        self._database = Scratch()
        self._scratch = self._database.tables("the rows")
        cursor = latest.cursor if latest else None
        columns = {field.name: field for field in (*key, *([cursor] if cursor else []))}
        none = values.no_rows(pa.schema(columns.values()))
        no_digests, no_marks = np.empty((0, 2), np.uint64), pa.array([], pa.bool_())
        self._scratch.execute("CREATE TEMP TABLE read_rows AS FROM batch", batch=self._read(none, no_digests))
        stored = self._reduced(none, no_digests).append_column("in_tail", no_marks)
        self._scratch.execute("CREATE TEMP TABLE stored_rows AS FROM batch", batch=stored)
        self._scratch.execute("CREATE TEMP TABLE tail_rows AS FROM batch", batch=_digest_columns(no_digests))
        self._scratch.execute("CREATE TEMP TABLE later_keys AS FROM batch", batch=self._keys(none))
        self._scratch.execute(
            f"CREATE TEMP TABLE quarantined AS SELECT {', '.join(self._by)} FROM stored_rows"
        )

    def add_read(self, batch: pa.RecordBatch, digests: Digests) -> None:
        """Take rows of the source."""
        self._scratch.execute("INSERT INTO read_rows FROM batch", batch=self._read(batch, digests))

    def add_stored(self, batch: pa.RecordBatch, digests: Digests, in_tail: pa.Array) -> None:
        """Take rows of the destination; `in_tail` says which of them the next sync will delete."""
        rows = self._reduced(batch, digests).append_column("in_tail", in_tail)
        self._scratch.execute("INSERT INTO stored_rows FROM batch", batch=rows)

    def add_tail(self, digests: Digests) -> None:
        """Take the source's rows that the next sync will read again; they were taken as rows before."""
        self._scratch.execute("INSERT INTO tail_rows FROM batch", batch=_digest_columns(digests))

    def add_later(self, batch: pa.RecordBatch) -> None:
        """Take rows of the source that are past what is compared. They need a key."""
        self._scratch.execute("INSERT INTO later_keys FROM batch", batch=self._keys(batch))

    def add_quarantined(self, batch: pa.RecordBatch, digests: Digests) -> None:
        """Take rows that are kept aside: they do not count as missing or changed."""
        rows = self._keys(batch) if self._names else _digest_columns(digests)
        self._scratch.execute("INSERT INTO quarantined FROM batch", batch=rows)

    def compare(self) -> int:
        """Compare the rows taken so far; gives back how many of the source's count."""
        by, all_ = ", ".join(self._by), ", ".join(self._rows)
        read = "read_rows"
        if self._latest is not None:
            read = "latest_rows"
            self._scratch.execute(
                f"CREATE TEMP TABLE latest_rows AS SELECT {all_} FROM (SELECT read_rows.*, row_number() OVER "
                f"(PARTITION BY {by} ORDER BY c DESC NULLS LAST, there IS NOT NULL DESC) AS place "
                "FROM read_rows LEFT JOIN (SELECT DISTINCT high, low, true AS there FROM stored_rows) "
                "USING (high, low)) WHERE place = 1"
            )
        self._scratch.execute(
            f"CREATE TEMP TABLE differing AS SELECT {all_}, bool_or(in_tail) AS in_tail, "
            f"sum(n) AS n FROM (SELECT {all_}, false AS in_tail, 1 AS n FROM {read} "
            f"UNION ALL SELECT {all_}, in_tail, -1 AS n FROM stored_rows) GROUP BY {all_} "
            "HAVING sum(n) <> 0"
        )
        ((rows,),) = self._all(f"SELECT count(*) FROM {read}")
        return int(str(rows))

    def has_missing(self) -> bool:
        """Whether there are rows that only the source has. `compare` comes before."""
        return bool(self._all("SELECT 1 FROM differing WHERE n > 0 LIMIT 1"))

    def has_extra(self) -> bool:
        """Whether there are rows that only the destination has. `compare` comes before."""
        return bool(self._all("SELECT 1 FROM differing WHERE n < 0 LIMIT 1"))

    def counts(self, *, tail_is_open: bool) -> Counts:
        """The outcome, once every row is taken and compared. `tail_is_open`: it may be pending."""
        by = ", ".join(self._by)
        aside = f"only_read > 0 AND {self._known_in('quarantined')}"
        replaced = came_later = "false"
        if self._names:
            replaced = "pending_read > 0"
            came_later = (
                f"only_read = 0 AND {self._known_in('later_keys')} AND NOT {self._known_in('read_rows')}"
            )
        self._scratch.execute(
            "CREATE TEMP TABLE marked AS SELECT differing.*, "
            "CASE WHEN n > 0 THEN (high, low) IN (SELECT high, low FROM tail_rows) "
            "ELSE in_tail AND (high, low) NOT IN (SELECT high, low FROM read_rows) END "
            f"AND {tail_is_open} AS goes FROM differing"
        )
        self._scratch.execute(
            f"CREATE TEMP TABLE found AS WITH sums AS (SELECT {by}, "
            "coalesce(sum(n) FILTER (n > 0), 0) AS only_read, "
            "coalesce(sum(n) FILTER (n > 0 AND goes), 0) AS pending_read, "
            "coalesce(-sum(n) FILTER (n < 0), 0) AS only_stored, "
            f"coalesce(-sum(n) FILTER (n < 0 AND goes), 0) AS pending_stored FROM marked GROUP BY {by}"
            f"), told AS (SELECT *, {aside} AS aside, {came_later} AS came_later FROM sums"
            "), lefts AS (SELECT *, CASE WHEN aside THEN 0 ELSE only_read - pending_read END AS lacks, "
            f"CASE WHEN aside OR {replaced} THEN 0 ELSE only_stored - pending_stored END AS surplus, "
            f"came_later FROM told) SELECT {by}, least(lacks, surplus) AS changed, "
            "lacks - changed AS missing, "
            "CASE WHEN came_later THEN 0 ELSE surplus - changed END AS extra, "
            "greatest(pending_read, pending_stored) + surplus - changed - extra AS pending, "
            "missing + extra + changed > 0 AS differs FROM lefts"
        )
        (counted,) = self._all("SELECT sum(missing), sum(extra), sum(changed), sum(pending) FROM found")
        return Counts(*(int(str(count or 0)) for count in counted))

    def examples(self, limit: int) -> tuple[Example, ...]:
        """Some of the keys that differ; none without a key."""
        if not self._names:
            return ()
        shorter_first = ", ".join(f"length({name}), {name}" for name in self._names)
        rows = self._all(
            f"SELECT CASE WHEN changed > 0 THEN 'changed' WHEN missing > 0 THEN 'missing' ELSE 'extra' END, "
            f"{', '.join(self._names)} FROM found WHERE differs ORDER BY {shorter_first} LIMIT {limit}"
        )
        return tuple(
            Example(
                Kind(str(kind)),
                tuple(
                    (name, None if text is None else str(text))
                    for name, text in zip(self._key.names, key, strict=True)
                ),
            )
            for kind, *key in rows
        )

    def count_keys(self) -> int:
        """How many keys differ; without a key how many rows do, those that are alike counted once."""
        ((count,),) = self._all("SELECT count(*) FROM found WHERE differs")
        return int(str(count))

    def has_null_keys(self) -> bool:
        """Whether a row without a whole key differs."""
        missing = " OR ".join(f"{name} IS NULL" for name in self._names)
        return bool(self._all(f"SELECT 1 FROM found WHERE differs AND ({missing}) LIMIT 1"))

    def differing_keys(self) -> Iterator[pa.RecordBatch]:
        """The keys that differ, in their columns' types."""
        return self._typed("differs")

    def extra_keys(self) -> Iterator[pa.RecordBatch]:
        """Those of which the destination has rows that the source has not."""
        return self._typed("extra > 0")

    def missing_rows(self) -> tuple[Digests, npt.NDArray[np.int64]]:
        """The digests of the rows that only the source has, in their order, and how often each is missing."""
        rows = self._scratch.execute(
            "SELECT high, low, n::BIGINT AS n FROM marked WHERE n > 0 AND NOT goes "
            f"AND {self._known_in('(FROM found WHERE missing > 0) AS lacking', of='marked')} ORDER BY ALL"
        )
        found = rows.fetchnumpy()
        digests = np.column_stack([np.asarray(found[name], np.uint64) for name in _DIGEST])
        return digests, np.asarray(found["n"], np.int64)

    def close(self) -> None:
        self._scratch.close()
        self._database.close()

    def _keys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._names:
            return values.no_rows(pa.schema([("k0", pa.string())]))
        texts = [values.to_text(batch.column(field.name)) for field in self._key]
        return pa.RecordBatch.from_arrays(texts, names=self._names)

    def _reduced(self, batch: pa.RecordBatch, digests: Digests) -> pa.RecordBatch:
        columns = [values.to_text(batch.column(field.name)) for field in self._key]
        numbers = _digest_columns(digests)
        return pa.RecordBatch.from_arrays([*columns, *numbers.columns], names=[*self._names, *_DIGEST])

    def _read(self, batch: pa.RecordBatch, digests: Digests) -> pa.RecordBatch:
        rows = self._reduced(batch, digests)
        if self._latest is None:
            return rows
        cursor = self._latest.cursor
        ranks = values.comparable(batch.column(cursor.name)) if cursor else pa.nulls(len(rows), pa.int8())
        return rows.append_column("c", ranks)

    def _known_in(self, table: str, *, of: str = "sums") -> str:
        """The SQL of whether a key is in a table, `NAME` or `... AS NAME`."""
        name = table.rpartition(" ")[2]
        same = " AND ".join(f"{name}.{column} IS NOT DISTINCT FROM {of}.{column}" for column in self._by)
        return f"EXISTS (SELECT 1 FROM {table} WHERE {same})"

    def _typed(self, where: str) -> Iterator[pa.RecordBatch]:
        keys = f"SELECT {', '.join(self._names)} FROM found WHERE {where}"
        for batch in self._scratch.batches(keys, _KEYS_AT_ONCE):
            columns = [
                values.from_text(column, field.type)
                for column, field in zip(batch.columns, self._key, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self._key)

    def _all(self, sql: str) -> list[tuple[object, ...]]:
        return self._scratch.execute(sql).fetchall()


def _digest_columns(digests: Digests) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(digests[:, n]) for n in range(2)], names=list(_DIGEST))


def key_hashes(batch: pa.RecordBatch, key: Sequence[str]) -> Hashes:
    """A number for each row's key; rows of one key have the same, and seldom those of another."""
    return row_digests(batch.select(list(key)))[:, 0]
