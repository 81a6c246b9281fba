"""Rows that a table leaves out without an error, by its owner's trigger: the run says how many."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg
import pytest
import yaml
from tests.project import Project
from tests.servers import ServerAddress

TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, at bigint, note text)"
ODD_NOTES = """
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN IF NEW.note = 'odd' THEN RETURN NULL; END IF; RETURN NEW; END$$"""


class Owner:
    """Whoever owns the destination's database: runs statements there, and reads the table."""

    def __init__(self, protocol: str, uri: str, run: Callable[[str], Sequence[tuple[object, ...]]]) -> None:
        self.protocol, self.uri, self.run = protocol, uri, run

    def leave_out_odd_notes(self, *, of: str = "INSERT") -> None:
        if self.protocol == "sqlite":
            body = "WHEN NEW.note = 'odd' BEGIN SELECT RAISE(IGNORE); END"
            self.run(f"CREATE TRIGGER filter BEFORE {of} ON t {body}")
        else:
            self.run(ODD_NOTES)
            self.run(f"CREATE TRIGGER filter BEFORE {of} ON t FOR EACH ROW EXECUTE FUNCTION leave_out()")

    def ids(self) -> list[object]:
        return [id_ for (id_,) in self.run("SELECT id FROM t ORDER BY id")]


@pytest.fixture(params=["postgresql", "sqlite"])
def owner(project: Project, request: pytest.FixtureRequest) -> Owner:
    protocol: str = request.param
    if protocol == "sqlite":
        path = project.folder / "copy.db"

        def on_file(statement: str) -> Sequence[tuple[object, ...]]:
            with closing(sqlite3.connect(path)) as file, file:
                return file.execute(statement).fetchall()

        made = Owner(protocol, f"sqlite:///{path}", on_file)
    else:
        address: ServerAddress = request.getfixturevalue("postgres")

        def on_server(statement: str) -> Sequence[tuple[object, ...]]:
            with psycopg.connect(address.url("postgresql"), autocommit=True) as session:
                done = session.execute(statement.encode())
                return done.fetchall() if done.description else []

        made = Owner(protocol, address.url("postgresql"), on_server)
    made.run(TABLE)
    return made


def fill(project: Project, *ids: int) -> None:
    """Rows of the source; every third note is odd."""
    with closing(sqlite3.connect(project.folder / "source.db")) as source, source:
        source.execute("CREATE TABLE IF NOT EXISTS s (id integer PRIMARY KEY, at integer, note text)")
        rows = [(id_, id_, "even" if id_ % 3 else "odd") for id_ in ids]
        source.executemany("INSERT OR REPLACE INTO s VALUES (?, ?, ?)", rows)


def define(project: Project, owner: Owner, **stream: object) -> None:
    definition = {
        "protocol": "sqlite",
        "connection": {"database_path": str(project.folder / "source.db")},
        "streams": [{"table": "s", "into": "t" if owner.protocol == "sqlite" else "public.t", **stream}],
        "destination": "copy",
    }
    project.write("atlas.yaml", yaml.safe_dump({"destinations": {"copy": owner.uri}}))
    project.write("connectors.d/shop.yaml", yaml.safe_dump(definition))


def synced(project: Project, *more: str) -> dict[str, object]:
    done = project.atlas("connector", "sync", "shop", "--json", *more)
    assert done.returncode == 0, done.stderr
    ((stream,),) = [run["streams"] for run in done.json()["runs"]]
    return dict(stream)


def test_append(project: Project, owner: Owner) -> None:
    owner.leave_out_odd_notes()
    fill(project, *range(1, 11))
    define(project, owner, disposition="append", cursor="at")
    first = synced(project)
    assert owner.ids() == [1, 2, 4, 5, 7, 8, 10]
    assert counts(first) == (10, 7, 3)
    assert first["warnings"] == [warning(owner, 3, "10 rows")]
    fill(project, 11, 12)  # and row 10 is the tail
    second = synced(project)
    assert owner.ids() == [1, 2, 4, 5, 7, 8, 10, 11]
    assert counts(second) == (3, 1, 1)


