"""The page of each protocol says what is so: its example is valid, its types are those that are read."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from pytest_httpserver import HTTPServer
from tests.documents import DOCS, blocks
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

from atlas_etl import values
from atlas_etl.api.atlas import Atlas
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.connectors.sql._mssql.types import Described, source_column
from atlas_etl.connectors.sql._oracle import types as oracle_types
from atlas_etl.model import Hazard, HazardPolicy, ReadRequest, Stream

PAGES = {path.stem: path for path in (DOCS / "protocols" / "_notes").glob("*.md")}
NOTES = {protocol: page.read_text(encoding="utf-8") for protocol, page in PAGES.items()}
BUILT_IN = [info for info in registry.protocols() if registry.is_built_in(info.protocol)]
SECTIONS = ["Example", "Types", "Permissions", "Limits"]


def test_every_protocol_has_its_passage() -> None:
    assert sorted(NOTES) == [info.protocol for info in BUILT_IN]


@pytest.mark.parametrize("protocol", sorted(NOTES))
def test_a_passage_has_all_its_sections(protocol: str) -> None:
    assert re.findall(r"^## (.*)$", NOTES[protocol], re.M) == SECTIONS
    assert all(part.strip() for part in re.split(r"^## .*$", NOTES[protocol], flags=re.M)[1:])


@pytest.mark.parametrize("protocol", sorted(NOTES))
def test_the_example_is_valid(protocol: str, project: Project) -> None:
    example, *_parts = blocks(PAGES[protocol], "yaml")  # tests/integration/test_docs_yaml.py has the parts
    project.write("connectors.d/example.yaml", example)
    atlas = Atlas.open(project.folder, {})
    atlas.keep(dict.fromkeys(re.findall(r"\$\{secret:([^}]+)\}", example), "x"))
    prepared = atlas.connector("example")
    assert prepared.definition.protocol == protocol
    assert prepared.chosen(())


def test_the_grants_are_those_of_the_guide() -> None:
    """Which tests/integration/test_permissions.py has tried."""
    of_protocols = [*blocks(PAGES["postgresql"], "sql"), *blocks(PAGES["mysql"], "sql")]
    assert of_protocols == blocks(DOCS / "guides" / "permissions.md", "sql")


# Types


@dataclass(frozen=True)
class Row:
    """What a page says of one column: `told` is its declaration, or values of it."""

    told: tuple[str, ...]
    read_as: str
    hazards: tuple[tuple[str, str], ...]  # and an SQL literal of each


def rows_of(protocol: str) -> list[Row]:
    """The rows of the page's table of types."""
    section = NOTES[protocol].partition("## Types")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+) \|$", section, re.M)[1:]
    found = []
    for line in lines:
        told, read_as, *more = (cell.strip() for cell in line.split("|"))
        hazards = re.findall(r"(\w+): `([^`]+)`", more[0] if more else "")
        found.append(Row(tuple(re.findall(r"`([^`]+)`", told)), read_as, tuple(hazards)))
    return found


