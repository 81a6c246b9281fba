"""Every connector that the contract suite runs over: one line each, and how its source gets rows."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import adbc_driver_sqlite.dbapi
import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pymysql
import pytest
from msgspec.structs import replace
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.model import Stream
from atlas_etl.testing import COLUMNS, Person, Source, as_json
from tests.contract.destination_cases import server
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_mssql import execute as execute_in_stub
from tests.servers.stub_oracle import StubOracle
from tests.servers.stub_oracle import execute as execute_in_stub_oracle


class SqlSource(Source):
    types = ("BIGINT NOT NULL PRIMARY KEY", "TEXT", "DECIMAL(12,2)", "TIMESTAMP")
    quote = '"'
    mark = "?"
    widest_letter = "\U0010ffff"  # that a name may have

    def create(self, people: Sequence[Person]) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, self.types, strict=True))
        self.execute(f"CREATE TABLE people ({columns})")
        self.execute("CREATE INDEX people_updated_at ON people (updated_at)")
        self.insert(people)

    def insert(self, people: Sequence[Person]) -> None:
        if people:
            rows = ", ".join([f"({', '.join([self.mark] * len(COLUMNS))})"] * len(people))
            self.execute(f"INSERT INTO people VALUES {rows}", [*chain.from_iterable(people)])

    def nowhere(self) -> dict[str, object]:
        return {"database": "not_there_at_all"}

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """One committed statement."""


class DuckDBSource(SqlSource):
    shared = False

    def nowhere(self) -> dict[str, object]:
        return {"path": f"{self.config['path']}.none"}

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        with duckdb.connect(str(self.config["path"])) as connection:
            connection.execute(sql, list(parameters))


class SqliteSource(SqlSource):
    def nowhere(self) -> dict[str, object]:
        return {"database_path": f"{self.config['database_path']}.none"}

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        # The connector's own copy of SQLite: Python's would drop its locks, and with them its snapshot.
        path = str(self.config["database_path"])
        with (
            adbc_driver_sqlite.dbapi.connect(path, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(sql, tuple(parameters) or None)


class PostgresSource(SqlSource):
    mark = "%s"

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        server = self.config
        with psycopg.connect(
            host=str(server["host"]), port=server["port"], dbname=str(server["database"]),
            user=str(server["username"]), password=str(server["password"]),
        ) as connection:  # fmt: skip
            connection.execute(sql.encode(), list(parameters) or None)


class MySQLSource(SqlSource):
    types = ("BIGINT NOT NULL PRIMARY KEY", "TEXT", "DECIMAL(12,2)", "DATETIME(6)")
    widest_letter = "\uffff"
    quote = "`"
    mark = "%s"

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        server = self.config
        connection = pymysql.connect(
            host=str(server["host"]), port=int(str(server["port"])), user=str(server["username"]),
            password=str(server["password"]), database=str(server["database"]), charset="utf8mb4",
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00', SESSION sql_mode = ''")
            cursor.execute(sql, tuple(parameters) or None)
            connection.commit()


class StubMSSQLSource(SqlSource):
    """A stand-in for SQL Server, whose database is a file that the test writes."""

    types = ("BIGINT NOT NULL PRIMARY KEY", "NVARCHAR(2000)", "DECIMAL(12,2)", "DATETIME2(6)")

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        execute_in_stub(str(self.config["database"]), sql, parameters)


def stub_mssql(request: pytest.FixtureRequest, _: Path) -> dict[str, object]:
    """A fresh database of the stand-in."""
    server: StubServer = request.getfixturevalue("stub_mssql_server")
    return server.connection(server.fresh_database())


class StubOracleSource(SqlSource):
    """A stand-in for Oracle's driver, whose database is a file that the test writes."""

    types = ("NUMBER(18,0) NOT NULL PRIMARY KEY", "VARCHAR2(2000)", "NUMBER(12,2)", "TIMESTAMP(6)")

    def nowhere(self) -> dict[str, object]:
        return {"service_name": "not_there_at_all"}

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        execute_in_stub_oracle(str(self.config["service_name"]), sql, parameters)


def stub_oracle(request: pytest.FixtureRequest, _: Path) -> dict[str, object]:
    """A fresh database of the stand-in."""
    stub: StubOracle = request.getfixturevalue("stub_oracle")
    return stub.fresh_database()


