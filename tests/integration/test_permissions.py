"""The grants that the documentation names are enough for everything, and each of them is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from tests.documents import DOCS, blocks
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

from atlas_etl.cli import app as cli

GUIDE = DOCS / "guides" / "permissions.md"
PG_READ, PG_WRITE, PG_WRITE_INTO, MY_READ, MY_WRITE = blocks(GUIDE, "sql")

_NEW_COLUMN = "rows from before the tail are not read again"  # which no grant changes

Execute = Callable[[str], object]
Place = dict[str, object]


def statements(block: str) -> list[str]:
    return [line.rstrip(";") for line in block.splitlines()]


def with_one_fewer(block: str) -> Iterator[tuple[str, str]]:
    """Each thing that the block allows, and the block without it."""
    for statement in statements(block):
        if statement.startswith("CREATE "):
            continue
        found = re.match(r"GRANT (.+?) ON ", statement)
        allowed = found[1].split(", ") if found else [statement]
        for one in allowed:
            others = ", ".join(other for other in allowed if other != one)
            rest = statement.replace(f"GRANT {', '.join(allowed)} ON", f"GRANT {others} ON") if others else ""
            yield one, block.replace(f"{statement};\n", f"{rest};\n" if rest else "")


def cases(read: str, write: str) -> list[object]:
    """Reader's and writer's grants, one of them missing."""
    found = [
        *(("read", name, fewer, write) for name, fewer in with_one_fewer(read)),
        *(("written", name, read, fewer) for name, fewer in with_one_fewer(write)),
    ]
    return [pytest.param(*pair, id=f"{where}: {name}") for where, name, *pair in found]


class Shop:
    """A shop, and a connector that reads it as the role `etl` and writes it as `loader`."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str], execute: Execute) -> None:
        self.project = project
        self.execute = execute
        self._capsys = capsys

    def define(self, protocol: str, source: Place, destination: Place) -> None:
        to = {"protocol": protocol, **destination, "username": "loader", "password": "change-me"}
        self.project.write("atlas.yaml", json.dumps({"destinations": {"warehouse": to}}))
        streams = [
            {"table": "orders", "cursor": "at", "deletes": "reconcile", "quarantine_limit": 10},
            {"name": "log", "table": "orders", "cursor": "id", "disposition": "append"},
            {"name": "whole", "table": "orders", "disposition": "replace", "partitions": 2},
            {"table": "later", "disposition": "replace"},
        ]
        connection = {**source, "username": "etl", "password": "change-me"}
        shop = {"protocol": protocol, "connection": connection, "streams": streams}
        self.project.write("connectors.d/shop.yaml", json.dumps(shop))

    def failures(self) -> Iterator[str]:
        """What goes wrong or is warned of while everything is done that a connector does."""
        yield from self._test()
        yield from self._run("discover", "shop")
        yield from self._changed("INSERT INTO orders VALUES (100001, '2026-03-01', 1)")
        yield from self._changed("DELETE FROM orders WHERE id = 1")
        yield from self._changed("ALTER TABLE orders ADD COLUMN note varchar(9)")
        yield from self._changed("ALTER TABLE orders DROP COLUMN amount")
        yield from self._changed("ALTER TABLE orders ADD COLUMN amount date", "--full-refresh")
        yield from self._run("verify", "shop")

    def _changed(self, statement: str, *options: str) -> list[str]:
        self.execute(statement)
        return self._run("sync", "shop", *options)

    def _test(self) -> list[str]:
        failed = self._run("test", "shop", "--json", keep=True)
        (result,) = json.loads(self._capsys.readouterr().out)["results"]
        return [*failed, *result["warnings"]]

    def _run(self, *words: str, keep: bool = False) -> list[str]:
        code = cli.run(["connector", *words])
        if keep:
            return [" ".join(words)] if code else []
        told = self._capsys.readouterr().err
        warned = [each for each in re.findall(r"^.*warning: .*$", told, re.M) if _NEW_COLUMN not in each]
        return [f"{' '.join(words)}: {told}"] if code else warned


@pytest.fixture
def shop(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Execute], Shop]:
    monkeypatch.chdir(project.folder)
    return lambda execute: Shop(project, capsys, execute)


TABLE = "CREATE TABLE {name} (id int PRIMARY KEY, at {time}, amount int)"


