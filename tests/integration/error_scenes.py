"""How the errors come about that have a page: a project for each, in which its own command fails so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import duckdb
import psycopg
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project

Scene = Callable[["Stage"], None]
SCENES: dict[str, Scene] = {}

ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL, updated_at TIMESTAMP)",
    "INSERT INTO orders VALUES (1, 9.5, '2026-03-01 08:00:00'), (2, 7.0, '2026-03-01 09:00:00')",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A project, and what its scene is made with."""

    project: Project
    request: pytest.FixtureRequest
    patch: pytest.MonkeyPatch
    run: Callable[..., str]

    def sql(self, *statements: str) -> None:
        """Statements in the source, `shop.db`."""
        with closing(sqlite3.connect(self.project.folder / "shop.db")) as shop, shop:
            for statement in statements:
                shop.execute(statement)

    def warehouse(self, *statements: str) -> None:
        """Statements in the destination."""
        with duckdb.connect(self.project.folder / "warehouse.duckdb") as warehouse:
            for statement in statements:
                warehouse.execute(statement)

    def shop(self, stream: dict[str, object], *statements: str, **more: object) -> None:
        """The connector `shop` of a SQLite file with what these statements make."""
        self.sql(*(statements or ORDERS))
        connection = {"database_path": "shop.db"}
        self.define({"protocol": "sqlite", "connection": connection, "streams": [stream], **more})

    def define(self, definition: dict[str, object]) -> None:
        """The connector `shop`, and a destination of a name that is known."""
        warehouse = {"destinations": {"warehouse": {"protocol": "duckdb", "path": "warehouse.duckdb"}}}
        self.project.write("atlas.yaml", json.dumps(warehouse))
        self.project.write("connectors.d/shop.yaml", json.dumps(definition))

    def api(self, answer: str, status: int) -> None:
        """The connector `shop` of an API that answers so to everything."""
        server: HTTPServer = self.request.getfixturevalue("httpserver")
        server.expect_request("/v1/orders").respond_with_data(answer, status, content_type="application/json")
        connection = {"base_url": server.url_for("/v1"), "resources": {"orders": {"path": "/orders"}}}
        connection["attempts"] = 1
        self.define({"protocol": "http", "connection": connection})

    def postgres(self, *statements: str, **connection: object) -> None:
        """The connector `shop` of a PostgreSQL server, after these statements."""
        address = self.request.getfixturevalue("postgres")
        with psycopg.connect(address.url("postgresql"), autocommit=True) as session:
            for statement in statements:
                session.execute(statement.encode())
        known = {"host": address.host, "port": address.port, "database": address.database}
        known |= {"username": address.username, "password": address.password}
        self.define({
            "protocol": "postgresql",
            "connection": {**known, **connection},
            "streams": [{"table": "orders"}],
        })  # fmt: skip


def scene(made: Scene) -> Scene:
    SCENES[made.__name__] = made
    return made


@scene
def unknown_connector(stage: Stage) -> None:
    stage.shop({"table": "orders"})


@scene
def unknown_protocol(stage: Stage) -> None:
    stage.define({"protocol": "postgresq", "connection": {}})


@scene
def invalid_config(stage: Stage) -> None:
    stage.sql(*ORDERS)
    stage.project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection:\n  database_path: shop.db\nstreams:\n"
        "  - table: orders\n    curser: id\n",
    )


@scene
def yaml_syntax(stage: Stage) -> None:
    stage.project.write("connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: shop.db\n")


@scene
def missing_variable(stage: Stage) -> None:
    stage.define({"protocol": "sqlite", "connection": {"database_path": "${env:SHOP_DATABASE}"}})


@scene
def missing_secret(stage: Stage) -> None:
    stage.run("secret", "set", "shop/password", stdin="x")
    stage.define(
        {
            "protocol": "postgresql",
            "connection": {"password": "${secret:shop/pasword}"},
            "streams": [{"table": "orders"}],
        }
    )


@scene
def exposed_secret(stage: Stage) -> None:
    stage.run("secret", "set", "shop/password", stdin="x")
    for file in (stage.project.folder / ".atlas").glob("*secret*"):
        file.chmod(0o644)
    connection = {"host": "db.example.com", "password": "${secret:shop/password}"}
    stage.define({"protocol": "postgresql", "connection": connection, "streams": [{"table": "orders"}]})


@scene
def unknown_destination(stage: Stage) -> None:
    stage.shop({"table": "orders"}, destination="warehose")


@scene
def connection_refused(stage: Stage) -> None:
    connection = {"host": "127.0.0.1", "port": 1, "username": "etl", "database": "shop"}
    stage.define({
        "protocol": "postgresql",
        "connection": connection,
        "streams": [{"table": "orders"}],
        "retry": {"attempts": 1},
    })  # fmt: skip


