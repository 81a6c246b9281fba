"""One read transaction of a SQLite file: the catalog, the bounds and the rows of one moment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack

from msgspec.structs import replace

from atlas_etl.connectors.hazards import reads_as_text
from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime
from atlas_etl.connectors.sql._place import place_of_file
from atlas_etl.connectors.sql._side_by_side import InTurn, SideBySide, dealt, share
from atlas_etl.connectors.sql._source import (
    READ_IN_ORDER,
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    table_not_found,
)
from atlas_etl.connectors.sql._sqlite import catalog
from atlas_etl.connectors.sql._sqlite.catalog import CatalogColumn, Entry, quote
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.kinds import is_ordered, is_spelled_once, source_column
from atlas_etl.connectors.sql._sqlite.kinds import kinds as resolve
from atlas_etl.connectors.sql._sqlite.ranges import (
    NotAlikeError,
    Ranges,
    RangesReader,
    Siblings,
    begin,
    ranges,
)
from atlas_etl.connectors.sql._sqlite.rows import Rows, parameters_of
from atlas_etl.errors import AtlasError, ConfigError
from atlas_etl.model import BatchLimits, ColumnInfo, HazardPolicy, Stream, StreamInfo, TableName

_QUERY = "_atlas_query"
_READERS = 2  # connections that read a large table, where the definition does not say


class SqliteSnapshot(OneFetchAtATime):
    """A snapshot (sql._source.Snapshot) of a connection that it does not close."""

    def __init__(self, driver: Driver, siblings: Siblings | None = None) -> None:
        """Without `siblings`, whoever reads has no use for ranges."""
        self._driver = driver
        self._siblings = siblings
        self._stack = ExitStack()
        self._others: list[Driver] = []  # which see what this one sees
        self._together: SideBySide | None = None
        self._affinity_holds = True
        begin(driver)

    def end(self) -> None:
        """End what is read, and close the other connections."""
        self.close()
        self._stack.close()

    @property
    def version(self) -> str:
        return self._driver.version

    def entries(self) -> list[Entry]:
        """Every table and view."""
        return catalog.entries(self._driver)

    def discover(self) -> list[StreamInfo]:
        """What each table and view declares; one that SQLite itself cannot open is left out."""
        found: list[StreamInfo] = []
        for entry in self.entries():
            try:
                columns = catalog.columns(self._driver, entry.name)
            except AtlasError as failure:
                if failure.code != "sql":
                    raise
                continue
            key = catalog.primary_key(columns)
            required = self._required(entry, columns, key)
            leading = catalog.indexed(self._driver, entry, key)
            found.append(
                StreamInfo(
                    entry.name,
                    tuple(ColumnInfo(c.name, c.declared or "any", c.name not in required) for c in columns),
                    primary_key=key,
                    cursor_candidates=catalog.cursor_candidates(columns, key, leading),
                    estimated_rows=catalog.estimated_rows(self._driver, entry, columns),
                    indexed=leading,
                )
            )
        return found

    def place(self) -> str | None:
        path = next(
            str(file) for _, name, file in self._driver.execute("PRAGMA database_list") if name == "main"
        )
        return place_of_file(path) if path else None

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            self._affinity_holds = False
            sql, found = self._view_of(stream.query or "")
            return self._relation(stream, sql, found, required=frozenset())
        parted = self._parted(stream.table, stream)
        entry, found = self._look_up(stream.table, stream)
        self._affinity_holds = not entry.is_view
        key = catalog.primary_key(found)
        required = self._required(entry, found, key)
        made = self._relation(stream, f"main.{quote(entry.name)}", found, required=required)
        rows = catalog.estimated_rows(self._driver, entry, found)
        return replace(
            made,
            primary_key=key,
            key_is_unique=all(is_spelled_once(column) for column in made.columns if column.name in key),
            estimated_rows=rows,
            table=TableName(entry.name),
            ranges=parted.conditions,
            ranges_follow=next(
                (c.name for c in found if catalog.is_rowid(self._driver, entry, c, key)), None
            ),
            unsplit=parted.unsplit if stream.partitions else None,
        )

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        drivers = (self._driver, *self._others)
        rows = [Rows(driver, self._affinity_holds) for driver in drivers]
        if not select.ranges:
            return rows[0].batches(select, limits)
        each = share(limits, len(rows))
        parts = dealt(select.ranges, len(rows))
        readers = [RangesReader(*pair, each) for pair in zip(rows, parts, strict=True)]
        self._together = SideBySide(limits.bytes, InTurn(len(readers)))
        return self._together.batches(readers)

    def interrupt(self) -> None:
        if self._together is not None:
            self._together.fail(self._driver.raises("the read was interrupted", code="interrupted"))
        for driver in (self._driver, *self._others):
            driver.interrupt()

    def forecast(self, select: Select) -> Forecast:
        steps = self._driver.execute(f"EXPLAIN QUERY PLAN {select.sql}", parameters_of(select))
        sorts = any("TEMP B-TREE FOR" in str(step[3]) for step in steps)
        return Forecast(None, SORTED if sorts else READ_IN_ORDER)

    def open_writers(self) -> None:
        return None  # SQLite has one writer at a time

    def _parted(self, table: str, stream: Stream) -> Ranges:
        """The table's ranges, with connections that see what this one sees."""
        wanted = stream.partitions or min(_READERS, os.cpu_count() or 1)
        if self._siblings is None or wanted == 1:
            return Ranges()
        found = ranges(self._driver, *self._look_up(table, stream), wanted)
        if not found.conditions:
            return found
        try:
            alike = self._siblings.alike(self._driver, found.readers - 1)
            self._others = self._stack.enter_context(alike)
        except NotAlikeError as why:
            return Ranges(unsplit=str(why))
        # This snapshot is a new one, in which the table may be another.
        found = ranges(self._driver, *self._look_up(table, stream), found.readers)
        del self._others[found.readers - 1 :]
        return found

    def _look_up(self, table: str, stream: Stream) -> tuple[Entry, tuple[CatalogColumn, ...]]:
        entry = self._find(table, stream.name)
        return entry, catalog.columns(self._driver, entry.name)

    def _view_of(self, query: str) -> tuple[str, tuple[CatalogColumn, ...]]:
        """The query as a temporary view, because SQLite tells the declared types of a view's columns."""
        text = query.strip().rstrip("; \t\n")
        self._driver.execute(f"DROP VIEW IF EXISTS temp.{_QUERY}")
        self._driver.execute(f"CREATE TEMP VIEW {_QUERY} AS SELECT * FROM ({text}\n)")  # one statement
        found = catalog.columns(self._driver, _QUERY, schema="temp")
        names = {column.name for column in found}
        # SQLite gives a view's second column `id` the name `id:1`.
        twice = [
            re.sub(r":\d+$", "", c.name) if re.sub(r":\d+$", "", c.name) in names else c.name for c in found
        ]
        return f"temp.{_QUERY}", tuple(replace(c, name=name) for c, name in zip(found, twice, strict=True))

    def _required(self, entry: Entry, columns: Sequence[CatalogColumn], key: Sequence[str]) -> frozenset[str]:
        return frozenset(
            c.name for c in columns if c.required or catalog.is_rowid(self._driver, entry, c, key)
        )

    def _find(self, wanted: str, stream: str) -> Entry:
        known = {entry.name: entry for entry in self.entries()}
        bare = wanted[5:] if wanted[:5].lower() == "main." else wanted
        folded = {name.lower(): entry for name, entry in known.items()}
        for names, name in ((known, wanted), (known, bare), (folded, wanted.lower()), (folded, bare.lower())):
            if name in names:
                return names[name]
        raise table_not_found(wanted, list(known), stream)

    def _relation(
        self, stream: Stream, sql: str, found: Sequence[CatalogColumn], *, required: frozenset[str]
    ) -> Relation:
        kinds = resolve(self._driver, sql, found, declares_all=self._affinity_holds)
        made = tuple(
            source_column(column, kind, nullable=column.name not in required)
            for column, kind in zip(found, kinds, strict=True)
        )
        candidates = [
            column
            for column in made
            if stream.reads(column.name) and reads_as_text(stream, column.name, column.hazards)
        ]
        texts = self._need_text(stream, sql, candidates)
        for column, kind in zip(found, kinds, strict=True):
            if column.name == stream.cursor and (column.name in texts or not is_ordered(column, kind)):
                raise _unordered(column.name, stream.name)
        as_text = {hazard for hazard, policy in stream.hazards.items() if policy is HazardPolicy.TEXT}
        return Relation(
            sql,
            tuple(c if c.name in texts else replace(c, hazards=c.hazards - as_text) for c in made),
            spared=frozenset(column.name for column in candidates) - texts - {stream.cursor or ""},
        )

    def _need_text(self, stream: Stream, sql: str, among: Sequence[SourceColumn]) -> set[str]:
        """The columns that have a value whose policy is `text`. Nearly every SQLite column might; few do."""
        if not among:
            return set()
        select = Select(f"SELECT {', '.join(c.select for c in among)} FROM {sql}", (), tuple(among))
        return {
            cells.column
            for _, found in self.fetch(select, BatchLimits())
            for cells in found
            if reads_as_text(stream, cells.column, (cells.hazard,))
        }


def _unordered(column: str, stream: str) -> ConfigError:
    return ConfigError(
        f"column {column!r} holds decimals as text or values of several types, "
        "which SQLite does not put in one order",
        hint="choose another cursor, or read a query that casts the column",
        code="cursor_type",
        stream=stream,
        column=column,
    )
