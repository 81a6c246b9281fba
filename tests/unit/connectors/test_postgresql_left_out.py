"""What tables of PostgreSQL do to rows by themselves: what a load tells of it, and where it refuses."""

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

NULL_BODY = "RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$"
MERGE, APPEND, REPLACE = Disposition.MERGE, Disposition.APPEND, Disposition.REPLACE
KEYED, KEYLESS = "id int PRIMARY KEY, at int, note text", "id int, at int, note text"


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute(
        f"CREATE TABLE s ({KEYED})",
        "INSERT INTO s SELECT n, n, 'n' FROM generate_series(1, 10) n",
        f"CREATE FUNCTION nothing() {NULL_BODY}",
    )
    yield found
    found.close()


def sync(database: Database, writer: Database | None = None, **more: object) -> StreamRun:
    settings = {"table": "public.s", "into": TableName("t", "public"), "primary_key": ("id",), **more}
    job = Job("run", "shop", Stream("s", **settings), datetime.now(UTC))
    *_, last = transfer(database.connector(), (writer or database).destination(), job)
    assert isinstance(last, StreamFinished)
    return last.outcome


def counts(outcome: StreamRun) -> tuple[int, int, int]:
    return outcome.rows_read, outcome.rows_loaded, outcome.rows_left_out


def make(database: Database, columns: str, *more: str) -> None:
    database.execute(f"CREATE TABLE t ({columns})", *more)


def leave_out(database: Database, when: str, of: str = "t") -> None:
    """Every row, by a trigger."""
    database.execute(f"CREATE TRIGGER f BEFORE {when} ON {of} FOR EACH ROW EXECUTE FUNCTION nothing()")


def test_rows_that_pass_as_they_came(database: Database) -> None:
    """The other database's bytes go into COPY, and nothing here looks at them."""
    make(database, KEYED)
    leave_out(database, "INSERT OR UPDATE")
    assert counts(sync(database, disposition=REPLACE)) == (10, 0, 10)


def test_columns_that_are_given_as_text(database: Database) -> None:
    """They come by way of a stage."""
    make(database, "id int PRIMARY KEY, at int, note inet")
    database.execute("UPDATE s SET note = '10.0.0.' || id")
    leave_out(database, "INSERT")
    assert counts(sync(database, disposition=REPLACE)) == (10, 0, 10)


def test_updates_that_a_trigger_takes_away(database: Database) -> None:
    make(database, KEYED)
    assert counts(sync(database, disposition=MERGE)) == (10, 10, 0)
    leave_out(database, "UPDATE")
    assert counts(sync(database, disposition=MERGE)) == (10, 10, 0)  # they have what they should
    database.execute("UPDATE s SET note = NULL WHERE id < 4")
    assert counts(sync(database, disposition=MERGE)) == (10, 7, 3)


def test_updates_that_change_nothing_are_there(database: Database) -> None:
    make(database, "id int PRIMARY KEY, at int, note json")
    database.execute("UPDATE s SET note = '{}'")
    assert counts(sync(database, disposition=MERGE)) == (10, 10, 0)
    database.execute(
        "CREATE TRIGGER f BEFORE UPDATE ON t FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "UPDATE s SET note = '[]' WHERE id = 5",
    )
    assert counts(sync(database, disposition=MERGE)) == (10, 10, 0)


def test_keys_without_other_columns_are_there(database: Database) -> None:
    make(database, "id int PRIMARY KEY")
    for _ in range(2):
        done = sync(database, disposition=MERGE, exclude=frozenset({"at", "note"}))
        assert counts(done) == (10, 10, 0)


def test_a_rule_in_the_place_of_inserts(database: Database) -> None:
    """COPY knows no rules, so the first load of a merge is all there."""
    make(database, KEYLESS)
    assert counts(sync(database, disposition=MERGE)) == (10, 10, 0)
    database.execute("CREATE RULE r AS ON INSERT TO t WHERE NEW.id > 7 DO INSTEAD NOTHING")
    assert counts(sync(database, disposition=MERGE)) == (10, 7, 3)


def test_a_trigger_that_puts_rows_into_another_table(database: Database) -> None:
    """As tables were partitioned before PostgreSQL did it: they are there, and counted as left out."""
    route = "BEGIN INSERT INTO child VALUES (NEW.*); RETURN NULL; END"
    make(
        database,
        KEYLESS,
        "CREATE TABLE child () INHERITS (t)",
        f"CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS $${route}$$",
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION route()",
    )
    assert counts(sync(database, disposition=APPEND, cursor="at")) == (10, 0, 10)
    database.execute("INSERT INTO s VALUES (11, 11, 'n')")
    assert counts(sync(database, disposition=APPEND, cursor="at")) == (2, 0, 2)
    assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(11, 11)]


def test_partitions_leave_nothing_out(database: Database) -> None:
    make(
        database,
        f"{KEYLESS}) PARTITION BY RANGE (id",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (5) TO (100)",
    )
    assert counts(sync(database, disposition=APPEND, cursor="at")) == (10, 10, 0)
    leave_out(database, "INSERT", of="low")
    assert counts(sync(database, disposition=REPLACE)) == (10, 6, 4)
