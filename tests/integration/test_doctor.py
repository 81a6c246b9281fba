"""`atlas connector doctor` and `connector test --deep`, as a shell sees them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers.postgres import connect


def connection(address: ServerAddress, **more: object) -> str:
    settings = {
        "host": address.host, "port": address.port, "database": address.database,
        "username": address.username, "password": address.password, **more,
    }  # fmt: skip
    return "".join(f"  {name}: {value!r}\n" for name, value in settings.items())


@pytest.fixture
def shop(project: Project) -> Project:
    """A SQLite source with a table that is in order, and the default warehouse."""
    with closing(sqlite3.connect(project.folder / "shop.sqlite")) as client:
        client.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL)")
        client.execute("CREATE INDEX by_at ON orders (at)")
        client.execute("INSERT INTO orders VALUES (1, '2026-01-01'), (2, '2026-01-02')")
        client.commit()
    definition(project)
    return project


def definition(project: Project, more: str = "") -> None:
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.sqlite}\n"
        f"streams:\n  - {{table: orders, cursor: at, timezone: UTC{more}}}\n",
    )


def change(project: Project, *statements: str) -> None:
    with closing(sqlite3.connect(project.folder / "shop.sqlite")) as client:
        for statement in statements:
            client.execute(statement)
        client.commit()


def test_what_is_in_order(shop: Project) -> None:
    done = shop.atlas("connector", "doctor", "shop")
    assert done.returncode == 0, done.stderr
    assert "ok       orders.at: cursor_index: an index begins with it" in done.stdout
    answer = shop.atlas("connector", "doctor", "shop", "--json").json()
    assert answer["connector"] == "shop"
    assert {each["severity"] for each in answer["findings"]} == {"ok"}
    assert {tuple(sorted(each)) for each in answer["findings"]} == {
        ("check", "fix", "message", "severity", "subject")
    }
    assert not (shop.folder / ".atlas").exists()  # nothing was made


def test_the_worst_comes_first_with_its_fix(shop: Project) -> None:
    change(shop, "CREATE TABLE loose (id INT, at TIMESTAMP)", "INSERT INTO loose VALUES (1, NULL)")
    definition(shop, "}\n  - {table: loose, cursor: at")
    done = shop.atlas("connector", "doctor", "shop")
    assert done.returncode == 7, done.stderr
    first, fix, *_, counts = done.stdout.splitlines()
    assert first.startswith("problem  loose.at: cursor_nulls: it is NULL in 1 row")
    assert fix == "         fix: null_cursor: include    # or: exclude"
    assert counts.startswith("1 problem, ")
    only = shop.atlas("connector", "doctor", "shop", "--stream", "orders")
    assert only.returncode == 0
    assert "loose" not in only.stdout


def test_rows_that_a_merge_would_leave_twice(shop: Project) -> None:
    """The key is the source's own, which no definition names; the table was loaded before it was the key."""
    definition(shop, ", disposition: append")
    assert shop.atlas("connector", "sync", "shop").returncode == 0
    change(shop, "UPDATE orders SET at = '2026-01-03' WHERE id = 1")
    assert shop.atlas("connector", "sync", "shop").returncode == 0
    definition(shop)
    done = shop.atlas("connector", "doctor", "shop")
    assert done.returncode == 7, done.stderr
    problem, fix, *_ = done.stdout.splitlines()
    assert problem.startswith("problem  destination shop.orders: merge_key: 2 of the 3 rows that are there")
    mended = fix.partition("fix: atlas ")[2].partition("    #")[0]
    assert shop.atlas(*mended.split()).returncode == 0
    again = shop.atlas("connector", "doctor", "shop", "--json")
    found = {each["check"]: each for each in again.json()["findings"] if "shop.orders" in each["subject"]}
    assert found["merge_key"]["severity"] == "ok"
    assert again.returncode == 0


def test_exit_codes_tell_the_side(shop: Project) -> None:
    """3 for the source, 4 for the destination, 7 for the data; the least of several."""
    shop.write(
        "atlas.yaml", "destinations: {lake: {protocol: parquet, path: /proc/atlas}}\ndestination: lake\n"
    )
    assert shop.atlas("connector", "doctor", "shop").returncode == 4
    change(shop, "ALTER TABLE orders ADD COLUMN no INT")
    definition(shop, ", primary_key: [no]")
    assert shop.atlas("connector", "doctor", "shop").returncode == 4
    shop.write("atlas.yaml", "")
    done = shop.atlas("connector", "doctor", "shop", "--json")
    assert done.returncode == 7
    definition(shop, "}\n  - {table: missing")
    done = shop.atlas("connector", "doctor", "shop", "--json")
    assert done.returncode == 3
    (problem,) = [each for each in done.json()["findings"] if each["severity"] == "problem"]
    assert (problem["check"], problem["subject"]) == ("stream", "missing")


def test_a_source_out_of_reach_does_not_hide_the_destination(shop: Project) -> None:
    (shop.folder / "shop.sqlite").unlink()
    done = shop.atlas("connector", "doctor", "shop", "--json")
    assert done.returncode == 3
    checks = {(each["check"], each["subject"]): each["severity"] for each in done.json()["findings"]}
    assert checks["connection", "source"] == "problem"
    assert checks["write_permission", "destination"] == "ok"


def test_mistakes_on_the_command_line(shop: Project) -> None:
    done = shop.atlas("connector", "doctor", "shop", "--stream", "order", "--json")
    assert done.returncode == 2
    assert done.json()["error"]["code"] == "unknown_stream"
    assert shop.atlas("connector", "doctor", "shap").returncode == 2


