"""Has an interpreter whose PYTHONPATH leads here talk to the stand-in for Oracle's driver."""

from __future__ import annotations

import oracledb
from tests.servers import stub_oracle

oracledb.connect = stub_oracle.connect