def columns_of(protocol: str) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Each column of the table: its declaration, what it is read as, its hazards."""
    return [(told, row.read_as, row.hazards) for row in rows_of(protocol) for told in row.told]


def connector(protocol: str, **config: object) -> BaseConnector[ConnectionConfig]:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    made = adapter.connector(adapter.connection.model_validate(config))
    assert isinstance(made, BaseConnector)
    return made


def types_read(source: BaseConnector[ConnectionConfig], stream: Stream) -> list[str]:
    with closing(source), source.open(ReadRequest(stream)) as extract:
        return [values.type_name(field.type) for field in extract.schema]


@dataclass(frozen=True)
class Database:
    """A database: how to make a table of it, and how to read that."""

    protocol: str
    execute: Callable[[str], object]
    config: dict[str, object]

    def compare(self) -> None:
        """The types of a table with every column of the page, and what is a hazard in each."""
        columns = columns_of(self.protocol)
        named = [f"c{n}" for n in range(len(columns))]
        declared = ", ".join(f"{name} {told}" for name, (told, _, _) in zip(named, columns, strict=True))
        self.execute(f"CREATE TABLE t ({declared})")
        stream = Stream("t", table="t")
        read = types_read(connector(self.protocol, **self.config), stream)
        assert list(zip([told for told, _, _ in columns], read, strict=True)) == [
            (told, read_as) for told, read_as, _ in columns
        ]
        expected = {}
        for name, (_, _, hazards) in zip(named, columns, strict=True):
            for hazard, literal in hazards:
                self.execute(f"INSERT INTO t ({name}) VALUES ({literal})")
                expected[f"{name}: {hazard}"] = 1
        assert self._nulled(stream) == expected

    def _nulled(self, stream: Stream) -> dict[str, int]:
        """Every hazard that is found, as a stream that reads NULL for all of them counts it."""
        harmless = Stream(stream.name, table="t", hazards=dict.fromkeys(Hazard, HazardPolicy.NULL))
        source = connector(self.protocol, **self.config)
        with closing(source), source.open(ReadRequest(harmless)) as extract:
            for _ in extract.batches():
                pass
            return dict(extract.nulled())


def test_the_types_of_postgresql(postgres: ServerAddress) -> None:
    with psycopg.connect(postgres.url("postgresql"), autocommit=True) as owner:
        config = {
            "host": postgres.host, "port": postgres.port, "database": postgres.database,
            "username": postgres.username, "password": postgres.password,
        }  # fmt: skip
        Database("postgresql", lambda sql: owner.execute(sql.encode()), config).compare()


def test_the_types_of_mysql(mysql: ServerAddress) -> None:
    with closing(mysql_recipe.connect(mysql)) as client, client.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        config = {
            "host": mysql.host, "port": mysql.port, "database": mysql.database,
            "username": mysql.username, "password": mysql.password,
        }  # fmt: skip
        Database("mysql", cursor.execute, config).compare()


def test_the_types_of_mssql() -> None:
    """Of what is selected, as no server is here to make a table."""
    columns = columns_of("mssql")
    fields = [source_column(Described("c", told, True)).field for told, _, _ in columns]
    assert [values.type_name(field.type) for field in fields] == [read_as for _, read_as, _ in columns]


def test_the_types_of_oracle() -> None:
    """Of what is selected, as no server is here to make a table."""
    columns = columns_of("oracle")
    found = [
        oracle_types.source_column(oracle_types.Described("c", told, True)).field for told, _, _ in columns
    ]
    assert [values.type_name(field.type) for field in found] == [read_as for _, read_as, _ in columns]


def test_the_types_of_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(file)) as client:
            client.execute(sql)
            client.commit()

    Database("sqlite", execute, {"database_path": str(file)}).compare()


def test_the_types_of_duckdb(tmp_path: Path) -> None:
    file = tmp_path / "shop.duckdb"

    def execute(sql: str) -> None:
        with duckdb.connect(str(file)) as client:
            client.execute(sql)

    Database("duckdb", execute, {"path": str(file)}).compare()


def cells_of(protocol: str) -> tuple[list[str], list[Sequence[str]]]:
    """What each column is read as, and rows that have each column's values over and over."""
    rows = rows_of(protocol)
    most = max(len(row.told) for row in rows)
    return [row.read_as for row in rows], [[row.told[n % len(row.told)] for row in rows] for n in range(most)]


def test_the_types_of_csv(tmp_path: Path) -> None:
    read_as, records = cells_of("csv")
    header = [f"c{n}" for n in range(len(read_as))]
    (tmp_path / "t.csv").write_text("".join(",".join(record) + "\n" for record in (header, *records)))
    assert types_read(connector("csv", path=str(tmp_path)), Stream("t", path="t.csv")) == read_as


def objects(protocol: str) -> tuple[list[str], list[str]]:
    """What each member is read as, and JSON objects with its values."""
    read_as, records = cells_of(protocol)
    members = [[f'"c{n}": {value}' for n, value in enumerate(record)] for record in records]
    return read_as, [f"{{{', '.join(record)}}}" for record in members]


