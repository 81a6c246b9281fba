"""A SOAP service of RPC style, whose messages are encoded (SOAP 1.1, section 5): arrays and references."""

from __future__ import annotations

import json

import pytest
from pytest_httpserver import HTTPServer

from atlas_etl.connectors.http._soap.encoding import ENCODING
from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, read
from tests.unit.connectors.test_soap import ORDERS, WSDL, connector, envelope, serve

_SCHEMA = f"""<types><x:schema targetNamespace="urn:shop" xmlns:enc="{ENCODING}">
    <x:import namespace="{ENCODING}"/>
    <x:complexType name="Order"><x:all>
      <x:element name="id" type="x:long"/><x:element name="note" type="x:string" minOccurs="0"/>
      <x:element name="owner" type="s:Owner" minOccurs="0"/>
    </x:all></x:complexType>
    <x:complexType name="Owner"><x:all><x:element name="name" type="x:string"/></x:all></x:complexType>
    <x:complexType name="Orders"><x:complexContent><x:restriction base="enc:Array">
      <x:attribute ref="enc:arrayType" w:arrayType="s:Order[]" xmlns:w="http://schemas.xmlsoap.org/wsdl/"/>
    </x:restriction></x:complexContent></x:complexType>
  </x:schema></types>"""
_SHOP = (
    WSDL.partition("<types>")[0]
    + _SCHEMA
    + WSDL.partition("</types>")[2]
    .replace('name="parameters" element="s:ListOrders"', 'name="since" type="x:string"')
    .replace('name="parameters" element="s:ListOrdersResponse"', 'name="return" type="s:Orders"')
    .replace('style="document"', 'style="rpc"')
    .replace('use="literal"', f'use="encoded" namespace="urn:shop" encodingStyle="{ENCODING}"')
)
_FIRST, _SECOND = "<id>1</id><note>a</note>", "<id>2</id><note>b</note>"


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def rows(api: Api, result: str, behind: str = "") -> list[dict[str, object]]:
    spaces = (
        f'xmlns:enc="{ENCODING}" xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:s="urn:shop" '
        'xmlns:x="http://www.w3.org/2001/XMLSchema"'
    )
    behind = behind.replace("<multiRef", f"<multiRef {spaces}")
    body = f"<s:ListOrdersResponse {spaces}>{result}</s:ListOrdersResponse>{behind}"
    serve(api, lambda _: envelope(body), wsdl=_SHOP)
    return read(connector(api, records=None, arguments={"since": ""}), ORDERS).to_pylist()  # type: ignore[no-any-return]


def array(items: str, size: int, kind: str = "enc:Array") -> str:
    return f'<return enc:arrayType="s:Order[{size}]" i:type="{kind}">{items}</return>'


@pytest.mark.parametrize("kind", ["enc:Array", "s:Orders"])
@pytest.mark.parametrize("name", ["item", "s:Order"])
@pytest.mark.parametrize("typed", ["", ' i:type="s:Order"'])
def test_arrays_are_rows_of_the_type_that_they_say(api: Api, kind: str, name: str, typed: str) -> None:
    items = "".join(f"<{name}{typed}>{each}</{name}>" for each in (_FIRST, _SECOND))
    assert rows(api, array(items, 2, kind)) == [{"id": 1, "note": "a"}, {"id": 2, "note": "b"}]


def test_what_is_referred_to_is_in_its_place(api: Api) -> None:
    found = rows(
        api,
        '<return href="#all"/>',
        '<multiRef id="all" enc:arrayType="s:Order[2]" i:type="enc:Array"><item href="#1"/><item href="#2"/>'
        f'</multiRef><multiRef id="1" i:type="s:Order" enc:root="0">{_FIRST}<owner href="#ann"/></multiRef>'
        '<multiRef id="2" i:type="s:Order"><id>2</id><note href="#n"/><owner href="#ann"/></multiRef>'
        '<multiRef id="ann" i:type="s:Owner"><name>Ann</name></multiRef>'
        '<multiRef id="n" i:type="x:string">b</multiRef>',
    )
    assert [(row["id"], row["note"], json.loads(str(row["owner"]))) for row in found] == [
        (1, "a", {"name": "Ann"}),
        (2, "b", {"name": "Ann"}),
    ]


_CIRCLE = f'<multiRef id="1" i:type="s:Order">{_FIRST}<owner href="#1"/></multiRef>'
_ORDER = f'<multiRef id="1" i:type="s:Order">{_FIRST}</multiRef>'
_ONE = array(f"<item>{_FIRST}</item>", 1)
_AGAIN = f'<ListOrdersResponse xmlns:enc="{ENCODING}" xmlns:i="urn:i">{array("", 0)}</ListOrdersResponse>'
_MANY = (
    "".join(
        f'<multiRef id="{at}" i:type="s:Order">{f"""<owner href="#{at + 1}"/>""" * 9}</multiRef>'
        for at in range(1, 30)
    )
    + '<multiRef id="30" i:type="s:Owner"><name>Ann</name></multiRef>'
)


@pytest.mark.parametrize(
    ("result", "behind", "code"),
    [
        (array('<item href="#1"/><item href="#2"/>', 2), _ORDER, "soap_value"),
        (array('<item><id>1</id><note href="#1"/></item>', 1), "", "soap_value"),
        (array('<item href="#1"/>', 1), _CIRCLE, "soap_answer"),
        (array('<item href="#1"/>', 1), _MANY, "soap_answer"),
        (_ONE, _AGAIN, "soap_answer"),
        (_ONE * 2, "", "soap_answer"),
        (_ONE.replace("[1]", "[3]"), "", "soap_answer"),
    ],
    ids=["elsewhere", "text elsewhere", "circle", "bomb", "two results", "two parts", "short array"],
)
def test_what_would_be_lost_or_has_no_end_is_an_error(api: Api, result: str, behind: str, code: str) -> None:
    with pytest.raises(SourceError) as caught:
        rows(api, result, behind)
    assert caught.value.code == code
