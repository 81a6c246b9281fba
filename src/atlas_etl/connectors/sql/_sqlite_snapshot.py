"""One read transaction of a SQLite file: the catalog, the bounds and the rows of one moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pyarrow as pa

from atlas_etl.connectors.hazards import reads_as_text
from atlas_etl.connectors.sql import _sqlite_catalog as catalog
from atlas_etl.connectors.sql._place import place_of_file
from atlas_etl.connectors.sql._source import (
    READ_IN_ORDER,
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    table_not_found,
)
from atlas_etl.connectors.sql._sqlite_bounds import Since, from_bound
from atlas_etl.connectors.sql._sqlite_catalog import CatalogColumn, Entry, quote
from atlas_etl.connectors.sql._sqlite_decode import decode_careful, decode_fast
from atlas_etl.connectors.sql._sqlite_driver import Driver, WireMismatchError
from atlas_etl.connectors.sql._sqlite_forms import Form, careful_statement, fast_statement, form
from atlas_etl.connectors.sql._sqlite_kinds import is_ordered, is_spelled_once, source_column
from atlas_etl.connectors.sql._sqlite_kinds import kinds as resolve
from atlas_etl.errors import AtlasError, ConfigError
from atlas_etl.model import BatchLimits, ColumnInfo, HazardCells, HazardPolicy, Stream, StreamInfo, TableName

_QUERY = "_atlas_query"
_WIRE_ROWS = 1024  # rows that the driver gives at once; more would not be faster
_PROBED = 64  # rows that tell how long a table's rows are


class SqliteSnapshot:
    """A snapshot (sql._source.Snapshot) of a connection that it does not close."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._affinity_holds = True
        self._driver.execute("BEGIN")
        self._driver.execute("SELECT count(*) FROM main.sqlite_schema")  # takes the snapshot

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
        entry = self._find(stream.table, stream.name)
        self._affinity_holds = not entry.is_view
        found = catalog.columns(self._driver, entry.name)
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
            unsplit="SQLite has no ranges to read side by side" if stream.partitions > 1 else None,
        )

    def fetch(
        self, select: Select, limits: BatchLimits
    ) -> Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]:
        since = next((given for given in select.parameters if isinstance(given, Since)), None)
        for raw, careful in self._wire(select, limits):
            batch, cells = (decode_careful if careful else decode_fast)(raw, select.columns)
            if since is not None:
                batch, cells = from_bound(batch, cells, since)
            if batch.num_rows:
                yield batch, cells

    def interrupt(self) -> None:
        self._driver.interrupt()

    def forecast(self, select: Select) -> Forecast:
        parameters = [given.text if isinstance(given, Since) else given for given in select.parameters]
        steps = self._driver.execute(f"EXPLAIN QUERY PLAN {select.sql}", parameters)
        sorts = any("TEMP B-TREE FOR" in str(step[3]) for step in steps)
        return Forecast(None, SORTED if sorts else READ_IN_ORDER)

    def open_writers(self) -> None:
        return None  # SQLite has one writer at a time

    def _wire(self, select: Select, limits: BatchLimits) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """The driver's rows, in pieces within the limits; begun again with care where a value trips them."""
        forms = [form(column, affinity_holds=self._affinity_holds) for column in select.columns]
        quoted = [quote(column.name) for column in select.columns]
        parameters = [given.text if isinstance(given, Since) else given for given in select.parameters]
        rows = self._rows_at_once(select, forms, parameters, limits)
        make, done = fast_statement, 0
        while True:
            statement = make(select.sql, quoted, forms, done)
            pieces = _Pieces(limits)
            ended = False
            try:
                with closing(self._driver.stream(statement.sql, parameters, rows, statement.wire)) as stream:
                    for raw in _without_seeds(stream):
                        size = raw.get_total_buffer_size()  # `nbytes` takes a tenth of a driver's batch
                        yield from ((piece, statement.careful) for piece in pieces.add(raw, size))
                        done += raw.num_rows
                        if size > limits.bytes and rows > 1:
                            rows = max(1, rows * limits.bytes // (2 * size))
                            break
                    else:
                        ended = True
            except WireMismatchError as tripped:
                if statement.careful:
                    raise self._driver.raises("the SQLite driver changed a value's type") from tripped
                make = careful_statement
            yield from ((piece, statement.careful) for piece in pieces.rest())
            if ended:
                return

    def _rows_at_once(
        self, select: Select, forms: Sequence[Form], parameters: Sequence[object], limits: BatchLimits
    ) -> int:
        """How many rows to ask the driver for at once: fewer where a table's first rows are long."""
        rows = min(_WIRE_ROWS, limits.rows)
        texts = [
            quote(column.name)
            for column, one in zip(select.columns, forms, strict=True)
            if one.wire in (pa.string(), pa.binary())
        ]
        if not texts:
            return rows
        if not self._affinity_holds:
            return min(rows, _WIRE_ROWS // 2)  # a probe would run the query once more
        size = " + ".join(f"coalesce(octet_length({c}), 0)" for c in texts)
        sample = f"SELECT max({size}) FROM (SELECT * FROM ({select.sql}) LIMIT {_PROBED})"
        longest = int(str(self._driver.execute(sample, parameters)[0][0] or 0)) + 16 * len(forms)
        return max(1, min(rows, limits.bytes // (2 * longest)))

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
        texts = self._need_text(stream, sql, made)
        for column, kind in zip(found, kinds, strict=True):
            if column.name == stream.cursor and (column.name in texts or not is_ordered(column, kind)):
                raise _unordered(column.name, stream.name)
        as_text = {hazard for hazard, policy in stream.hazards.items() if policy is HazardPolicy.TEXT}
        return Relation(
            sql,
            tuple(c if c.name in texts else replace(c, hazards=c.hazards - as_text) for c in made),
        )

    def _need_text(self, stream: Stream, sql: str, made: Sequence[SourceColumn]) -> set[str]:
        """The columns that have a value whose policy is `text`. Nearly every SQLite column might; few do."""
        wanted = [
            column
            for column in made
            if stream.reads(column.name) and reads_as_text(stream, column.name, column.hazards)
        ]
        if not wanted:
            return set()
        select = Select(f"SELECT {', '.join(c.select for c in wanted)} FROM {sql}", (), tuple(wanted))
        return {
            cells.column
            for _, found in self.fetch(select, BatchLimits())
            for cells in found
            if reads_as_text(stream, cells.column, (cells.hazard,))
        }


class _Pieces:
    """Gathers small batches into pieces within the limits."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
        if self._rows + batch.num_rows > self._limits.rows or self._bytes + size > self._limits.bytes:
            yield from self.rest()
        self._held.append(batch)
        self._rows += batch.num_rows
        self._bytes += size

    def rest(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            yield pa.concat_batches(self._held)
        self._held, self._rows, self._bytes = [], 0, 0


def _without_seeds(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = next(batches)
    yield first.slice(1)
    yield from batches


def _unordered(column: str, stream: str) -> ConfigError:
    return ConfigError(
        f"column {column!r} holds decimals as text or values of several types, "
        "which SQLite does not put in one order",
        hint="choose another cursor, or read a query that casts the column",
        code="cursor_type",
        stream=stream,
        column=column,
    )