class FilesSource(Source):
    """A folder with `people-1.<ending>`, `people-2...`: each insert is a new file."""

    @property
    def folder(self) -> Path:
        return Path(str(self.config["path"])).parent

    def stream(self, **more: object) -> Stream:
        return replace(Stream("people", path=str(self.config["path"])), **more)

    def nowhere(self) -> dict[str, object]:
        return {"path": f"{self.config['path']}.none"}

    def create(self, people: Sequence[Person]) -> None:
        self.folder.mkdir(exist_ok=True)
        self.insert(people)

    def insert(self, people: Sequence[Person]) -> None:
        number = len(list(self.folder.iterdir())) + 1
        self.write(self.folder / f"people-{number}.{self.protocol}", people)

    @abstractmethod
    def write(self, path: Path, people: Sequence[Person]) -> None: ...


def table_of(people: Sequence[Person]) -> pa.Table:
    columns = list(zip(*people, strict=True)) or [[], [], [], []]
    types = (pa.int64(), pa.string(), pa.decimal128(12, 2), pa.timestamp("us"))
    texts = [columns[0], *(pa.array(column, pa.string()) for column in columns[1:])]
    arrays = [pa.array(texts[0], pa.int64()), *(t.cast(k) for t, k in zip(texts[1:], types[1:], strict=True))]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


class ParquetSource(FilesSource):
    def write(self, path: Path, people: Sequence[Person]) -> None:
        pyarrow.parquet.write_table(table_of(people), path)


class CsvSource(FilesSource):
    def write(self, path: Path, people: Sequence[Person]) -> None:
        pyarrow.csv.write_csv(table_of(people), path)


class JsonlSource(FilesSource):
    def write(self, path: Path, people: Sequence[Person]) -> None:
        path.write_text("".join(as_json(person) + "\n" for person in people), encoding="utf-8")


class HttpSource(Source):
    """An API that serves a file, whose path its base URL has, a few records at a time."""

    @property
    def file(self) -> Path:
        return Path(urlsplit(str(self.config["base_url"])).path) / "people.json"

    def nowhere(self) -> dict[str, object]:
        return {"base_url": "http://127.0.0.1:9", "attempts": 1}

    def create(self, people: Sequence[Person]) -> None:
        self.file.write_text("[]", encoding="utf-8")
        self.insert(people)

    def insert(self, people: Sequence[Person]) -> None:
        before = json.loads(self.file.read_text(encoding="utf-8"))
        self.file.write_text(json.dumps([*before, *map(as_json, people)]), encoding="utf-8")


def serve_files(request: pytest.FixtureRequest, folder: Path) -> dict[str, object]:
    """An API of the folder's files: each is a list of JSON objects, in text form."""
    server: HTTPServer = request.getfixturevalue("httpserver")

    def people(asked: Request) -> Response:
        objects = json.loads((Path(asked.path).parent / "people.json").read_text(encoding="utf-8"))
        offset, limit = int(asked.args["offset"]), int(asked.args["limit"])
        page = objects[offset : offset + limit]
        return Response(f'{{"data": [{", ".join(page)}]}}', content_type="application/json")

    server.expect_request(re.compile(".*/people")).respond_with_handler(people)
    return {
        "base_url": server.url_for(str(folder)),
        "resources": {"people": {"path": "people"}},
        "pagination": {"type": "offset", "page_size": 30},
    }


class GraphqlSource(HttpSource):
    """The same of a GraphQL API, whose endpoint has the path."""

    def nowhere(self) -> dict[str, object]:
        return {"endpoint": "http://127.0.0.1:9", "attempts": 1}

    @property
    def file(self) -> Path:
        return Path(urlsplit(str(self.config["endpoint"])).path) / "people.json"