@scene
def authentication_failed(stage: Stage) -> None:
    stage.postgres(username="etl", password="guessed")


@scene
def permission_denied(stage: Stage) -> None:
    stage.postgres(
        "DROP TABLE IF EXISTS orders",
        "CREATE TABLE orders (id int PRIMARY KEY)",
        "DROP ROLE IF EXISTS clerk",
        "CREATE ROLE clerk LOGIN PASSWORD 'quill'",
        username="clerk",
        password="quill",
    )


@scene
def database_not_found(stage: Stage) -> None:
    stage.postgres(database="shopp")


@scene
def table_not_found(stage: Stage) -> None:
    stage.shop({"table": "order"})


@scene
def column_not_found(stage: Stage) -> None:
    stage.shop({"table": "orders", "cursor": "updatedat"})


@scene
def no_primary_key(stage: Stage) -> None:
    stage.shop({"table": "log", "disposition": "merge"}, "CREATE TABLE log (at TIMESTAMP, text TEXT)")


@scene
def cursor_type(stage: Stage) -> None:
    stage.shop(
        {"table": "orders", "cursor": "paid"},
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, paid BOOLEAN)",
        "INSERT INTO orders VALUES (1, 1)",
    )


@scene
def null_cursor(stage: Stage) -> None:
    stage.shop({"table": "orders", "cursor": "updated_at"}, *ORDERS, "INSERT INTO orders (id) VALUES (3)")


@scene
def null_key(stage: Stage) -> None:
    stage.shop(
        {"table": "customers", "primary_key": ["email"], "disposition": "merge"},
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT)",
        "INSERT INTO customers VALUES (1, 'ada@example.com'), (2, NULL)",
    )


@scene
def value_hazard(stage: Stage) -> None:
    stage.shop(
        {"table": "orders"},
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER)",
        "INSERT INTO orders VALUES (1, 5), (2, 'five')",
    )


@scene
def schema_change(stage: Stage) -> None:
    stage.shop(
        {"table": "orders", "cursor": "id"},
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, placed DATE)",
        "INSERT INTO orders VALUES (1, '2026-03-01')",
    )
    stage.run("connector", "sync", "shop")
    stage.sql(
        "DROP TABLE orders",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, placed INTEGER)",
        "INSERT INTO orders VALUES (2, 20260302)",
    )


@scene
def cursor_changed(stage: Stage) -> None:
    stage.shop({"table": "orders", "cursor": "updated_at"})
    stage.run("connector", "sync", "shop")
    stage.shop({"table": "orders", "cursor": "id"}, "SELECT 1")


@scene
def table_not_ours(stage: Stage) -> None:
    stage.shop({"table": "orders", "disposition": "replace"})
    stage.warehouse("CREATE SCHEMA shop", "CREATE TABLE shop.orders AS SELECT 1 AS id")


@scene
def too_many_deletes(stage: Stage) -> None:
    stage.shop({"table": "orders", "cursor": "updated_at", "deletes": "reconcile"})
    stage.run("connector", "sync", "shop")
    stage.sql("DELETE FROM orders WHERE id = 1")


@scene
def too_many_quarantined(stage: Stage) -> None:
    stage.shop(
        {"table": "orders", "quarantine_limit": 1},
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER)",
        "INSERT INTO orders VALUES (1, 5), (2, 'two'), (3, 'three')",
    )


@scene
def different(stage: Stage) -> None:
    stage.shop({"table": "orders", "cursor": "updated_at"})
    stage.run("connector", "sync", "shop")
    stage.warehouse("DELETE FROM shop.orders WHERE id = 1")


@scene
def file_not_found(stage: Stage) -> None:
    stage.project.write("exports/orders.csv", "id\n1\n")
    stage.define({"protocol": "csv", "connection": {"path": "exports/order.csv"}})


@scene
def malformed_row(stage: Stage) -> None:
    stage.project.write("orders.jsonl", '{"id": 1}\n{"id": 2}\n{"id": 3\n')
    stage.define({"protocol": "jsonl", "connection": {"path": "orders.jsonl"}})


@scene
def http_401(stage: Stage) -> None:
    stage.api('{"error": "bad token"}', 401)


@scene
def http_404(stage: Stage) -> None:
    stage.api('{"error": "no such thing"}', 404)


@scene
def http_429(stage: Stage) -> None:
    stage.api('{"error": "slow down"}', 429)


@scene
def records_not_found(stage: Stage) -> None:
    stage.api('{"orders": [{"id": 1}], "refunds": [{"id": 2}]}', 200)
