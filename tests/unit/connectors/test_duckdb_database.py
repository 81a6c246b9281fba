"""What DuckDB's errors mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

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
        with pytest.raises(SourceError, match="another process") as caught:
            describe(path)
        other.communicate("")
    assert (caught.value.code, caught.value.retryable) == ("database_locked", True)