def test_without_a_trigger_nothing_is_told(project: Project, owner: Owner) -> None:
    fill(project, *range(1, 11))
    define(project, owner, disposition="append", cursor="at")
    done = synced(project)
    assert counts(done) == (10, 10, 0)
    assert done["warnings"] == []


def test_replace(project: Project, owner: Owner) -> None:
    owner.leave_out_odd_notes()
    fill(project, *range(1, 11))
    define(project, owner, disposition="replace")
    for _ in range(2):
        assert counts(synced(project)) == (10, 7, 3)
        assert owner.ids() == [1, 2, 4, 5, 7, 8, 10]


def test_merge(project: Project, owner: Owner) -> None:
    owner.leave_out_odd_notes()
    fill(project, *range(1, 11))
    define(project, owner, disposition="merge", cursor="at")
    assert counts(synced(project)) == (10, 7, 3)
    fill(project, 10, 11, 12)
    assert counts(synced(project)) == (3, 1, 1)
    assert owner.ids() == [1, 2, 4, 5, 7, 8, 10, 11]


def test_a_person_is_told_in_history_and_while_it_runs(project: Project, owner: Owner) -> None:
    owner.leave_out_odd_notes()
    fill(project, *range(1, 11))
    define(project, owner, disposition="replace")
    done = project.atlas("connector", "sync", "shop")
    assert f"warning: {warning(owner, 3, '10 rows')}" in done.stderr
    assert "7 rows in" in done.stderr
    assert "3 rows left out" in done.stderr
    (run,) = project.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert run["rows_processed"] == 7


def test_a_repair_tells(project: Project, owner: Owner) -> None:
    fill(project, *range(1, 11))
    define(project, owner, disposition="merge")
    synced(project)
    owner.leave_out_odd_notes()
    owner.run("DELETE FROM t WHERE id IN (3, 4)")
    done = project.atlas("connector", "verify", "shop", "--repair")
    assert done.returncode == 8
    assert f"warning: {warning(owner, 1, '2 rows')}" in done.stderr
    assert owner.ids() == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_rows_that_are_refused_do_not_count_twice(project: Project, owner: Owner) -> None:
    """A careful load tries rows before it writes them."""
    owner.run("CREATE UNIQUE INDEX once ON t (at)")
    owner.leave_out_odd_notes()
    fill(project, *range(1, 11))
    with closing(sqlite3.connect(project.folder / "source.db")) as source, source:
        source.execute("INSERT INTO s VALUES (20, 1, 'even')")
    define(project, owner, disposition="replace", quarantine_limit=5)
    done = synced(project)
    assert counts(done) == (11, 7, 3)
    assert done["rows_quarantined"] == 1


def test_rows_of_a_quarantine_that_are_left_out_are_told(project: Project, owner: Owner) -> None:
    owner.run("CREATE UNIQUE INDEX once ON t (at)")
    fill(project, 1, 2)
    with closing(sqlite3.connect(project.folder / "source.db")) as source, source:
        source.execute("INSERT INTO s VALUES (3, 1, 'odd')")
    define(project, owner, disposition="replace", quarantine_limit=5)
    assert synced(project)["rows_quarantined"] == 1
    owner.run("DROP INDEX once")
    owner.leave_out_odd_notes()
    done = project.atlas("quarantine", "replay", "shop", "--json")
    assert done.returncode == 0, done.stderr
    (stream,) = done.json()["streams"]
    assert (stream["loaded"], stream["remaining"]) == (0, 0)
    assert stream["warnings"] == [warning(owner, 1, "1 row")]
    assert owner.ids() == [1, 2]


