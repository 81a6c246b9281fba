"""What tables of PostgreSQL do to rows by themselves: what a load tells of it, and where it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from atlas_etl.errors import DestinationError, RefusedRowError
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


@pytest.mark.parametrize("keeper", ["trigger", "rule"])
@pytest.mark.parametrize("disposition", [APPEND, REPLACE, MERGE])
def test_rows_that_are_kept_would_be_doubled(
    database: Database, disposition: Disposition, keeper: str
) -> None:
    make(database, KEYLESS)
    sync(database, disposition=disposition, cursor="at")
    if keeper == "trigger":
        leave_out(database, "DELETE")
    else:
        database.execute("CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING")
    database.execute("INSERT INTO s VALUES (11, 11, 'n')")
    with pytest.raises(DestinationError) as failure:
        sync(database, disposition=disposition, cursor="at")
    assert failure.value.code == "rows_kept"
    assert keeper in failure.value.message
    assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(10, 10)]


def test_a_trigger_that_lets_rows_be_deleted(database: Database) -> None:
    body = "RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN OLD; END$$"
    make(database, KEYLESS, f"CREATE FUNCTION pass() {body}")
    database.execute("CREATE TRIGGER f BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION pass()")
    for disposition in (REPLACE, MERGE, REPLACE):
        sync(database, disposition=disposition)
        assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(10, 10)]


def test_a_key_that_an_inheriting_table_has(database: Database) -> None:
    make(database, KEYED)
    sync(database, disposition=MERGE)
    database.execute(
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t)",
        "WITH moved AS (DELETE FROM t WHERE id < 4 RETURNING *) INSERT INTO child SELECT * FROM moved",
        "UPDATE s SET note = 'new' WHERE id = 3",
    )
    sync(database, disposition=MERGE)
    assert database.rows("SELECT * FROM t ORDER BY id") == database.rows("SELECT * FROM s ORDER BY id")


@pytest.mark.parametrize("columns", [KEYED, KEYLESS], ids=["keyed", "keyless"])
@pytest.mark.parametrize("disposition", [APPEND, REPLACE, MERGE])
def test_policies_hide_rows_that_have_to_go(
    database: Database, disposition: Disposition, columns: str
) -> None:
    make(database, columns)
    sync(database, disposition=disposition, cursor="at")
    before = database.rows("SELECT * FROM t ORDER BY id")
    database.execute(
        "UPDATE t SET note = 'hidden' WHERE id > 8",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (note <> 'hidden') WITH CHECK (true)",
    )
    with database.role() as role:
        name = role.address.username
        database.execute(
            f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"',
            f'GRANT USAGE, CREATE ON SCHEMA public TO "{name}"',
        )
        with pytest.raises(DestinationError) as failure:
            sync(database, role, disposition=disposition, cursor="at")
        by_server = disposition is MERGE and columns == KEYED
        assert failure.value.code == ("permission_denied" if by_server else "row_security")
        assert "BYPASSRLS" in str(failure.value.hint)
    assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(len(before), len(before))]


@pytest.mark.parametrize("disposition", [APPEND, REPLACE, MERGE])
def test_a_view_is_no_table(database: Database, disposition: Disposition) -> None:
    database.execute(f"CREATE TABLE base ({KEYED})", "CREATE VIEW t AS SELECT * FROM base")
    with pytest.raises(DestinationError, match="view") as failure:
        sync(database, disposition=disposition, cursor="at")
    assert "`into`" in str(failure.value.hint)


@pytest.mark.parametrize("disposition", [APPEND, REPLACE, MERGE])
def test_a_column_that_the_table_computes(database: Database, disposition: Disposition) -> None:
    make(database, KEYED)
    sync(database, disposition=disposition, cursor="at")
    database.execute(
        "ALTER TABLE t DROP note", "ALTER TABLE t ADD note text GENERATED ALWAYS AS ('x') STORED"
    )
    with pytest.raises(DestinationError, match="note") as failure:
        sync(database, disposition=disposition, cursor="at")
    assert "`exclude`" in str(failure.value.hint)


def test_texts_for_a_column_that_was_numeric(database: Database) -> None:
    database.execute("CREATE TABLE s2 (id int PRIMARY KEY, amount numeric)", "INSERT INTO s2 VALUES (1, 1.5)")
    settings = {"table": "public.s2", "into": TableName("t2", "public"), "disposition": REPLACE}
    sync(database, **settings)
    database.execute(
        "ALTER TABLE s2 ALTER amount TYPE text USING amount::text", "INSERT INTO s2 VALUES (2, 'a')"
    )
    with pytest.raises(RefusedRowError) as failure:
        sync(database, **settings)
    assert "--full-refresh" in str(failure.value.hint)