def test_the_types_of_jsonl(tmp_path: Path) -> None:
    read_as, lines = objects("jsonl")
    (tmp_path / "t.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert types_read(connector("jsonl", path=str(tmp_path)), Stream("t", path="t.jsonl")) == read_as


def test_the_types_of_http(httpserver: HTTPServer) -> None:
    read_as, records = objects("http")
    httpserver.expect_request("/t").respond_with_data(
        f"[{', '.join(records)}]", content_type="application/json"
    )
    source = connector("http", base_url=httpserver.url_for("/").rstrip("/"), resources={"t": "/t"})
    assert types_read(source, Stream("t", table="t")) == read_as


def test_the_types_of_graphql(httpserver: HTTPServer) -> None:
    read_as, records = objects("graphql")
    answer = f'{{"data": {{"t": [{", ".join(records)}]}}}}'
    httpserver.expect_request("/").respond_with_data(answer, content_type="application/json")
    resource = {"query": "{ t { c0 } }", "records": "t"}
    source = connector("graphql", endpoint=httpserver.url_for("/"), resources={"t": resource})
    assert types_read(source, Stream("t", table="t")) == read_as


SPELLED = {
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "uuid": pa.uuid(),
    "bool": pa.bool_(),
    "float": pa.float32(),
    "double": pa.float64(),
    "decimal128(12, 2)": pa.decimal128(12, 2),
    "decimal256(60, 5)": pa.decimal256(60, 5),
    "fixed_size_binary[16]": pa.binary(16),
    "timestamp[us, tz=Europe/Berlin]": pa.timestamp("us", "Europe/Berlin"),
    "list<element: int32>": pa.list_(pa.field("element", pa.int32())),
    "struct<a: int32>": pa.struct([("a", pa.int32())]),
    "map<string, int32>": pa.map_(pa.string(), pa.int32()),
}


def test_the_types_of_parquet(tmp_path: Path) -> None:
    columns = columns_of("parquet")
    kinds = [SPELLED.get(told) or pa.type_for_alias(told) for told, _, _ in columns]
    assert [str(kind) for kind, (told, _, _) in zip(kinds, columns, strict=True) if told not in SPELLED] == [
        told for told, _, _ in columns if told not in SPELLED
    ]
    fields = [pa.field(f"c{n}", kind) for n, kind in enumerate(kinds)]
    pyarrow.parquet.write_table(pa.schema(fields).empty_table(), tmp_path / "t.parquet")
    read = types_read(connector("parquet", path=str(tmp_path)), Stream("t", path="t.parquet"))
    assert list(zip([told for told, _, _ in columns], read, strict=True)) == [
        (told, read_as) for told, read_as, _ in columns
    ]


XSD = """<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:s="urn:t" name="T"
  xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:x="http://www.w3.org/2001/XMLSchema"
  targetNamespace="urn:t">
  <types><x:schema targetNamespace="urn:t" elementFormDefault="qualified">
    <x:element name="List"><x:complexType><x:sequence/></x:complexType></x:element>
    <x:complexType name="T"><x:sequence>{members}</x:sequence></x:complexType>
    <x:element name="ListResponse"><x:complexType><x:sequence>
      <x:element name="t" type="s:T" minOccurs="0" maxOccurs="unbounded"/>
      <x:element name="count" type="x:int"/>
    </x:sequence></x:complexType></x:element>
  </x:schema></types>
  <message name="In"><part name="parameters" element="s:List"/></message>
  <message name="Out"><part name="parameters" element="s:ListResponse"/></message>
  <portType name="Port"><operation name="List">
    <input message="s:In"/><output message="s:Out"/></operation></portType>
  <binding name="Binding" type="s:Port">
    <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="List"><soap:operation soapAction="urn:t#List"/>
      <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <service name="T"><port name="Port" binding="s:Binding">
    <soap:address location="{address}"/></port></service>
</definitions>"""
SOAP_VALUES = {
    "long": "7", "decimal": "1.50", "boolean": "true", "dateTime": "2026-03-01T08:00:00Z", "string": "x",
}  # fmt: skip


def test_the_types_of_soap(httpserver: HTTPServer) -> None:
    columns = columns_of("soap")
    members = "".join(f'<x:element name="c{n}" type="x:{told}"/>' for n, (told, _, _) in enumerate(columns))
    cells = "".join(f"<c{n}>{SOAP_VALUES[told]}</c{n}>" for n, (told, _, _) in enumerate(columns))
    wsdl = XSD.format(members=members, address=httpserver.url_for("/t"))
    httpserver.expect_request("/t.wsdl").respond_with_data(wsdl, content_type="text/xml")
    httpserver.expect_request("/t", method="POST").respond_with_data(
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
        f'<ListResponse xmlns="urn:t"><t>{cells}</t><count>1</count></ListResponse></e:Body></e:Envelope>',
        content_type="text/xml",
    )
    resource = {"operation": "List", "records": "t"}
    source = connector("soap", wsdl=httpserver.url_for("/t.wsdl"), resources={"t": resource})
    assert types_read(source, Stream("t", table="t")) == [read_as for _, read_as, _ in columns]
