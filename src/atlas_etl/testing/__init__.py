"""The contract of connectors as tests that any package can run over its own protocol. Needs pytest.

from atlas_etl.testing import ConnectorContract, Person, Source

class LedgerSource(Source):
    ...                                   # how a test writes to the system, behind the connector's back

class TestLedger(ConnectorContract):
    @pytest.fixture
    def source(self, tmp_path):
        return LedgerSource("ledger", {"folder": str(tmp_path / "ledger")})
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("atlas_etl.testing.connector_contract")

from atlas_etl.testing.connector_contract import ConnectorContract  # noqa: E402
from atlas_etl.testing.source import COLUMNS, PEOPLE, Person, Source, as_json, moment, read  # noqa: E402

__all__ = ["COLUMNS", "PEOPLE", "ConnectorContract", "Person", "Source", "as_json", "moment", "read"]
