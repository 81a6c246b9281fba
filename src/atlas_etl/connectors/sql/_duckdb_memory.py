"""How much memory and how many threads DuckDB may take for loads, where its definition does not say it.

Without a limit DuckDB fills the machine's memory with what it has written already. With one it spills what
it can (https://duckdb.org/docs/stable/guides/performance/how_to_tune_workloads); what it cannot is measured.
Of two cores one is left to what reads and decodes meanwhile: two threads of DuckDB take turns with that, and
each has a row group of its own open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import duckdb

_OPTIONS = {"memory_limit", "max_memory"}
_THREAD_OPTIONS = {"threads", "worker_threads"}
_FEW_CORES = 2
_NOW = "parse_formatted_bytes(current_setting('memory_limit'))"
_LOAD = "greatest(100e6, 50e6 * current_setting('threads'))"
_COLUMN = "1e6 * current_setting('threads')"  # each thread has a row group of its own open
_CHANGED_ROW = "20"  # that a row was deleted is in memory until the commit


class LoadMemory:
    """The limit of one open database: little at first, more for a load that needs it, and never less."""

    def __init__(self, options: Iterable[str]) -> None:
        chosen = set(map(str.lower, options))
        self._is_ours = _OPTIONS.isdisjoint(chosen)
        self._has_one_thread = _THREAD_OPTIONS.isdisjoint(chosen) and (os.cpu_count() or 1) <= _FEW_CORES
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


def _run(opened: duckdb.DuckDBPyConnection, statement: str) -> None:
    with opened.cursor() as cursor:  # other threads may use the database, too
        cursor.execute(statement)


def _limited(size: str) -> str:
    return f"SET memory_limit = CAST({size} AS BIGINT) || 'B'"
