"""How much memory and how many threads DuckDB may take, where its definition does not say it.

Without a limit DuckDB fills the machine's memory with what it has written already. With one it spills what
it can (https://duckdb.org/docs/stable/guides/performance/how_to_tune_workloads); what it cannot is measured.
Of two cores one is left to what reads and decodes meanwhile: two threads of DuckDB take turns with that, and
each has a row group of its own open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set

import duckdb

_MEMORY_OPTIONS = {"memory_limit", "max_memory"}
_THREAD_OPTIONS = {"threads", "worker_threads"}
_FEW_CORES = 2
_NOW = "parse_formatted_bytes(current_setting('memory_limit'))"
_LOAD = "greatest(100e6, 50e6 * current_setting('threads'))"
_READ = "40e6 * current_setting('threads')"
_COLUMN = "1e6 * current_setting('threads')"  # each thread has a row group of its own open
_RISE, _MOST_TIMES = 4, 4**5
_CHANGED_ROW = "20"  # that a row was deleted is in memory until the commit


class LoadMemory:
    """The limit of one open database: little at first, more for a load that needs it, and never less."""

    def __init__(self, options: Iterable[str]) -> None:
        self._is_ours = _leaves(options, _MEMORY_OPTIONS)
        self._has_one_thread = _has_one_thread(options)
        self._is_set = False

    def limit(self, opened: duckdb.DuckDBPyConnection) -> bool:
        """To what any load needs, where it is ours; queries alone are not limited. Says whether it is."""
        if not self._is_set:
            if self._has_one_thread:
                _run(opened, "SET threads = 1")
            if self._is_ours:
                _run(opened, _limited(_LOAD))
            self._is_set = True
        return self._is_ours

    def to_write(self, opened: duckdb.DuckDBPyConnection, *, columns: int) -> None:
        """Allow what a table of so many columns needs."""
        if self._is_ours:
            _run(opened, _limited(f"greatest({_NOW}, {_COLUMN} * {columns})"))

    def to_change(self, rows: int) -> Sequence[str]:
        """The statement that allows what so many deleted or updated rows need."""
        return (_limited(f"greatest({_NOW}, {_LOAD} + {_CHANGED_ROW} * {rows})"),) if self._is_ours else ()

    def leave_to_duckdb(self, opened: duckdb.DuckDBPyConnection) -> None:
        """Lift the limit, which was too low."""
        self._is_ours = False
        _run(opened, "RESET memory_limit")


class ReadMemory:
    """The same for a database that is only read, where all that was read would stay in memory."""

    def __init__(self, options: Iterable[str]) -> None:
        self._is_ours = _leaves(options, _MEMORY_OPTIONS)
        self._has_one_thread = _has_one_thread(options)
        self._times = 1

    def for_table(self, opened: duckdb.DuckDBPyConnection, *, columns: int) -> None:
        """To what rows take that come piece by piece, or are sorted, which spills."""
        if not _is_read_only(opened):
            return  # a load of this process goes on in it, whose limit it has
        if self._has_one_thread:
            _run(opened, "SET threads = 1")
        if self._is_ours:
            _run(opened, _limited(f"greatest({_READ}, {_COLUMN} * {columns}) * {self._times}"))

    def for_query(self, opened: duckdb.DuckDBPyConnection) -> None:
        """To what DuckDB takes by itself: not all that a query may do spills."""
        if _is_read_only(opened):
            if self._has_one_thread:
                _run(opened, "RESET threads")
            if self._is_ours:
                _run(opened, "RESET memory_limit")

    def more(self, opened: duckdb.DuckDBPyConnection) -> bool:
        """Several times as much, from now on, for long values. Says whether it is ours to allow."""
        may_rise = self._is_ours and self._times < _MOST_TIMES and _is_read_only(opened)
        if may_rise:
            self._times *= _RISE
            _run(opened, _limited(f"{_NOW} * {_RISE}"))
        return may_rise


def _leaves(options: Iterable[str], settings: Set[str]) -> bool:
    return settings.isdisjoint(map(str.lower, options))


def _has_one_thread(options: Iterable[str]) -> bool:
    return _leaves(options, _THREAD_OPTIONS) and (os.cpu_count() or 1) <= _FEW_CORES


def _is_read_only(opened: duckdb.DuckDBPyConnection) -> bool:
    with opened.cursor() as cursor:
        return cursor.execute("SELECT current_setting('access_mode')").fetchall() == [("read_only",)]


def _run(opened: duckdb.DuckDBPyConnection, statement: str) -> None:
    with opened.cursor() as cursor:  # other threads may use the database, too
        cursor.execute(statement)


def _limited(size: str) -> str:
    return f"SET memory_limit = CAST({size} AS BIGINT) || 'B'"
