"""Ctrl-C while SQLite's driver, which takes the signal and cannot cancel, runs a statement."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest

from atlas_etl.connectors.sql._sqlite.driver import Driver, file_uri
from atlas_etl.errors import SourceError
from tests.unit.connectors.sqlite_files import make

LONG = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 3000000) SELECT count(*) FROM n"


def test_it_is_an_interruption_and_no_failure_of_the_database(tmp_path: Path) -> None:
    make(tmp_path / "shop.db", "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    with closing(Driver(file_uri(tmp_path / "shop.db", "ro"), raises=SourceError, timeout=1)) as driver:
        sent = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        sent.start()
        with pytest.raises(KeyboardInterrupt):
            driver.execute(LONG)
        sent.join()
        assert driver.execute("SELECT count(*) FROM orders") == [(0,)]
