"""Rows that PostgreSQL refuses when the load commits: by DEFERRED constraints and triggers of a table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from atlas_etl.model import Disposition, Stream, StreamRun, TableName
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database

DEFERRED = "DEFERRABLE INITIALLY DEFERRED"
BODY = "BEGIN IF NEW.up = 50 THEN RAISE 'fifty'; END IF; RETURN NULL; END"
TRIGGER = "AFTER INSERT OR UPDATE ON t"
RULES = {
    "foreign key": [f"ALTER TABLE t ADD FOREIGN KEY (up) REFERENCES parent {DEFERRED}"],
    "unique": ["UPDATE s SET up = 49 WHERE id = 50", f"ALTER TABLE t ADD UNIQUE (up) {DEFERRED}"],
    "exclusion": [
        "UPDATE s SET up = 49 WHERE id = 50",
        f"ALTER TABLE t ADD EXCLUDE (up WITH =) {DEFERRED}",
    ],
    "trigger": [
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $${BODY}$$",
        f"CREATE CONSTRAINT TRIGGER f {TRIGGER} {DEFERRED} FOR EACH ROW EXECUTE FUNCTION f()",
    ],
}


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute(
        "CREATE TABLE s (id int PRIMARY KEY, up int)",
        "INSERT INTO s SELECT n, n FROM generate_series(1, 100) n",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "INSERT INTO parent SELECT n FROM generate_series(1, 100) n WHERE n <> 50",
        "CREATE TABLE t (id int PRIMARY KEY, up int)",
    )
    yield found
    found.close()


def sync(database: Database, disposition: Disposition) -> StreamRun:
    stream = Stream(
        "s", table="public.s", into=TableName("t", "public"), disposition=disposition, quarantine_limit=3
    )
    job = Job("run", "shop", stream, datetime.now(UTC))
    *_, last = transfer(database.connector(), database.destination(), job)
    assert isinstance(last, StreamFinished)
    return last.outcome


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
def test_a_row_that_is_refused_at_the_commit_is_kept_aside(
    database: Database, disposition: Disposition, rule: str
) -> None:
    database.execute(*RULES[rule])
    outcome = sync(database, disposition)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (99, 1)
    assert database.rows("SELECT count(*), count(*) FILTER (WHERE id = 50) FROM t") == [(99, 0)]


def test_rows_that_others_point_at_are_no_fault_of_the_first_batch(database: Database) -> None:
    """A replace deletes them all, and each comes again; the one without a parent stays out."""
    assert sync(database, Disposition.MERGE).rows_loaded == 100
    database.execute(
        f"CREATE TABLE child (id int REFERENCES t {DEFERRED})",
        "INSERT INTO child VALUES (99)",
        "ALTER TABLE t ADD CHECK (up <> 50) NOT VALID",
    )
    outcome = sync(database, Disposition.REPLACE)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (99, 1)
