"""APIs as sources of the harness: what SqliteSource keeps and changes, answered as GraphQL and SOAP do.

Neither has a snapshot. A page goes on behind the last (changed_at, id) of the one before, so a row that is
changed meanwhile comes again, with a later cursor.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.sax.saxutils import escape

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.crash.rows import COLUMNS, STREAMS
from tests.crash.sources import SqliteSource

_PAGE = 400
_QUERY = """query ($after: String, $since: Int) {
  TABLE(after: $after, since: $since) { nodes { COLUMNS } pageInfo { hasNextPage endCursor } }
}"""
_KINDS = {"id": "long", "changed_at": "long", "amount": "decimal", "note": "string", "version": "int"}


class ApiSource(SqliteSource):
    """Rows from a cursor on, and behind a position, in the order of both."""

    def __init__(self, folder: Path, server: HTTPServer) -> None:
        super().__init__(folder)
        self.server = server

    def _from(self, table: str, since: int, behind: tuple[int, int], most: int) -> list[dict[str, object]]:
        sql = (
            f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE changed_at >= ? AND (changed_at, id) > (?, ?) "
            "ORDER BY changed_at, id LIMIT ?"
        )
        with self._opened() as client:
            found = client.execute(sql, (since, *behind, most)).fetchall()
        return [dict(zip(COLUMNS, row, strict=True)) for row in found]


class GraphqlSource(ApiSource):
    """Connections of pages."""

    protocol = "graphql"

    def __init__(self, folder: Path, server: HTTPServer) -> None:
        super().__init__(folder, server)
        server.expect_request("/graphql").respond_with_handler(self._answer)

    def connection(self) -> dict[str, object]:
        resources = {
            table: {
                "query": _QUERY.replace("TABLE", table).replace("COLUMNS", " ".join(COLUMNS)),
                "records": f"{table}.nodes",
                "incremental": {"variable": "since", "format": "plain", "order": "ascending"},
                **_key(table),
            }
            for table in STREAMS
        }
        return {"endpoint": self.server.url_for("/graphql"), "resources": resources}

    def _answer(self, request: Request) -> Response:
        asked = json.loads(request.data)
        table = re.search(r"(\w+)\(after", asked["query"])
        assert table is not None
        given = asked["variables"]
        last, number = map(int, str(given.get("after") or "-1.0").split("."))
        rows = self._from(table[1], int(given.get("since") or 0), (last, number), _PAGE + 1)
        page, more = rows[:_PAGE], rows[_PAGE:]
        end = f"{page[-1]['changed_at']}.{page[-1]['id']}" if page else None
        info = {"hasNextPage": bool(more), "endCursor": end}
        answer = {"data": {table[1]: {"nodes": page, "pageInfo": info}}}
        return Response(json.dumps(answer), content_type="application/json")


class SoapSource(ApiSource):
    """One result of all that is asked for."""

    protocol = "soap"

    def __init__(self, folder: Path, server: HTTPServer) -> None:
        super().__init__(folder, server)
        described = _WSDL.replace("ADDRESS", server.url_for("/soap"))
        server.expect_request("/shop.wsdl").respond_with_data(described, content_type="text/xml")
        server.expect_request("/soap").respond_with_handler(self._answer)

    def connection(self) -> dict[str, object]:
        resources = {
            table: {
                "operation": "List",
                "arguments": {"table": table},
                "incremental": {"argument": "since", "format": "plain", "order": "ascending"},
                **_key(table),
            }
            for table in STREAMS
        }
        return {"wsdl": self.server.url_for("/shop.wsdl"), "resources": resources}

    def _answer(self, request: Request) -> Response:
        asked = dict(re.findall(r"<\w+:(table|since)>(\w+)<", request.get_data(as_text=True)))
        rows = "".join(
            "<row>"
            + "".join(
                f"<{name}>{escape(str(row[name]))}</{name}>" for name in COLUMNS if row[name] is not None
            )
            + "</row>"
            for row in self._from(asked["table"], int(asked.get("since", 0)), (-1, 0), 2**31)
        )
        body = f'<ListResponse xmlns="urn:shop">{rows}</ListResponse>'
        text = f'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{body}</e:Body></e:Envelope>'
        return Response(text, content_type="text/xml; charset=utf-8")


def _key(table: str) -> dict[str, object]:
    return {"primary_key": "id"} if table == "merged" else {}


_WSDL = f"""<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:s="urn:shop" xmlns:x="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:shop" name="Shop">
  <types><x:schema targetNamespace="urn:shop" elementFormDefault="qualified">
    <x:element name="List"><x:complexType><x:sequence>
      <x:element name="table" type="x:string"/><x:element name="since" type="x:long" minOccurs="0"/>
    </x:sequence></x:complexType></x:element>
    <x:complexType name="Row"><x:sequence>
      {"".join(f'<x:element name="{name}" type="x:{kind}" minOccurs="0"/>' for name, kind in _KINDS.items())}
    </x:sequence></x:complexType>
    <x:element name="ListResponse"><x:complexType><x:sequence>
      <x:element name="row" type="s:Row" minOccurs="0" maxOccurs="unbounded"/>
    </x:sequence></x:complexType></x:element>
  </x:schema></types>
  <message name="In"><part name="parameters" element="s:List"/></message>
  <message name="Out"><part name="parameters" element="s:ListResponse"/></message>
  <portType name="ShopPort"><operation name="List">
    <input message="s:In"/><output message="s:Out"/></operation></portType>
  <binding name="ShopBinding" type="s:ShopPort">
    <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="List"><soap:operation soapAction="urn:shop#List"/>
      <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <service name="Shop"><port name="ShopPort" binding="s:ShopBinding">
    <soap:address location="ADDRESS"/></port></service>
</definitions>"""