@contextmanager
def postgres_shop(server: ServerAddress, read: str, write: str, made: str = "") -> Iterator[Execute]:
    """The owner of a database in which nobody may do what is not granted here."""
    database = f'"{server.database}"'
    with psycopg.connect(server.url("postgresql"), autocommit=True) as owner:

        def run(text: str) -> object:
            return owner.execute(text.encode())

        run(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        run(TABLE.format(name="orders", time="timestamptz"))
        run("INSERT INTO orders SELECT n, '2026-01-01', n FROM generate_series(1, 100000) n")
        run("ANALYZE orders")
        if made:
            run(made)
        try:
            for block in (read, write):
                for statement in statements(block):
                    run(statement.replace("DATABASE shop ", f"DATABASE {database} "))
            run(TABLE.format(name="later", time="timestamptz"))
            yield run
        finally:
            for role in ("etl", "loader"):
                run(f"DROP OWNED BY {role} CASCADE")
                run(f"DROP ROLE {role}")


def of_postgres(server: ServerAddress) -> Place:
    return {"host": server.host, "port": server.port, "database": server.database}


def test_postgresql_needs_no_more(postgres: ServerAddress, shop: Callable[[Execute], Shop]) -> None:
    with postgres_shop(postgres, PG_READ, PG_WRITE) as execute:
        connector = shop(execute)
        connector.define("postgresql", of_postgres(postgres), of_postgres(postgres))
        assert list(connector.failures()) == []


def test_postgresql_needs_no_more_in_a_schema_that_is_there(
    postgres: ServerAddress, shop: Callable[[Execute], Shop]
) -> None:
    with postgres_shop(postgres, PG_READ, PG_WRITE_INTO, "CREATE SCHEMA shop") as execute:
        connector = shop(execute)
        connector.define("postgresql", of_postgres(postgres), of_postgres(postgres))
        assert list(connector.failures()) == []


@pytest.mark.parametrize(("read", "write"), cases(PG_READ, PG_WRITE))
def test_postgresql_needs_each_grant(
    postgres: ServerAddress, shop: Callable[[Execute], Shop], read: str, write: str
) -> None:
    with postgres_shop(postgres, read, write) as execute:
        connector = shop(execute)
        connector.define("postgresql", of_postgres(postgres), of_postgres(postgres))
        assert next(connector.failures(), None)


@contextmanager
def mysql_shop(server: ServerAddress, read: str, write: str) -> Iterator[Execute]:
    """The root of a server with a shop, and two accounts with these grants."""
    with closing(mysql_recipe.connect(server)) as root, root.cursor() as cursor:
        cursor.execute(TABLE.format(name="orders", time="datetime(6)"))
        rows = ", ".join(f"({n}, '2026-01-01', {n})" for n in range(1, 100_001))
        cursor.execute(f"INSERT INTO orders VALUES {rows}")
        cursor.execute("ANALYZE TABLE orders")
        try:
            granted = [*statements(read.replace(" shop.*", f" `{server.database}`.*")), *statements(write)]
            for statement in granted:
                cursor.execute(statement)
            cursor.execute(TABLE.format(name="later", time="datetime(6)"))
            yield cursor.execute
        finally:
            cursor.execute("DROP DATABASE IF EXISTS shop")
            cursor.execute("DROP USER etl, loader")


def of_mysql(server: ServerAddress) -> tuple[Place, Place]:
    there: Place = {"host": server.host, "port": server.port}
    return {**there, "database": server.database}, there


def test_mysql_needs_no_more(mysql: ServerAddress, shop: Callable[[Execute], Shop]) -> None:
    with mysql_shop(mysql, MY_READ, MY_WRITE) as execute:
        connector = shop(execute)
        connector.define("mysql", *of_mysql(mysql))
        assert list(connector.failures()) == []


@pytest.mark.parametrize(("read", "write"), cases(MY_READ, MY_WRITE))
def test_mysql_needs_each_grant(
    mysql: ServerAddress, shop: Callable[[Execute], Shop], read: str, write: str
) -> None:
    with mysql_shop(mysql, read, write) as execute:
        connector = shop(execute)
        connector.define("mysql", *of_mysql(mysql))
        assert next(connector.failures(), None)


def test_the_statements_are_taken_apart() -> None:
    assert dict(with_one_fewer("GRANT A, B ON x TO y;\nGRANT c TO y;\n")) == {
        "A": "GRANT B ON x TO y;\nGRANT c TO y;\n",
        "B": "GRANT A ON x TO y;\nGRANT c TO y;\n",
        "GRANT c TO y": "GRANT A, B ON x TO y;\n",
    }