@pytest.mark.parametrize("disposition", ["append", "replace", "merge"])
def test_rows_that_a_trigger_keeps_from_being_deleted(
    project: Project, owner: Owner, disposition: str
) -> None:
    """They would be there twice, where no key of the table says so."""
    owner.run("DROP TABLE t")
    owner.run(TABLE.replace(" PRIMARY KEY", ""))
    fill(project, *range(1, 11))
    define(project, owner, disposition=disposition, cursor="at")
    synced(project)
    if owner.protocol == "sqlite":
        owner.run("CREATE TRIGGER keep BEFORE DELETE ON t BEGIN SELECT RAISE(IGNORE); END")
    else:
        owner.run("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$")
        owner.run("CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()")
    fill(project, 11)
    done = project.atlas("connector", "sync", "shop", "--json")
    assert done.returncode == 4
    ((stream,),) = [run["streams"] for run in done.json()["runs"]]
    assert stream["error"]["code"] == "rows_kept"
    assert owner.ids() == list(range(1, 11))


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_deletes_that_a_trigger_undoes(project: Project, owner: Owner, how: str) -> None:
    """None of them is told as deleted, nor what had been deleted beside them."""
    fill(project, *range(1, 11))
    disposition = "append" if how == "hard" else "merge"
    define(project, owner, disposition=disposition, cursor="at", deletes={"how": how, "max_share": 1})
    synced(project)
    forget(project, 1, 4)
    assert synced(project)["rows_deleted"] == 2
    there = live_ids(owner, how)
    assert there == [2, 3, 5, 6, 7, 8, 9, 10]
    keep_the_second_row(owner, "DELETE" if how == "hard" else "UPDATE")
    forget(project, 2, 3)
    done = project.atlas("connector", "sync", "shop", "--json")
    assert done.returncode == 4, done.stderr
    ((stream,),) = [run["streams"] for run in done.json()["runs"]]
    assert stream["error"]["code"] == "rows_kept"
    assert "keeps 1 rows of" in stream["error"]["message"]
    assert stream["rows_deleted"] == 0
    assert live_ids(owner, how) == there
    owner.run("DROP TRIGGER keep" + (" ON t" if owner.protocol == "postgresql" else ""))
    assert synced(project)["rows_deleted"] == 2
    assert live_ids(owner, how) == [5, 6, 7, 8, 9, 10]


def forget(project: Project, *ids: int) -> None:
    """The source deletes these rows."""
    with closing(sqlite3.connect(project.folder / "source.db")) as source, source:
        source.executemany("DELETE FROM s WHERE id = ?", [(id_,) for id_ in ids])


def live_ids(owner: Owner, how: str) -> list[object]:
    where = "WHERE _atlas_deleted_at IS NULL" if how == "soft" else ""
    return [id_ for (id_,) in owner.run(f"SELECT id FROM t {where} ORDER BY id")]


def keep_the_second_row(owner: Owner, of: str) -> None:
    """As it is, by a trigger."""
    if owner.protocol == "sqlite":
        body = "WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END"
        owner.run(f"CREATE TRIGGER keep BEFORE {of} ON t {body}")
    else:
        body = f"IF OLD.id = 2 THEN RETURN NULL; END IF; RETURN {'OLD' if of == 'DELETE' else 'NEW'};"
        owner.run(f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$")
        owner.run(f"CREATE TRIGGER keep BEFORE {of} ON t FOR EACH ROW EXECUTE FUNCTION keep()")


def counts(stream: dict[str, object]) -> tuple[object, object, object]:
    return stream["rows_read"], stream["rows_loaded"], stream["rows_left_out"]


def warning(owner: Owner, left_out: int, read: str) -> str:
    table = "t" if owner.protocol == "sqlite" else "public.t"
    return (
        f"the table {table} left out {left_out} of {read}, without an error: a trigger or a rule of its own "
        "filters them, or puts them elsewhere; if that is not wished, drop it and load them again "
        "(--full-refresh); `atlas connector verify` shows what is missing"
    )


def keep_rows(owner: Owner, of: str = "DELETE") -> None:
    """Those with even ids, by a trigger."""
    if owner.protocol == "sqlite":
        body = "WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END"
        owner.run(f"CREATE TRIGGER keep BEFORE {of} ON t {body}")
    else:
        owner.run(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
            "IF OLD.id = 2 THEN RETURN NULL; END IF; "
            f"RETURN {'OLD' if of == 'DELETE' else 'NEW'}; END$$"
        )
        owner.run(f"CREATE TRIGGER keep BEFORE {of} ON t FOR EACH ROW EXECUTE FUNCTION keep()")
