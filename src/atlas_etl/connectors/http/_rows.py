"""The records of one resource as a source of rows: surveyed for their types, then decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from atlas_etl.connectors.clocks_back import MOST
from atlas_etl.connectors.http._columns import Columns
from atlas_etl.connectors.http._lines import Lines, joined
from atlas_etl.connectors.http._outline import MANY_PARENTS
from atlas_etl.connectors.http._pages import Pages
from atlas_etl.connectors.http._parents.parent_bounds import PARENT, ParentRows
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import WiderColumnsError
from atlas_etl.model import CursorKind, CursorValue, Hazard, ParentBound, TableName

_SURVEY_ROWS = 10_000  # a nullable member shows its first value in few of the first rows
_SURVEY_BYTES = 8 * 1024 * 1024
_PARENT_FIELD = pa.field(PARENT, pa.int64())
_CHUNK_BYTES = 2 * 1024 * 1024  # decoded at once


class HttpRows:
    """One resource's records, as they were fetched (row_source.RowSource)."""

    time_hazards: frozenset[Hazard] = frozenset()
    put_back = MOST
    tables: frozenset[TableName] = frozenset()

    def __init__(
        self,
        pages: Pages,
        columns: Columns,
        *,
        where: str,
        primary_key: tuple[str, ...],
        limit: int | None,
        warnings: Callable[[], Sequence[str]],
        statements: Sequence[str],
        caveats: Sequence[str],
        is_ordered: bool,
        has_windows: bool,
        whole: bool,
        parents: Callable[[], ParentRows] | None,
        schema: pa.Schema | None,
        may_change_from: Callable[[CursorValue], CursorValue],
        looked_until: Callable[[CursorKind], CursorValue | None],
    ) -> None:
        """Looks at all records for their types; where not `whole`, only at the first ones.

        Then, unless there is a `limit`, `batches` raises WiderColumnsError for those that do not fit. With a
        `schema` there are no records: it is what they would have.
        """
        self._pages = pages
        self._columns = columns
        self._new_parents = parents
        self._parents: ParentRows | None = None  # of the pass that began last
        self.where = where
        self.is_ordered = is_ordered
        self._has_windows = has_windows
        self.is_between = False  # whether all records that follow have later cursors
        self._warnings = warnings
        self._statements = statements
        self._caveats = caveats
        self.may_change_from = may_change_from
        self.looked_until = looked_until
        self._surveyed: int | None = None  # how many pages, where they are all that is wanted
        self.rows: int | None = None
        if not self._survey(limit, whole=whole):
            self.rows = columns.rows
        found = schema if schema is not None else columns.schema
        self.schema = pa.schema([field for field in found if field.name != PARENT or parents is None])
        self.primary_key = primary_key if self.schema.names else ()  # no record has ever told its columns

    def place(self) -> None:
        """No database is behind it that could be written to."""

    @property
    def has_own_bounds(self) -> bool:
        return self._new_parents is not None

    def parents(self, tail_from: CursorValue) -> tuple[ParentBound, ...] | None:
        return self._parents.reached(tail_from) if self._parents is not None else None

    def count_nulls(self, column: str) -> int | None:
        return self._columns.nulls(column) if self.rows is not None else None

    def nulls_seen(self, column: str) -> int:
        """How many of the records that were looked at have no value in this column."""
        return self._columns.nulls(column)

    def warnings(self) -> Sequence[str]:
        """How pages were found to follow each other, and what became of the credentials."""
        weaker = self._parents is not None and self._parents.is_weaker
        return (*self._warnings(), *((MANY_PARENTS,) if weaker else ()))

    def statements(self) -> Sequence[str]:
        return self._statements

    def caveats(self, cursor: str | None) -> Sequence[str]:
        late = "records that the API shows later than their cursor says, by more than `lag`, are missed"
        return (*self._caveats, *((late,) if cursor is not None else ()))

    def interrupt(self) -> None:
        self._pages.close()

    def batches(self, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        parents = self._parents = self._new_parents() if self._new_parents is not None else None
        schema = wanted.schema if parents is None else wanted.schema.append(_PARENT_FIELD)
        for chunk in self._chunks():
            rows = self._decoded(chunk, schema)
            yield rows if parents is None else parents.kept(rows)

    def _survey(self, limit: int | None, *, whole: bool) -> bool:
        """Look at records; gives back whether there may be more."""
        rows = size = pages = 0
        enough = min(limit or _SURVEY_ROWS, _SURVEY_ROWS)
        for chunk in self._chunks(enough):
            self._columns.see(joined(chunk))
            pages += len(chunk)
            rows, size = self._columns.rows, size + sum(len(page.content) for page in chunk)
            if limit is not None and rows >= limit:
                self._surveyed = pages
                return True
            if not whole and (rows >= _SURVEY_ROWS or size >= _SURVEY_BYTES):
                return True
        return False

    def _chunks(self, enough: int | None = None) -> Iterator[list[Lines]]:
        """Pages, as many as are worth being looked at together; `enough` rows are.

        With windows a chunk waits for what follows it, so that the last one of a window is known as such.
        """
        chunk: list[Lines] = []
        number = rows = size = 0
        self.is_between = False
        for page in self._pages.read():
            if number == self._surveyed:
                break
            is_end = page.count == 0  # WINDOW_END
            if chunk and (is_end or (self._has_windows and self._is_full(rows, size, enough))):
                self.is_between = is_end
                yield chunk
                chunk, rows, size, self.is_between = [], 0, 0, False
            if is_end:
                continue
            chunk.append(page)
            number, rows, size = number + 1, rows + page.count, size + len(page.content)
            if not self._has_windows and self._is_full(rows, size, enough):
                yield chunk
                chunk, rows, size = [], 0, 0
        if chunk:
            yield chunk

    def _is_full(self, rows: int, size: int, enough: int | None) -> bool:
        return size >= _CHUNK_BYTES or (enough is not None and rows >= enough)

    def _decoded(self, pages: list[Lines], schema: pa.Schema) -> pa.RecordBatch:
        found = self._columns.decode(joined(pages), schema)
        if found is None:
            raise WiderColumnsError(self.where)
        return found
