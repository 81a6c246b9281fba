"""The rows of one SELECT on one connection, in batches; begun again with care where a value trips them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.connectors.sql._source import Select
from atlas_etl.connectors.sql._sqlite.bounds import Since, from_bound
from atlas_etl.connectors.sql._sqlite.decode import decode_careful, decode_fast
from atlas_etl.connectors.sql._sqlite.driver import Driver, WireMismatchError
from atlas_etl.connectors.sql._sqlite.forms import Form, careful_statement, fast_statement, form
from atlas_etl.model import BatchLimits

_WIRE_ROWS = 1024  # rows that the driver gives at once; more would not be faster
_PROBED = 64  # rows that tell how long a table's rows are


class Rows(Struct, frozen=True):
    """Reads on one connection. `affinity_holds` where columns are a table's own, and not a query's."""

    driver: Driver
    affinity_holds: bool

    def batches(self, select: Select, limits: BatchLimits) -> Batches:
        """The rows as a Snapshot's `fetch` gives them."""
        since = next((given for given in select.parameters if isinstance(given, Since)), None)
        for raw, careful in self._wire(select, limits):
            batch, cells = (decode_careful if careful else decode_fast)(raw, select.columns)
            if since is not None:
                batch, cells = from_bound(batch, cells, since)
            if batch.num_rows:
                yield batch, cells

    def _wire(self, select: Select, limits: BatchLimits) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """The driver's rows, in pieces within the limits, and whether they were asked for with care."""
        forms = [form(column, affinity_holds=self.affinity_holds) for column in select.columns]
        parameters = parameters_of(select)
        rows = self._rows_at_once(select, forms, parameters, limits)
        make, done = fast_statement, 0
        while True:
            statement = make(select.sql, forms, done)
            pieces = _Pieces(limits)
            ended = False
            try:
                with closing(self.driver.stream(statement.sql, parameters, rows, statement.wire)) as stream:
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
                    raise self.driver.raises("the SQLite driver changed a value's type") from tripped
                make = careful_statement
            yield from ((piece, statement.careful) for piece in pieces.rest())
            if ended:
                return

    def _rows_at_once(
        self, select: Select, forms: Sequence[Form], parameters: Sequence[object], limits: BatchLimits
    ) -> int:
        """How many rows to ask the driver for at once: fewer where a table's first rows are long."""
        rows = min(_WIRE_ROWS, limits.rows)
        names = [f"c{n}" for n in range(len(forms))]
        texts = [
            name for name, one in zip(names, forms, strict=True) if one.wire in (pa.string(), pa.binary())
        ]
        if not texts:
            return rows
        if not self.affinity_holds:
            return min(rows, _WIRE_ROWS // 2)  # a probe would run the query once more
        size = " + ".join(f"coalesce(octet_length({c}), 0)" for c in texts)
        probed = f"SELECT * FROM ({select.sql}) LIMIT {_PROBED}"
        sample = f"WITH atlas_rows ({', '.join(names)}) AS ({probed}) SELECT max({size}) FROM atlas_rows"
        longest = int(str(self.driver.execute(sample, parameters)[0][0] or 0)) + 16 * len(forms)
        return max(1, min(rows, limits.bytes // (2 * longest)))


def parameters_of(select: Select) -> list[object]:
    """What stands for the bounds in SQL."""
    return [given.text if isinstance(given, Since) else given for given in select.parameters]


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
