"""What DuckDB's errors mean."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection, connect
from atlas_etl.connectors.sql.duckdb import ADAPTER
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def describe(path: Path) -> None:
    assert ADAPTER.connector is not None
    ADAPTER.connector(ADAPTER.connection(path=path)).describe(Stream("t", table="t"))


def test_a_folder_is_not_locked_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "blocks.duckdb").mkdir()
    with pytest.raises(SourceError) as caught:
        describe(tmp_path / "blocks.duckdb")
    assert (caught.value.code, caught.value.retryable) == ("unreachable", False)


def test_a_file_that_another_process_has_open(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    duckdb.connect(str(path)).close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SourceError, match=rf"another process \(PID {other.pid}\) has the") as caught:
            describe(path)
        other.communicate("")
    assert (caught.value.code, caught.value.retryable) == ("database_locked", True)
    assert caught.value.patience == 4  # the other process may be a run that loads for long


def test_a_file_that_another_process_makes_just_now_is_waited_for(tmp_path: Path) -> None:
    path, whole = tmp_path / "t.duckdb", tmp_path / "whole.duckdb"
    with duckdb.connect(str(whole)) as made:
        made.execute("CREATE TABLE t AS SELECT 1 AS id")
    path.touch()
    os.utime(path, (later := time.time() + 600, later))  # new for as long as this test may take
    with ThreadPoolExecutor(1) as opener:
        opened = opener.submit(connect, DuckDBConnection(path=path))
        while connect.statistics.get("attempt_number", 0) < 2 and not opened.done():
            time.sleep(0.001)
        whole.replace(path)
        with opened.result() as database:
            assert database.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    path.write_text("no database", encoding="utf-8")
    os.utime(path, (0, 0))
    with pytest.raises(SourceError) as caught:
        describe(path)
    assert (caught.value.code, caught.value.retryable) == ("not_a_database", False)