def test_a_deep_test_has_the_same_findings(shop: Project) -> None:
    shop.write("connectors.d/broken.yaml", "protocol: sqlite\nconnection: {database_path: no.sqlite}\n")
    shop.write("connectors.d/wrong.yaml", "protocol: nothing\n")
    deep = shop.atlas("connector", "test", "--all", "--deep", "--json")
    assert deep.returncode == 5
    results = {each.pop("connector"): each for each in deep.json()["results"]}
    findings = {name: each.pop("findings") for name, each in results.items()}
    alone = shop.atlas("connector", "doctor", "shop", "--json").json()["findings"]

    def known(found: list[dict[str, str]]) -> list[tuple[str, str, str]]:
        return [(each["check"], each["subject"], each["severity"]) for each in found]

    assert known(findings["shop"]) == known(alone)
    plain = shop.atlas("connector", "test", "--all", "--json").json()["results"]
    for each in plain:
        deeply = results[each["connector"]]
        told = {name: value for name, value in each.items() if name not in ("connector", "latency_ms")}
        assert told.items() <= deeply.items()
        assert "findings" not in each
    assert ("streams", "source", "warning") in known(findings["broken"])
    assert findings["wrong"] == []
    text = shop.atlas("connector", "test", "shop", "--deep")
    assert text.returncode == 0
    assert text.stdout.startswith("shop: ok, 1 tables and views")
    assert "cursor_index: an index begins with it" in text.stdout
    change(shop, "DROP INDEX by_at", "DELETE FROM orders")
    definition(shop, ", null_cursor: exclude, primary_key: [what]")
    assert shop.atlas("connector", "test", "shop", "--deep").returncode == 3


def test_a_shared_state_store_is_neither_made_nor_upgraded(shop: Project, postgres: ServerAddress) -> None:
    shop.write("atlas.yaml", f"state:\n  protocol: postgresql\n{connection(postgres)}")
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'pipeline'"

    def of_state(*command: str) -> list[str]:
        done = shop.atlas(*command, "--json")
        assert done.returncode == 0, done.stderr
        answer = done.json()
        found = answer["findings"] if "findings" in answer else answer["results"][0].get("findings", [])
        return [each["message"] for each in found if (each["check"], each["subject"]) == ("version", "state")]

    with connect(postgres) as client:
        (made,) = of_state("connector", "doctor", "shop")
        assert made == "it has no tables yet: the first sync makes them"
        assert client.execute(tables).fetchone() == (0,)
        old = (Path(__file__).parent.parent / "unit/state/stores/version_1.postgresql.sql").read_text()
        client.execute(old.encode())
        before = client.execute(tables).fetchone()
        for command in (("doctor", "shop"), ("test", "shop", "--deep")):
            (told,) = of_state("connector", *command)
            assert told.startswith("it has version 1: the next sync upgrades it to ")
        settings = "protocol: sqlite\nconnection: {database_path: '${secret:shop/path}'}\nstreams: [orders]\n"
        shop.write("connectors.d/shop.yaml", settings)
        missing = shop.atlas("connector", "test", "shop", "--json")  # whose secrets are looked for there
        assert missing.returncode == 2, missing.stdout
        assert client.execute(tables).fetchone() == before
        assert client.execute("SELECT max(version) FROM pipeline.schema_version").fetchone() == (1,)
        assert shop.atlas("connector", "history").returncode == 0
        assert client.execute("SELECT max(version) FROM pipeline.schema_version").fetchone() != (1,)


def test_the_clock_of_a_shared_state_store(shop: Project, postgres: ServerAddress) -> None:
    shop.write("atlas.yaml", f"state:\n  protocol: postgresql\n{connection(postgres)}")
    findings = shop.atlas("connector", "doctor", "shop", "--json").json()["findings"]
    assert ("clock", "state", "ok") in [
        (each["check"], each["subject"], each["severity"]) for each in findings
    ]


def test_a_server_that_takes_no_more_sessions(project: Project, postgres: ServerAddress) -> None:
    """Nobody gets in, so that is what is told, with what to do."""
    with connect(postgres) as client:
        client.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        client.execute("CREATE ROLE atlas_doctor_full LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
        try:
            account = connection(postgres, username="atlas_doctor_full", password="x")
            text = f"protocol: postgresql\nconnection:\n{account}streams: [{{table: orders}}]\n"
            project.write("connectors.d/shop.yaml", text)
            client.execute("ALTER ROLE atlas_doctor_full CONNECTION LIMIT 0")
            done = project.atlas("connector", "doctor", "shop", "--json")
            assert done.returncode == 3
            (problem,) = [each for each in done.json()["findings"] if each["severity"] == "problem"]
            assert "too many connections" in problem["message"]
            assert "max_connections" in problem["fix"]
        finally:
            client.execute("DROP ROLE atlas_doctor_full")


def test_a_warning_with_a_fix_is_told_once(project: Project, postgres: ServerAddress) -> None:
    with connect(postgres) as client:
        client.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        client.execute("CREATE ROLE atlas_doctor_role LOGIN PASSWORD 'x'")
        try:
            client.execute("GRANT SELECT ON orders TO atlas_doctor_role")
            account = connection(postgres, username="atlas_doctor_role", password="x")
            project.write(
                "connectors.d/shop.yaml",
                f"protocol: postgresql\nconnection:\n{account}streams:\n  - {{table: orders, cursor: id}}\n",
            )
            answer = project.atlas("connector", "test", "shop", "--deep", "--json").json()["results"][0]
            (warning,) = answer["warnings"]
            told = [each for each in answer["findings"] if "other transactions" in each["message"]]
            assert [each["check"] for each in told] == ["open_transactions"]
            assert warning == f"{told[0]['message']}: {told[0]['fix']}"
        finally:
            client.execute("DROP OWNED BY atlas_doctor_role CASCADE; DROP ROLE atlas_doctor_role")