def serve_connections(request: pytest.FixtureRequest, folder: Path) -> dict[str, object]:
    """A GraphQL API of one connection: the folder's file, in text form."""
    server: HTTPServer = request.getfixturevalue("httpserver")

    def people(asked: Request) -> Response:
        objects = json.loads((Path(asked.path) / "people.json").read_text(encoding="utf-8"))
        start = int(json.loads(asked.data)["variables"].get("after", "0"))
        end = start + 30
        info = json.dumps({"hasNextPage": end < len(objects), "endCursor": str(end)})
        nodes = ", ".join(objects[start:end])
        body = f'{{"data": {{"people": {{"nodes": [{nodes}], "pageInfo": {info}}}}}}}'
        return Response(body, content_type="application/json")

    server.expect_request(str(folder), method="POST").respond_with_handler(people)
    fields = " ".join(COLUMNS)
    query = (
        "query ($after: String) { people(first: 30, after: $after) "
        f"{{ nodes {{ {fields} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    )
    return {
        "endpoint": server.url_for(str(folder)),
        "resources": {"people": {"query": query, "records": "people.nodes"}},
    }


class SoapSource(HttpSource):
    """The same of a SOAP service, whose endpoint has the path."""

    def nowhere(self) -> dict[str, object]:
        return {"wsdl": "http://127.0.0.1:9", "attempts": 1}

    @property
    def file(self) -> Path:
        return Path(urlsplit(str(self.config["endpoint"])).path) / "people.json"


PEOPLE_WSDL = """<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:s="urn:people" name="People"
  xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:x="http://www.w3.org/2001/XMLSchema"
  targetNamespace="urn:people">
  <types><x:schema targetNamespace="urn:people" elementFormDefault="qualified">
    <x:element name="List"><x:complexType><x:sequence/></x:complexType></x:element>
    <x:complexType name="Person"><x:sequence>
      <x:element name="id" type="x:long"/><x:element name="name" type="x:string" nillable="true"/>
      <x:element name="amount" type="x:decimal" nillable="true"/>
      <x:element name="updated_at" type="x:dateTime" nillable="true"/>
    </x:sequence></x:complexType>
    <x:element name="ListResponse"><x:complexType><x:sequence>
      <x:element name="person" type="s:Person" minOccurs="0" maxOccurs="unbounded"/>
      <x:element name="count" type="x:int"/>
    </x:sequence></x:complexType></x:element>
  </x:schema></types>
  <message name="In"><part name="parameters" element="s:List"/></message>
  <message name="Out"><part name="parameters" element="s:ListResponse"/></message>
  <portType name="Port"><operation name="List">
    <input message="s:In"/><output message="s:Out"/></operation></portType>
  <binding name="Binding" type="s:Port">
    <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="List"><soap:operation soapAction="urn:people#List"/>
      <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <service name="People"><port name="Port" binding="s:Binding">
    <soap:address location="http://127.0.0.1:9/people"/></port></service>
</definitions>"""


def serve_operation(request: pytest.FixtureRequest, folder: Path) -> dict[str, object]:
    """A SOAP service of one operation: the folder's file, as XML."""
    server: HTTPServer = request.getfixturevalue("httpserver")

    def member(name: str, value: object) -> str:
        if value is None:
            return f'<{name} i:nil="true"/>'
        return f"<{name}>{escape(str(value))}</{name}>"

    def people(asked: Request) -> Response:
        objects = json.loads((Path(asked.path) / "people.json").read_text(encoding="utf-8"))
        found = [json.loads(text, parse_float=str) for text in objects]
        rows = "".join(
            f"<person>{''.join(member(name, row[name]) for name in COLUMNS)}</person>" for row in found
        )
        body = (
            '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
            '<ListResponse xmlns="urn:people" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'
            f"{rows}<count>{len(found)}</count></ListResponse></e:Body></e:Envelope>"
        )
        return Response(body, content_type="text/xml; charset=utf-8")

    server.expect_request("/people.wsdl").respond_with_data(PEOPLE_WSDL, content_type="text/xml")
    server.expect_request(str(folder), method="POST").respond_with_handler(people)
    return {
        "wsdl": server.url_for("/people.wsdl"),
        "endpoint": server.url_for(str(folder)),
        "resources": {"people": {"operation": "List", "records": "person"}},
    }


@dataclass(frozen=True)
class ConnectorCase:
    """One protocol that is read from."""

    protocol: str
    source: type[Source]
    connection: object

    @property
    def name(self) -> str:
        """As tests show it: a stand-in never reads as the engine."""
        return (
            f"stub_{self.protocol}" if self.source in (StubMSSQLSource, StubOracleSource) else self.protocol
        )

    @property
    def is_sql(self) -> bool:
        return issubclass(self.source, SqlSource)

    def open(self, request: pytest.FixtureRequest, folder: Path) -> Source:
        assert callable(self.connection)
        return self.source(self.protocol, self.connection(request, folder))


CONNECTORS = (
    ConnectorCase("duckdb", DuckDBSource, lambda _, folder: {"path": str(folder / "source.duckdb")}),
    ConnectorCase("sqlite", SqliteSource, lambda _, folder: {"database_path": str(folder / "source.db")}),
    ConnectorCase("postgresql", PostgresSource, server("postgres")),
    ConnectorCase("mysql", MySQLSource, server("mysql")),
    ConnectorCase("mssql", StubMSSQLSource, stub_mssql),
    ConnectorCase("oracle", StubOracleSource, stub_oracle),
    ConnectorCase("parquet", ParquetSource, lambda _, f: {"path": str(f / "drop" / "people-*.parquet")}),
    ConnectorCase("jsonl", JsonlSource, lambda _, f: {"path": str(f / "drop" / "people-*.jsonl")}),
    ConnectorCase("http", HttpSource, serve_files),
    ConnectorCase("graphql", GraphqlSource, serve_connections),
    ConnectorCase("soap", SoapSource, serve_operation),
    ConnectorCase("csv", CsvSource, lambda _, f: {"path": str(f / "drop" / "people-*.csv")}),
)
