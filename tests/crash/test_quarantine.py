"""A load with refused rows that is killed around its commit loses and doubles neither kind of row."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from atlas_etl.api.atlas import Atlas
from atlas_etl.connectors.sql._writer import SqlDestination
from tests.crash.harness import SYNC, sabotaged
from tests.crash.sabotage import Plan, Point
from tests.crash.targets import CONNECTOR, Target
from tests.project import Project

REFUSED = {7: "'none'", 50: "-1", 99: "-2", 120: "'none'", 150: "-3"}  # id -> amount, text or negative


class Shop:
    """A source whose rows no column holds or no rule allows, some of them at the tail."""

    def __init__(self, project: Project, target: Target) -> None:
        self.project = project
        self.target = target
        self.file = project.folder / "shop.db"
        self.rows = 0
        self._execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, place INTEGER NOT NULL, amount INTEGER)")
        place = {"into": f"{target.database}.orders"} if target.database else {}
        definition = {
            "protocol": "sqlite", "connection": {"database_path": "shop.db"}, "destination": "d",
            "streams": [{"table": "orders", "cursor": "place", "quarantine_limit": 100, **place}],
        }  # fmt: skip
        settings = {"protocol": target.protocol, **target.connection()}
        project.write("atlas.yaml", json.dumps({"destinations": {"d": settings}}))
        project.write(f"connectors.d/{CONNECTOR}.yaml", json.dumps(definition))

    def add(self, rows: int) -> None:
        cells = (
            (number, number // 2, REFUSED.get(number, str(number)))
            for number in range(self.rows, self.rows + rows)
        )
        self._execute(*(f"INSERT INTO orders VALUES ({id_}, {at}, {amount})" for id_, at, amount in cells))
        self.rows += rows

    def make_rules(self) -> None:
        """The table's owner allows no negative amounts; files have no rules."""
        atlas = Atlas.open(self.project.folder, {})
        prepared = atlas.connector(CONNECTOR)
        with closing(atlas.destination("d").open()) as destination:
            if not isinstance(destination, SqlDestination):
                return
            table = destination.table_name(CONNECTOR, prepared.chosen(())[0])
            with destination.connect() as connection:
                if table.schema and not self.target.database:
                    connection.execute(f"CREATE SCHEMA {table.schema}")
                columns = "id BIGINT NOT NULL, place BIGINT, amount BIGINT, CHECK (amount >= 0)"
                connection.execute(f"CREATE TABLE {table} ({columns})")

    def sync(self, plan: Plan) -> int:
        done = sabotaged(self.project, plan, *SYNC)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    def there(self) -> tuple[Counter[int], Counter[int]]:
        """The ids that landed, and those in quarantine."""
        atlas = Atlas.open(self.project.folder, {})
        stream = atlas.connector(CONNECTOR).chosen(())[0]
        with closing(atlas.destination("d").open()) as destination:
            table = destination.table_name(CONNECTOR, stream)
            state = destination.inspect(CONNECTOR, stream.name, table)
            refused = Counter(int(str(row.row["id"])) for row in state.quarantine)
            if state.schema is None:
                return Counter(), refused
            found = destination.query(f"SELECT id FROM {table}").column("id").to_pylist()
        return Counter(map(int, found)), refused

    def _execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file)) as opened, opened:
            for statement in statements:
                opened.execute(statement)


@pytest.mark.parametrize("target", ["duckdb", "sqlite", "parquet", "postgresql", "mysql"], indirect=True)
def test_refused_rows_are_neither_lost_nor_doubled(project: Project, target: Target, tmp_path: Path) -> None:
    shop = Shop(project, target)
    shop.make_rules()
    shop.add(100)
    counts = tmp_path / "points.json"
    assert shop.sync(Plan(target.protocol, counts=str(counts))) == 0
    last = json.loads(counts.read_text())["commit"]  # the load's own; before it come those of its ledger
    landed, refused = shop.there()
    for side in ("before", "after"):
        shop.add(25)
        has_ledger_apart = target.protocol in ("duckdb", "postgresql", "mysql")  # and it is there now
        number = 1 if has_ledger_apart else last
        assert shop.sync(Plan(target.protocol, Point("commit", number, side))) == -signal.SIGKILL
        assert (shop.there() == (landed, refused)) == (side == "before")
    shop.add(10)
    assert shop.sync(Plan(target.protocol)) == 0
    landed, refused = shop.there()
    expected = set(REFUSED) if target.protocol != "parquet" else {7, 120}
    assert refused == Counter(expected)
    assert landed == Counter(set(range(shop.rows)) - expected)
